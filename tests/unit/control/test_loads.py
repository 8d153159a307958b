"""What instances report of their load and what they follow, with a store that comes and goes."""

from __future__ import annotations

import pytest
from support.control import STANDARD
from support.overload import UP
from support.shared import away

from sentinel_ext.control import QUIET_ROUNDS
from sentinel_ext.core.ended import Outcome
from sentinel_ext.core.fleet import LAW_MS
from sentinel_ext.core.report import Shared


async def test_a_report_is_left_and_the_state_made_from_it_is_shared_and_followed(house, one):
    one.controller.heard("envoy", 5, one.clock())
    one.end(one.start(40), 10, Outcome.OK)
    one.clock.advance(ms=200)

    await one.report()

    assert (40, 10) == (house.loads.reports[UP]["i1"].admitted, house.loads.reports[UP]["i1"].ok)
    assert house.loads.states[UP] is one.up.load.shared
    assert (house.loads.now_ms(), 1) == (one.up.load.shared.at_ms, one.up.load.shared.instances)


async def test_who_has_not_the_turn_follows_what_another_made(house, one):
    one.start()
    await one.report()
    other = house.instance("i2")
    other.start()
    one.clock.advance(ms=200)

    await other.report()

    assert other.up.load.shared == one.up.load.shared
    assert {"i1", "i2"} == set(house.loads.reports[UP])
    one.clock.advance(ms=200)
    await other.report()
    assert (2, house.loads.now_ms()) == (other.up.load.shared.instances, other.up.load.shared.at_ms)


async def test_an_end_that_another_instance_hears_is_told_to_the_one_that_decided(house, one):
    other = house.instance("i2")
    other.sees_up()
    ticket = one.start(3)

    other.end(ticket, 2, Outcome.OK)
    await other.report()
    await one.report()

    assert (1, {}) == (one.up.load.flight.total, house.loads.mail)
    assert one.controller.hearing.was_ever


async def test_a_quiet_upstream_is_reported_now_and_then(house, one):
    one.sees_up()
    for _ in range(2 * QUIET_ROUNDS):
        await one.report()
    assert 2 == len(house.loads.exchanged)

    one.start()
    for _ in range(QUIET_ROUNDS):
        await one.report()
    assert 2 + QUIET_ROUNDS == len(house.loads.exchanged)


async def test_ends_for_others_make_an_upstream_worth_a_report(house, one):
    one.end("i2.5.0")

    await one.report()

    assert [(5, STANDARD, 1)] == house.loads.mail[UP, "i2"]


async def test_a_state_that_cannot_be_committed_is_followed_all_the_same(house, one):
    house.loads.commit_error = away()
    one.start()

    await one.report()

    assert (1, {}, []) == (one.up.load.shared.instances, house.loads.states, one.faults)


@pytest.mark.parametrize("how", ["known to be away", "fails"])
async def test_without_the_store_an_instance_goes_on_by_its_own_counters(house, one, how):
    house.loads.states[UP] = Shared(at_ms=house.loads.now_ms(), instances=4)
    one.start()
    await one.report()
    one.store.available = how == "fails"
    house.loads.error = away()

    one.clock.advance(ms=round(LAW_MS))
    one.start(10)
    await one.report(circuits=False)

    shared = one.up.load.shared
    assert (4, house.loads.now_ms()) == (shared.instances, shared.at_ms)
    assert shared.offered > 0
    assert (how == "fails") == one.control.faults
    one.clock.advance(ms=round(LAW_MS) - 1)
    await one.report(circuits=False)
    assert shared is one.up.load.shared, "the law has its own pace"

    house.loads.error, one.store.available = None, True
    await one.report(circuits=False)
    assert house.loads.states[UP] is one.up.load.shared


async def test_ends_for_others_wait_while_the_store_is_known_to_be_away(house, one):
    one.end("i2.5.0")
    one.store.available = False
    await one.report()
    assert {} == house.loads.mail

    one.store.available = True
    await one.report()

    assert [(5, STANDARD, 1)] == house.loads.mail[UP, "i2"]


async def test_ends_that_were_under_way_when_the_store_failed_are_not_told_twice(house, one):
    one.end("i2.5.0")
    house.loads.error = away()
    await one.report()
    house.loads.error = None
    one.start()

    await one.report()

    assert {} == house.loads.mail
