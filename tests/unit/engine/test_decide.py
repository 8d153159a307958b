"""Every check ends once, and what it took goes back if it does not pass."""

from __future__ import annotations

from support.engine import BURST, SLOT
from support.fakes import Inbox, turns

from sentinel_ext.core.decision import Decision, Reason
from sentinel_ext.core.model import Stage

# --- Decided at once ---


async def test_what_needs_no_store_is_decided_at_once_and_not_delivered(build):
    house, inbox = await build(limit=None), Inbox()

    decision = house.decide(inbox)

    assert isinstance(decision, Decision)
    assert (True, Stage.BUCKET) == (decision.allowed, decision.stage)
    assert [(decision, 0)] == house.seen
    await turns()
    assert (0, 0) == (len(inbox), house.store.asked)


async def test_what_a_local_stage_refuses_never_reaches_the_store(house):
    inbox = Inbox()
    for _ in range(BURST):
        house.ticket(inbox)

    decision = house.decide(inbox)

    assert isinstance(decision, Decision)
    assert (False, Reason.LOCAL_RATE_LIMITED) == (decision.allowed, decision.reason)
    call = await house.store.next_call()
    assert [BURST] == [ask.count for ask in call.asks]


# --- Decided by the store ---


async def test_a_ticket_is_delivered_once_when_the_store_answers(house):
    inbox = Inbox()
    _, call = await house.asked(inbox)
    assert (0, []) == (len(inbox), house.seen)

    house.clock.advance(ms=3)
    call.grant(used=41)

    decision = await inbox.next()
    assert decision is not None
    assert (True, Stage.WINDOW, 58) == (decision.allowed, decision.stage, decision.remaining)
    assert [(decision, 3_000_000)] == house.seen
    await turns()
    assert (0, 0) == (len(inbox), house.store.refunds_waiting)
    assert BURST - 1 == house.tokens


async def test_a_denial_of_the_store_gives_the_bucket_back_and_counts_nothing(house):
    inbox = Inbox()
    _, call = await house.asked(inbox)

    call.grant(0, used=100)

    decision = await inbox.next()
    assert decision is not None
    assert (False, Reason.RATE_LIMITED) == (decision.allowed, decision.reason)
    await turns()
    assert (BURST, 0) == (house.tokens, house.store.refunds_waiting)


async def test_the_checks_of_one_turn_ask_together_and_the_first_ones_pass(house):
    inboxes = [Inbox() for _ in range(5)]
    for inbox in inboxes:
        house.ticket(inbox)
    call = await house.store.next_call()

    call.grant(3, used=10)

    decisions = [await inbox.next() for inbox in inboxes]
    assert [True, True, True, False, False] == [decision.allowed for decision in decisions if decision]
    assert 1 == house.store.asked
    assert BURST - 3 == house.tokens


# --- The caller is gone ---


async def test_a_cancelled_check_gives_its_tokens_back_and_is_not_asked(house):
    inbox = Inbox()
    house.ticket(inbox).cancel()

    await turns()

    assert (BURST, 0, 0) == (house.tokens, house.store.asked, len(inbox))
    assert (1, []) == (house.engine.cancelled, house.seen)


async def test_hits_that_the_store_grants_to_a_cancelled_check_go_back_to_their_slot(house):
    inbox = Inbox()
    ticket, call = await house.asked(inbox)

    ticket.cancel()
    assert BURST == house.tokens
    call.grant(slot=SLOT)

    refund = await house.store.next_refund()
    assert (ticket.query.key, ticket.query.sub_us, SLOT, 1) == (
        refund.key,
        refund.sub_us,
        refund.slot,
        refund.hits,
    )
    await turns()
    assert (0, 0) == (len(inbox), house.store.refunds_waiting)
    assert (BURST, []) == (house.tokens, house.seen)


async def test_a_cancelled_check_that_the_store_refuses_has_nothing_to_give_back(house):
    ticket, call = await house.asked(Inbox())

    ticket.cancel()
    call.grant(0, used=100)

    await turns()
    assert (BURST, 0) == (house.tokens, house.store.refunds_waiting)


async def test_who_listens_is_told_of_each_check_that_was_given_up_once(house):
    inbox, told = Inbox(), []
    house.engine.given_up = told.append
    ticket = house.ticket(inbox)
    house.ticket(inbox)
    ticket.cancel()
    ticket.cancel()

    assert [ticket._pending.check] == told


async def test_cancelling_twice_gives_back_once(house):
    others = Inbox()
    house.ticket(others)
    ticket = house.ticket(Inbox())
    assert BURST - 2 == house.tokens

    ticket.cancel()
    ticket.cancel()

    assert (BURST - 1, 1) == (house.tokens, house.engine.cancelled)


async def test_cancelling_after_the_decision_changes_nothing(house):
    inbox = Inbox()
    ticket, call = await house.asked(inbox)
    call.grant()
    await inbox.next()

    ticket.cancel()

    await turns()
    assert (BURST - 1, 0) == (house.tokens, house.engine.cancelled)
    assert 0 == house.store.refunds_waiting


async def test_an_answer_that_cannot_be_sent_any_more_costs_the_tenant_nothing(house):
    inbox = Inbox(reachable=False)
    _, call = await house.asked(inbox)

    call.grant(slot=SLOT)

    assert SLOT == (await house.store.next_refund()).slot
    assert (BURST, 1) == (house.tokens, house.engine.cancelled)


async def test_the_other_checks_of_a_call_pass_while_one_is_cancelled(house):
    inboxes = [Inbox(), Inbox(), Inbox()]
    tickets = [house.ticket(inbox) for inbox in inboxes]
    call = await house.store.next_call()

    tickets[1].cancel()
    call.grant()

    assert [True, True] == [(await inboxes[i].next()).allowed for i in (0, 2)]
    assert 1 == (await house.store.next_refund()).hits
    await turns()
    assert (0, 0) == (len(inboxes[1]), house.store.refunds_waiting)
    assert BURST - 2 == house.tokens
