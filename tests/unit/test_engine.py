"""The one asynchronous path: every check ends once, and what it took goes back if it does not pass."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Never

import pytest
from support.build import make_engine, make_plan, make_policy
from support.fakes import FakeCaller, FakeClock, Inbox, ScriptedStore, turns
from support.overload import RULES, UP, circuit_of, make_controller, opened, see, trying

from sentinel_ext.core.breaker import CircuitState, View
from sentinel_ext.core.decision import Decision, Reason, StoreFault
from sentinel_ext.core.model import FailureMode, Mode, Stage, Tier
from sentinel_ext.core.pipeline import Pipeline
from sentinel_ext.engine import Engine, Waiting
from sentinel_ext.store.batcher import Batcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from support.fakes import HeldCall

    from sentinel_ext.core.controller import Controller, Protected
    from sentinel_ext.core.tenant import Tenant

BURST = 20
SLOT = 7
MODES = [
    (FailureMode.OPEN, True, Reason.ALLOWED),
    (FailureMode.CLOSED, False, Reason.STORE_UNAVAILABLE),
    (FailureMode.LOCAL, True, Reason.ALLOWED),
]
modes = pytest.mark.parametrize(("mode", "allowed", "reason"), MODES, ids=[mode.value for mode, *_ in MODES])


class House:
    """An engine around a scripted store, and what its observers were told."""

    def __init__(self, engine: Engine, store: ScriptedStore, clock: FakeClock) -> None:
        self.engine, self.store, self.clock = engine, store, clock
        self.seen: list[tuple[Decision, int]] = []
        self.faults: list[Exception] = []
        engine.observers = (lambda decision, elapsed_ns: self.seen.append((decision, elapsed_ns)),)
        engine.failed = self.faults.append

    def decide(
        self, inbox: Inbox | Callable[[Decision | None], bool], name: str = "acme"
    ) -> Decision | Waiting:
        return self.engine.decide(FakeCaller({"x-tenant-id": name}), inbox)

    def ticket(self, inbox: Inbox | Callable[[Decision | None], bool], name: str = "acme") -> Waiting:
        ticket = self.decide(inbox, name)
        assert isinstance(ticket, Waiting)
        return ticket

    async def asked(self, inbox: Inbox) -> tuple[Waiting, HeldCall]:
        """Bring a check as far as the store."""
        ticket = self.ticket(inbox)
        return ticket, await self.store.next_call()

    @property
    def tenant(self) -> Tenant:
        return self.engine._tenants.get("acme", self.clock())

    @property
    def tokens(self) -> int:
        assert self.tenant.bucket is not None
        return self.tenant.bucket.tokens


@pytest.fixture
async def build() -> AsyncIterator[Callable[..., House]]:
    """Make houses; their workers end with the test."""
    batchers: list[Batcher] = []

    async def make(timeout_s: float = 30.0, max_queued: int = 1_000, **plan) -> House:
        store, clock = ScriptedStore(), FakeClock()
        engine = make_engine(store, clock, make_policy(make_plan(burst=BURST, **plan)))
        engine.batcher = Batcher(store, timeout_s, max_queued=max_queued)
        await engine.batcher.start()
        batchers.append(engine.batcher)
        return House(engine, store, clock)

    yield make
    for batcher in batchers:
        await batcher.close()


@pytest.fixture
async def house(build) -> House:
    return await build()


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


# --- The store does not answer ---


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


# --- Faults of our own ---


def fails(*_: object) -> Never:
    raise ZeroDivisionError("a bug of ours")


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


# --- A half-open breaker has the last word ---


class Permits:
    """Asks nobody: the test answers, and sees what comes back."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.released: list[tuple[str, str]] = []
        self._settled: list[Callable[[bool], None]] = []

    def acquire(self, protected: Protected, permit: str, settled: Callable[[bool], None]) -> None:
        self.asked.append((protected.name, permit))
        self._settled.append(settled)

    def release(self, protected: Protected, permit: str) -> None:
        self.released.append((protected.name, permit))

    def answer(self, granted: bool) -> None:
        self._settled.pop(0)(granted)


class Trial(House):
    """A house whose upstream is tried again; its tenants are vital, so they try first."""

    def __init__(self, house: House, controller: Controller) -> None:
        super().__init__(house.engine, house.store, house.clock)
        self.controller = controller
        self.permits = Permits()
        self.engine.permits = self.permits

    @property
    def in_flight(self) -> int:
        return self.controller.upstream(UP).load.flight.total

    @property
    def held(self) -> tuple[int, int, int]:
        """Tokens taken, in flight, hits on their way back."""
        return BURST - self.tokens, self.in_flight, self.store.refunds_waiting

    async def asking(self, inbox: Inbox) -> Waiting:
        """Bring a check through the window, as far as its permit."""
        waiting, call = await self.asked(inbox)
        call.grant(slot=SLOT)
        await turns()
        assert 1 == len(self.permits.asked)
        assert 0 == len(inbox)
        return waiting


@pytest.fixture
async def trial(build) -> Callable[..., Trial]:
    async def make(view: View | None = None, breaker: Mode = Mode.ENFORCE, **options) -> Trial:
        house = await build(tier=Tier.VITAL, **options)
        policy = make_policy(default_upstream=RULES, breaker=breaker)
        controller = make_controller(policy)
        see(controller, view or trying(), now_ns=house.clock())
        house.engine.pipeline = Pipeline(policy, controller)
        return Trial(house, controller)

    return make


async def test_a_granted_permit_lets_it_pass_under_its_decision_id(trial):
    house, inbox = await trial(), Inbox()
    waiting = await house.asking(inbox)
    house.clock.advance(ms=4)

    house.permits.answer(True)

    decision = await inbox.next()
    assert decision is not None
    assert (True, Stage.BREAKER) == (decision.allowed, decision.stage)
    permit = decision.check.decision_id
    assert ([(UP, permit)], permit) == (house.permits.asked, decision.ticket.split(".")[3])
    assert [(decision, 4_000_000)] == house.seen
    await turns()
    assert ((1, 1, 0), []) == (house.held, house.permits.released)
    waiting.cancel()
    assert ((1, 1, 0), 0) == (house.held, house.engine.cancelled)


async def test_a_refused_permit_gives_bucket_window_and_flight_back(trial):
    house, inbox = await trial(), Inbox()
    await house.asking(inbox)

    house.permits.answer(False)

    decision = await inbox.next()
    assert decision is not None
    assert (False, Reason.CIRCUIT_OPEN) == (decision.allowed, decision.reason)
    refund = await house.store.next_refund()
    assert (SLOT, 1) == (refund.slot, refund.hits)
    await turns()
    assert ((0, 0, 0), []) == (house.held, house.permits.released)


async def test_an_open_breaker_is_not_asked(trial):
    house = await trial(opened())

    decision = house.decide(Inbox())

    assert isinstance(decision, Decision)
    assert (False, Reason.CIRCUIT_OPEN, 0) == (decision.allowed, decision.reason, house.store.asked)
    assert ((0, 0, 0), []) == (house.held, house.permits.asked)


async def test_what_the_window_refuses_asks_for_no_permit(trial):
    house, inbox = await trial(), Inbox()
    _, call = await house.asked(inbox)

    call.grant(0, used=100)

    assert Reason.RATE_LIMITED is (await inbox.next()).reason
    assert ((0, 0, 0), []) == (house.held, house.permits.asked)


async def test_without_a_window_the_permit_is_asked_at_once(trial):
    house, inbox = await trial(limit=None), Inbox()

    waiting = house.decide(inbox)

    assert isinstance(waiting, Waiting)
    assert (0, 1) == (house.store.asked, len(house.permits.asked))
    house.permits.answer(True)
    assert (await inbox.next()).allowed
    assert (1, 1, 0) == house.held


@pytest.mark.parametrize("granted", [True, False])
async def test_who_leaves_while_the_permit_is_asked_for_gives_all_back_and_the_permit_too(trial, granted):
    house, inbox = await trial(), Inbox()
    waiting = await house.asking(inbox)

    waiting.cancel()
    waiting.cancel()
    assert ((0, 0, 0), 1) == (house.held, house.engine.cancelled)
    house.permits.answer(granted)

    assert SLOT == (await house.store.next_refund()).slot
    assert [(UP, waiting._pending.check.decision_id)] * granted == house.permits.released
    await turns()
    assert ((0, 0, 0), 0, []) == (house.held, len(inbox), house.seen)


async def test_an_answer_that_cannot_be_sent_gives_the_permit_back(trial):
    house, inbox = await trial(), Inbox(reachable=False)
    await house.asking(inbox)

    house.permits.answer(True)

    decision = await inbox.next()
    assert SLOT == (await house.store.next_refund()).slot
    assert [(UP, decision.check.decision_id)] == house.permits.released
    assert ((0, 0, 0), 1) == (house.held, house.engine.cancelled)


async def test_a_delivery_that_fails_gives_the_permit_back(trial):
    house = await trial()
    house.ticket(fails)
    (await house.store.next_call()).grant(slot=SLOT)
    await turns()

    house.permits.answer(True)

    assert SLOT == (await house.store.next_refund()).slot
    assert (1, (0, 0, 0)) == (len(house.permits.released), house.held)
    assert [ZeroDivisionError] * 2 == [type(fault) for fault in house.faults]


@pytest.mark.parametrize("fault", [StoreFault.TIMEOUT, StoreFault.UNREACHABLE])
@pytest.mark.parametrize("granted", [True, False])
async def test_a_window_that_does_not_answer_leaves_it_to_the_permit(trial, fault, granted):
    house, inbox = await trial(on_store_failure=FailureMode.OPEN), Inbox()
    _, call = await house.asked(inbox)
    call.fail(fault)
    await turns()

    house.permits.answer(granted)

    decision = await inbox.next()
    assert (granted, FailureMode.OPEN if granted else None) == (decision.allowed, decision.fallback)
    await turns()
    assert (granted, granted, 0) == house.held


@pytest.mark.parametrize(("mode", "asked"), [(FailureMode.OPEN, 1), (FailureMode.CLOSED, 0)])
async def test_with_the_store_away_who_may_pass_still_needs_a_permit(trial, mode, asked):
    house, inbox = await trial(on_store_failure=mode), Inbox()
    house.store.available = False

    step = house.decide(inbox)

    assert asked == len(house.permits.asked) == isinstance(step, Waiting)
    if asked:
        house.permits.answer(True)
        assert (await inbox.next()).allowed
    assert (asked, asked, 0) == house.held


@pytest.mark.parametrize("granted", [True, False])
async def test_hits_of_a_late_reply_go_back_only_if_the_permit_is_refused(trial, granted):
    house, inbox = await trial(timeout_s=0.0, on_store_failure=FailureMode.OPEN), Inbox()
    _, call = await house.asked(inbox)
    await turns(30)  # the deadline passes: by its failure mode it may pass, if the breaker lets it
    assert 1 == len(house.permits.asked)
    call.grant(slot=SLOT)
    await turns()
    assert 0 == house.store.refunds_waiting

    house.permits.answer(granted)
    await turns()

    assert granted == (await inbox.next()).allowed
    assert (granted, granted, not granted) == house.held


async def test_a_breaker_that_closes_while_it_is_asked_lets_pass(trial):
    house, inbox = await trial(), Inbox()
    await house.asking(inbox)
    see(house.controller, View(CircuitState.CLOSED, 10))

    house.permits.answer(False)

    assert (await inbox.next()).allowed
    await turns()
    assert (1, 1, 0) == house.held


async def test_in_shadow_a_refused_permit_lets_pass(trial):
    house, inbox = await trial(breaker=Mode.SHADOW), Inbox()
    await house.asking(inbox)

    house.permits.answer(False)

    decision = await inbox.next()
    assert (True, Reason.CIRCUIT_OPEN) == (decision.allowed, decision.shadow[-1].reason)


async def test_checks_that_leave_before_they_ask_make_room_for_others(trial):
    house = await trial()
    for _ in range(10):
        waiting = house.decide(Inbox())
        assert isinstance(waiting, Waiting), "the places of those who left are still taken"
        waiting.cancel()

    assert circuit_of(house.controller).wants_permit(True, house.clock())


async def test_with_nobody_to_ask_nothing_is_granted(trial):
    house, inbox = await trial(), Inbox()
    house.engine.permits = Engine(house.engine.pipeline, None, None, None, house.clock).permits

    _, call = await house.asked(inbox)
    call.grant()

    assert Reason.CIRCUIT_OPEN is (await inbox.next()).reason
    assert 1 == (await house.store.next_refund()).hits
