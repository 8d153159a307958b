"""Instances of a fleet, each with its control, around one store; a test drives them round by round."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from support.fakes import FakeClock, ScriptedStore
from support.overload import HALF_OPEN, OPEN, UP, end_of, make_controller
from support.shared import Fleet, FleetCircuits

from sentinel_ext.control import Control
from sentinel_ext.core.ended import Outcome
from sentinel_ext.core.signals import LocalSignals

if TYPE_CHECKING:
    from sentinel_ext.core.breaker import CircuitState
    from sentinel_ext.core.circuit import Transition
    from sentinel_ext.core.controller import Protected

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
