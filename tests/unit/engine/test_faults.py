"""Faults of our own cost nobody an answer, a token or a worker of the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.build import make_policy
from support.engine import BURST, SLOT, fails
from support.fakes import Inbox, turns

from sentinel_ext.core.decision import Decision, StoreFault
from sentinel_ext.core.pipeline import Pipeline

if TYPE_CHECKING:
    from support.engine import House


async def test_an_observer_that_fails_costs_nobody_an_answer(house):
    house.engine.observers = (fails, *house.engine.observers, fails)
    inbox = Inbox()
    _, call = await house.asked(inbox)

    call.grant()

    decision = await inbox.next()
    assert decision is not None
    assert decision.allowed
    assert [decision] == [seen for seen, _ in house.seen]
    assert [ZeroDivisionError] * 2 == [type(fault) for fault in house.faults]
    await turns()
    assert (0, BURST - 1, 0) == (len(inbox), house.tokens, house.store.refunds_waiting)


async def test_an_observer_that_fails_costs_no_immediate_answer(build):
    house = await build(limit=None)
    house.engine.observers = (fails,)

    assert isinstance(house.decide(Inbox()), Decision)
    assert 1 == len(house.faults)


class CannotResume(Pipeline):
    """Has a bug where the store's answer is worked in."""

    resume = fails
    resume_without_store = fails


@pytest.fixture
def broken(house) -> House:
    house.engine.pipeline = CannotResume(make_policy())
    return house


async def test_a_fault_after_the_grant_delivers_none_and_gives_all_back(broken):
    inbox = Inbox()
    _, call = await broken.asked(inbox)

    call.grant(slot=SLOT)

    assert await inbox.next() is None
    assert SLOT == (await broken.store.next_refund()).slot
    assert (BURST, []) == (broken.tokens, broken.seen)
    assert [ZeroDivisionError] == [type(fault) for fault in broken.faults]


async def test_a_fault_while_a_failure_mode_is_worked_in_delivers_none(broken):
    inbox = Inbox()
    _, call = await broken.asked(inbox)

    call.fail(StoreFault.UNREACHABLE)

    assert await inbox.next() is None
    await turns()
    assert (BURST, 0, 0) == (broken.tokens, len(inbox), broken.store.refunds_waiting)


async def test_after_a_fault_the_next_check_is_served(broken):
    inbox = Inbox()
    _, call = await broken.asked(inbox)
    call.grant()
    assert await inbox.next() is None

    broken.engine.pipeline = Pipeline(make_policy())
    _, call = await broken.asked(inbox)
    call.grant()

    decision = await asyncio.wait_for(inbox.next(), 5)
    assert decision is not None
    assert decision.allowed


async def test_a_delivery_that_fails_stops_neither_its_neighbours_nor_the_store_s_workers(house):
    """Both workers meet it once; the third call would find nobody."""
    for _ in range(2):
        inbox = Inbox()
        house.ticket(fails)
        house.ticket(inbox)
        call = await house.store.next_call()
        call.grant()
        await turns()
        assert 1 == len(inbox), "the neighbour was forgotten"
    house.ticket(inbox := Inbox())
    await turns()
    assert 3 == house.store.asked


@pytest.mark.parametrize("where", ["is_available", "instances"])
async def test_a_fault_before_the_store_is_asked_is_raised_and_gives_the_tokens_back(house, where):
    """The caller of `decide` answers with its error response; nobody else holds the Pending any more."""
    if where == "is_available":
        house.store.is_available = fails
    else:
        house.store.available, house.engine.instances = False, fails

    with pytest.raises(ZeroDivisionError):
        house.decide(Inbox())

    assert BURST == house.tokens
