"""Breakers shared by the instances: what trips them, the store that is lost, an operator's word."""

from __future__ import annotations

import pytest
from support.build import make_policy
from support.overload import CLOSED, OPEN, UP
from support.shared import away

from sentinel_ext.core.breaker import Force
from sentinel_ext.core.ended import Outcome
from sentinel_ext.core.policy import UpstreamRules
from sentinel_ext.core.signals import LocalSignals
from sentinel_ext.store.circuits import MAX_OPERATIONS
from sentinel_ext.store.circuits import Report as Counted


async def test_failures_trip_the_shared_breaker_and_the_other_instance_sees_it(house, one):
    other = house.instance("i2")
    other.sees_up()
    await one.trip()

    await other.report()

    assert ([(UP, OPEN, False)], [(UP, OPEN, False)]) == (one.changes, other.changes)
    assert f"i2.{other.up.load.flight.generation:x}.{one.circuit.epoch:x}" == other.up.ticket


async def test_a_report_that_failed_is_repeated_and_counts_once(house, one):
    one.end(one.start(4), 4)
    house.circuits.error = away()
    await one.report(loads=False)
    assert 1 == one.control.faults
    house.circuits.error = None

    await one.report(loads=False)
    await one.report(loads=False)

    assert (CLOSED, 4) == (one.circuit.state, one.circuit.view.failed)


async def test_many_breakers_are_reported_in_calls_of_a_bounded_size(house, one):
    for number in range(MAX_OPERATIONS + 10):
        one.controller.upstream(f"u{number}")

    await one.report(loads=False)

    assert [MAX_OPERATIONS, 10] == [len(call) for call in house.circuits.calls]
    assert all(isinstance(operation, Counted) for call in house.circuits.calls for operation in call)


async def test_a_lost_store_is_told_and_so_is_its_return(house, one):
    one.sees_up()
    one.store.available = False
    await one.report()
    assert (True, 0) == (one.circuit.is_local, len(house.circuits.calls))
    one.end(one.start(5), 5)
    assert OPEN is one.circuit.state

    one.controller.tick(LocalSignals(), one.clock())
    one.store.available = True
    await one.report()

    assert (False, CLOSED) == (one.circuit.is_local, one.circuit.state)
    assert (UP, CLOSED, False) == one.changes[-1]


async def test_alone_an_instance_trips_at_its_share_of_the_traffic(house, one):
    one.sees_up()
    one.control.instances = lambda: 4
    one.store.available = False
    await one.report()
    ticket = one.start(10)
    for _ in range(5):
        one.end(ticket, 1)
        one.end(ticket, 1, Outcome.OK)

    assert OPEN is one.circuit.state


async def test_an_upstream_without_a_breaker_is_not_reported_as_one(house):
    one = house.instance("i1", make_policy(default_upstream=UpstreamRules(breaker=None)))
    one.start()

    await one.report()

    assert ([], [UP]) == (house.circuits.calls, house.loads.exchanged)


# --- An operator's word ---


@pytest.mark.parametrize(("mode", "state"), [(Force.OPEN, OPEN), (Force.CLOSED, CLOSED)])
async def test_a_breaker_is_forced_for_all_instances(house, one, mode, state):
    other = house.instance("i2")
    other.sees_up()
    one.sees_up()

    await one.control.force(UP, mode)
    await other.report()

    assert [(state, mode)] * 2 == [(each.circuit.state, each.circuit.view.forced) for each in (one, other)]
    await one.control.force(UP, Force.AUTO)
    assert (CLOSED, Force.AUTO) == (one.circuit.state, one.circuit.view.forced)


@pytest.mark.parametrize("name", ["nowhere", "bare"])
async def test_what_has_no_breaker_cannot_be_forced(house, name):
    one = house.instance("i1", make_policy(upstreams={"bare": UpstreamRules(breaker=None)}))
    one.controller.upstream("bare")

    with pytest.raises(KeyError):
        await one.control.force(name, Force.OPEN)
    assert "nowhere" not in one.controller.upstreams
