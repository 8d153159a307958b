"""The store does not answer: a check is decided by its plan, once."""

from __future__ import annotations

import pytest
from support.engine import BURST, SLOT
from support.fakes import Inbox, turns

from sentinel_ext.core.decision import Decision, Reason, StoreFault
from sentinel_ext.core.model import FailureMode

MODES = [
    (FailureMode.OPEN, True, Reason.ALLOWED),
    (FailureMode.CLOSED, False, Reason.STORE_UNAVAILABLE),
    (FailureMode.LOCAL, True, Reason.ALLOWED),
]
modes = pytest.mark.parametrize(("mode", "allowed", "reason"), MODES, ids=[mode.value for mode, *_ in MODES])


@modes
async def test_a_store_that_is_away_decides_at_once_by_the_plan(build, mode, allowed, reason):
    house, inbox = await build(on_store_failure=mode), Inbox()
    house.store.available = False

    decision = house.decide(inbox)

    assert isinstance(decision, Decision)
    assert (allowed, reason, mode) == (decision.allowed, decision.reason, decision.fallback)
    assert [decision] == [seen for seen, _ in house.seen]
    assert (BURST - allowed) == house.tokens
    await turns()
    assert (0, 0) == (len(inbox), house.store.asked)


@modes
async def test_a_full_queue_decides_at_once_by_the_plan_and_leaves_the_queue_alone(
    build, mode, allowed, reason
):
    house = await build(max_queued=2, on_store_failure=mode)
    inbox, refused = Inbox(), Inbox()
    house.ticket(inbox)
    house.ticket(inbox)

    decision = house.decide(refused)

    assert isinstance(decision, Decision)
    assert (allowed, reason, mode) == (decision.allowed, decision.reason, decision.fallback)
    call = await house.store.next_call()
    assert [2] == [ask.count for ask in call.asks]
    call.grant()
    assert [True, True] == [(await inbox.next()).allowed for _ in range(2)]
    assert 0 == len(refused)


@modes
@pytest.mark.parametrize("fault", list(StoreFault))
async def test_a_call_that_fails_is_delivered_by_the_plan(build, fault, mode, allowed, reason):
    house, inbox = await build(on_store_failure=mode), Inbox()
    _, call = await house.asked(inbox)

    call.fail(fault)

    decision = await inbox.next()
    assert decision is not None
    assert (allowed, reason, mode) == (decision.allowed, decision.reason, decision.fallback)
    await turns()
    assert (0, 0) == (len(inbox), house.store.refunds_waiting)
    assert (BURST - allowed) == house.tokens


async def test_alone_an_instance_admits_its_share_of_the_limit(build):
    house = await build(limit=10, on_store_failure=FailureMode.LOCAL)
    house.engine.instances = lambda: 4
    house.store.available = False

    decisions = [house.decide(Inbox()) for _ in range(5)]

    assert [True, True, False, False, False] == [decision.allowed for decision in decisions]
    assert {2} == {decision.limit for decision in decisions}
    assert BURST - 2 == house.tokens


@modes
async def test_a_reply_after_the_deadline_is_not_delivered_and_unused_hits_go_back(
    build, mode, allowed, reason
):
    house, inbox = await build(timeout_s=0.0, on_store_failure=mode), Inbox()
    _, call = await house.asked(inbox)
    decision = await inbox.next()  # the deadline passed
    assert decision is not None
    assert (allowed, reason) == (decision.allowed, decision.reason)

    call.grant(slot=SLOT)
    await turns()

    assert (0, 1) == (len(inbox), len(house.seen))
    assert (0 if allowed else 1) == house.store.refunds_waiting


async def test_closing_delivers_what_still_waits_by_the_plan(house):
    inbox = Inbox()
    house.ticket(inbox)

    await house.engine.batcher.close()

    decision = await inbox.next()
    assert decision is not None
    assert FailureMode.LOCAL is decision.fallback
