"""The loops beside the request path: reports, a store that comes and goes, permits, an operator's word."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.build import make_policy
from support.fakes import FakeClock, ScriptedStore, turns
from support.overload import RULES, UP, end_of, make_controller, opened
from support.shared import Fleet, FleetCircuits, away
from support.stores import until

from sentinel_ext import control as module
from sentinel_ext.control import MAX_ASKING, QUIET_ROUNDS, Control
from sentinel_ext.core.breaker import LOCAL_EPOCHS, CircuitState, Force
from sentinel_ext.core.ended import Outcome
from sentinel_ext.core.fleet import LAW_MS
from sentinel_ext.core.policy import UpstreamRules
from sentinel_ext.core.report import Shared
from sentinel_ext.core.signals import LocalSignals
from sentinel_ext.store.circuits import MAX_OPERATIONS, Release, Result
from sentinel_ext.store.circuits import Report as Counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sentinel_ext.core.circuit import Transition
    from sentinel_ext.core.controller import Protected

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
STANDARD = 1


class Host:
    """A machine whose signals the test sets; `broken` ones raise."""

    def __init__(self) -> None:
        self.signals = LocalSignals()
        self.broken: list[Exception] = []
        self.lags: list[int] = []

    def loop_ran_late(self, lag_ns: int, now_ns: int) -> None:
        self.lags.append(lag_ns)

    def sample(self, now_ns: int) -> LocalSignals:
        if self.broken:
            raise self.broken.pop()
        return self.signals


class Instance:
    """One instance of a fleet, and what its control told."""

    def __init__(self, fleet: House, name: str, policy=None, timeout_s: float = 30.0) -> None:
        self.clock, self.store, self.host = fleet.clock, ScriptedStore(), Host()
        self.controller = make_controller(policy, name)
        stores = fleet.circuits, fleet.loads.of(name)
        self.control = Control(self.controller, self.store, stores, self.host, self.clock, timeout_s)
        self.control._loop = asyncio.get_running_loop()
        self.changes: list[tuple[str, CircuitState, bool]] = []
        self.faults: list[Exception] = []
        self.control.transitions = self._changed
        self.control.failed = self.faults.append

    def _changed(self, protected: Protected, transition: Transition) -> None:
        self.changes.append((protected.name, transition.after, transition.is_local))

    @property
    def up(self) -> Protected:
        return self.controller.upstream(UP)

    def sees_up(self) -> None:
        """It decides for this upstream, too."""
        assert UP == self.up.name

    @property
    def circuit(self):
        assert self.up.circuit is not None
        return self.up.circuit

    def start(self, count: int = 1) -> str:
        for _ in range(count):
            assert self.up.load.admit("acme", STANDARD) is not None
        return self.up.ticket

    def end(self, ticket: str, count: int = 1, outcome: Outcome = Outcome.FAILED) -> None:
        for _ in range(count):
            self.controller.ended(end_of(ticket, outcome), self.clock())

    async def report(self, *, circuits: bool = True, loads: bool = True) -> None:
        """One round, without the wait."""
        if circuits:
            await self.control._report_circuits()
        if loads:
            await self.control._report_loads()

    async def trip(self) -> None:
        self.end(self.start(5), 5)
        await self.report()
        assert OPEN is self.circuit.state

    async def half_open(self) -> None:
        await self.trip()
        self.clock.advance(ms=self.circuit.refusal_ms(self.clock()))
        await self.report()
        assert HALF_OPEN is self.circuit.state

    async def ask(self, permit: str, *, vital: bool = True) -> bool:
        """Try to get a permit as the engine does."""
        assert self.circuit.wants_permit(vital, self.clock())
        settled: asyncio.Queue[bool] = asyncio.Queue()
        self.control.acquire(self.up, permit, settled.put_nowait)
        assert 0 == settled.qsize(), "not before acquire has returned"
        return await settled.get()


class House:
    """A fleet around one store."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.circuits, self.loads = FleetCircuits(self.clock), Fleet(self.clock)
        self._made: list[Instance] = []

    def instance(self, name: str = "i1", *args, **options) -> Instance:
        self._made.append(Instance(self, name, *args, **options))
        return self._made[-1]

    async def close(self) -> None:
        self.circuits.gate.set()
        for instance in self._made:
            await instance.control.close()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.close()


@pytest.fixture
async def one(house) -> Instance:
    return house.instance()


# --- Loads ---


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


# --- Breakers ---


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


# --- Permits ---


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


# --- The loops themselves ---


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_S", 0.002)
    monkeypatch.setattr(module, "REPORT_S", 0.004)


@pytest.mark.usefixtures("_quick")
async def test_the_loops_tick_and_report(house, one):
    one.host.signals = LocalSignals(loop_lag_ms=1_000.0)
    one.control.streams = lambda: 3
    one.start()

    await one.control.start()
    await until(lambda: len(house.loads.exchanged) > 2 and len(one.host.lags) > 2)

    assert (3, 100) == (one.controller.hearing.streams, pytest.approx(one.controller.local))
    assert min(one.host.lags) >= 0


@pytest.mark.usefixtures("_quick")
async def test_a_tick_tells_what_time_did_to_breakers(house, one):
    one.circuit.adopt(opened(1_000), one.clock())
    await one.control.start()
    house.circuits.error = away()
    one.clock.advance(ms=1_000)

    await until(lambda: (UP, HALF_OPEN, False) in one.changes)


@pytest.mark.usefixtures("_quick")
async def test_a_fault_of_our_own_ends_no_loop(house, one):
    one.host.broken = [ZeroDivisionError("tick")]
    house.circuits.error = ZeroDivisionError("report")
    one.start()
    await one.control.start()
    await until(lambda: len(one.faults) > 1)

    house.circuits.error = None
    seen = len(house.loads.exchanged)
    await until(lambda: len(house.loads.exchanged) > seen)

    assert {ZeroDivisionError} == {type(fault) for fault in one.faults}
    assert one.host.lags


async def test_what_would_trip_the_breaker_is_reported_at_once(house, one, monkeypatch):
    monkeypatch.setattr(module, "REPORT_S", 600.0)
    one.sees_up()
    await one.control.start()
    await one.report(loads=False)
    one.clock.advance(ms=100)
    one.control.look(one.up)
    await turns()
    assert 1 == len(house.circuits.calls), "nothing urgent"

    one.end(one.start(5), 5)
    one.control.look(one.up)
    await until(lambda: OPEN is one.circuit.state)

    assert [] == house.loads.exchanged


async def test_urgent_reports_do_not_hold_those_of_the_loads_back(house, one, monkeypatch):
    """A breaker forced closed before a dead upstream has something urgent to say all the time."""
    monkeypatch.setattr(module, "REPORT_S", 0.1)
    one.start()
    await one.control.start()

    async def never_rests() -> None:
        while True:
            one.control._urgent.set()
            await asyncio.sleep(0)

    storm = asyncio.create_task(never_rests())
    await until(lambda: len(house.loads.exchanged) > 1, 5.0)
    storm.cancel()

    assert len(house.circuits.calls) > len(house.loads.exchanged)


def test_looking_at_an_upstream_without_a_breaker_is_nothing():
    controller = make_controller(make_policy(default_upstream=UpstreamRules(breaker=None)))
    control = Control(controller, ScriptedStore(), (None, None), Host(), FakeClock(), 1.0)

    control.look(controller.upstream(UP))

    assert not control._urgent.is_set()


# --- The end ---


async def test_closing_takes_reports_away_and_tells_what_nobody_else_has_heard(house, one):
    one.start()
    await one.control.start()
    await one.report()
    one.end("i2.5.0")

    await one.control.close()

    assert ({UP: {}}, [(5, STANDARD, 1)]) == (house.loads.reports, house.loads.mail[UP, "i2"])


async def test_closing_tells_how_the_last_probe_ended(house, one):
    await one.half_open()
    await one.control.start()
    assert await one.ask("p1")
    one.end(f"{one.start()}.p1", 1, Outcome.OK)

    await one.control.close()

    assert any(isinstance(call[0], Result) and call[0].ok for call in house.circuits.calls)


async def test_a_fault_of_our_own_while_closing_keeps_no_report_here(house, one):
    one.start()
    await one.control.start()
    await one.report()
    house.circuits.error = ZeroDivisionError("a bug of ours")

    await one.control.close()

    assert ({UP: {}}, 1) == (house.loads.reports, len(one.faults))


async def test_closing_without_a_store_ends_all_the_same(house, one):
    one.end("i2.5.0")
    one.controller.upstream("users")
    await one.control.start()
    house.loads.error, one.store.available = away(), False

    await one.control.close()

    assert [] == one.faults


async def test_closing_ends_those_who_still_ask_for_a_permit(house, one):
    await one.half_open()
    await one.control.start()
    house.circuits.gate.clear()
    answers: list[bool] = []
    one.control.acquire(one.up, "p1", answers.append)
    await turns()

    closing = asyncio.create_task(one.control.close())
    await turns()

    assert [False] == answers
    house.circuits.gate.set()
    await closing
