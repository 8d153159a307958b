"""Permits of a half-open breaker: who gets one, and how what came of it is told."""

from __future__ import annotations

from support.build import make_policy
from support.fakes import turns
from support.overload import CLOSED, RULES, UP
from support.shared import away
from support.stores import until

from sentinel_ext.control import MAX_ASKING
from sentinel_ext.core.breaker import LOCAL_EPOCHS, Force
from sentinel_ext.core.ended import Outcome
from sentinel_ext.core.policy import UpstreamRules
from sentinel_ext.store.circuits import Release, Result


async def test_no_more_permits_are_granted_than_the_breaker_has_and_results_close_it(house, one):
    await one.half_open()

    granted = [await one.ask("p1"), await one.ask("p2")]
    assert ([True, True], False) == (granted, one.circuit.wants_permit(True, one.clock()))
    ticket = one.start(2)
    for permit in ("p1", "p2"):
        one.end(f"{ticket}.{permit}", 1, Outcome.OK)
    await one.report()

    assert (CLOSED, (UP, CLOSED, False)) == (one.circuit.state, one.changes[-1])
    (results,) = [call for call in house.circuits.calls if isinstance(call[0], Result)]
    assert [("p1", True), ("p2", True)] == [(result.permit, result.ok) for result in results]


async def test_permits_are_counted_over_the_fleet(house, one):
    await one.half_open()
    other = house.instance("i2")
    other.sees_up()
    await other.report()
    assert await one.ask("p1")
    assert await one.ask("p2")

    assert not await other.ask("p3")
    assert not other.circuit.wants_permit(True, other.clock()), "it has learned that all are out"


async def test_a_permit_that_was_given_back_can_be_had_again(house, one):
    await one.half_open()
    assert await one.ask("p1")
    assert await one.ask("p2")

    one.control.release(one.up, "p1")
    one.control.release(one.up, "unknown")
    await one.report()

    assert any(isinstance(operation, Release) for call in house.circuits.calls for operation in call)
    assert await one.ask("p3")


async def test_a_store_that_fails_grants_nothing_and_what_it_may_have_granted_is_given_back(house, one):
    await one.half_open()
    house.circuits.error = away()

    assert not await one.ask("p1")

    assert ([], 1) == (one.faults, one.control.faults)
    house.circuits.error = None
    await one.report()
    assert [Release(UP, RULES.breaker, "p1")] in house.circuits.calls


async def test_a_store_that_does_not_answer_in_time_grants_nothing(house):
    one = house.instance(timeout_s=0.0)
    await one.half_open()
    house.circuits.gate.clear()

    assert not await one.ask("p1")
    assert 1 == one.control.faults


async def test_a_fault_of_our_own_grants_nothing_and_is_told(house, one):
    await one.half_open()
    house.circuits.error = ZeroDivisionError("a bug of ours")

    assert not await one.ask("p1")
    assert [ZeroDivisionError] == [type(fault) for fault in one.faults]


async def test_at_the_bound_one_more_is_refused_without_asking(house, one):
    await one.half_open()
    calls = len(house.circuits.calls)
    house.circuits.gate.clear()
    answers: list[bool] = []
    for number in range(MAX_ASKING + 3):
        one.control.acquire(one.up, f"p{number}", answers.append)
    await turns()

    assert ([False] * 3, MAX_ASKING) == (answers, len(one.control._asking))
    house.circuits.gate.set()
    await until(lambda: len(answers) == MAX_ASKING + 3)
    assert MAX_ASKING == len(house.circuits.calls) - calls
    assert (RULES.breaker.half_open_max, 0) == (sum(answers), len(one.control._asking))


async def test_alone_the_own_breaker_grants_one(house, one):
    await one.half_open()
    one.store.available = False
    await one.report()

    assert await one.ask("p1")

    assert not one.circuit.wants_permit(True, one.clock())
    assert LOCAL_EPOCHS <= one.circuit.epoch or one.circuit.is_local


async def test_without_a_breaker_nothing_is_granted_and_nothing_given_back(house):
    one = house.instance("i1", make_policy(default_upstream=UpstreamRules(breaker=None)))
    answers: list[bool] = []

    one.control.acquire(one.up, "p1", answers.append)
    one.control.release(one.up, "p1")
    await turns()

    assert [False] == answers


async def test_a_breaker_that_closed_meanwhile_grants_nothing_and_says_that_it_is_closed(house, one):
    await one.half_open()
    other = house.instance("i2")
    other.sees_up()
    await other.control.force(UP, Force.CLOSED)

    assert not await one.ask("p1")

    assert one.circuit.is_closed
    assert (UP, CLOSED, False) == one.changes[-1]


async def test_results_that_the_store_did_not_take_are_told_again(house, one):
    await one.half_open()
    assert await one.ask("p1")
    one.end(f"{one.start()}.p1", 1, Outcome.OK)
    house.circuits.error = away()
    await one.report(loads=False)
    house.circuits.error = None

    await one.report(loads=False)

    assert any(isinstance(call[0], Result) and call[0].ok for call in house.circuits.calls)
