"""A half-open breaker has the last word: its permit is asked for after the window, and given back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.build import make_policy
from support.engine import BURST, SLOT, House, fails
from support.fakes import Inbox, turns
from support.overload import RULES, UP, circuit_of, make_controller, opened, see, trying

from sentinel_ext.core.breaker import CircuitState, View
from sentinel_ext.core.decision import Decision, Reason, StoreFault
from sentinel_ext.core.model import FailureMode, Mode, Stage, Tier
from sentinel_ext.core.pipeline import Pipeline
from sentinel_ext.engine import Engine, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.core.controller import Controller, Protected


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
