"""Stores of a whole fleet in this process, which a test can take away, slow down or look into."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.report import Report, Shared
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.circuits import MemoryCircuits
from sentinel_ext.store.loads import Exchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sentinel_ext.core.breaker import View
    from sentinel_ext.store.circuits import Operation
    from sentinel_ext.store.loads import End


class FleetCircuits:
    """Breakers of several instances.

    Attributes:
        calls: operations of each call that was done.
        error: raised instead, while it is set.
        gate: calls wait here while it is closed.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._breakers = MemoryCircuits(lambda: now_ns() // 1_000_000)
        self.calls: list[list[Operation]] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def call(self, operations: Sequence[Operation]) -> Sequence[tuple[bool, View]]:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.calls.append(list(operations))
        return await self._breakers.call(operations)


class Fleet:
    """Reports, states and mail of several instances, as load.lua keeps them.

    Attributes:
        reports: upstream -> instance -> its last report.
        exchanged: upstreams, as they were reported.
        error: raised by exchanges while it is set; `commit_error` by commits.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self.reports: dict[str, dict[str, Report]] = {}
        self.states: dict[str, Shared] = {}
        self.mail: dict[tuple[str, str], list[End]] = {}
        self.exchanged: list[str] = []
        self.error: Exception | None = None
        self.commit_error: Exception | None = None

    def of(self, instance: str) -> FleetLoads:
        return FleetLoads(self, instance)

    def now_ms(self) -> float:
        return self._now_ns() / 1_000_000


class FleetLoads:
    """One instance's way to it."""

    def __init__(self, fleet: Fleet, instance: str) -> None:
        self._fleet, self._instance = fleet, instance

    async def exchange(
        self, upstream: str, report: Report, mail: Mapping[str, Sequence[End]], due_ms: float
    ) -> Exchanged:
        fleet = self._fleet
        if fleet.error is not None:
            raise fleet.error
        fleet.exchanged.append(upstream)
        fleet.reports.setdefault(upstream, {})[self._instance] = report
        for who, ends in mail.items():
            fleet.mail.setdefault((upstream, who), []).extend(ends)
        shared = fleet.states.get(upstream, Shared())
        is_due = fleet.now_ms() - shared.at_ms >= due_ms
        reports = tuple(fleet.reports[upstream].values()) if is_due else ()
        ends = tuple(fleet.mail.pop((upstream, self._instance), []))
        return Exchanged(fleet.now_ms(), 0, shared, is_due, reports, ends)

    async def commit(self, upstream: str, version: int, shared: Shared) -> bool:
        if self._fleet.commit_error is not None:
            raise self._fleet.commit_error
        self._fleet.states[upstream] = shared
        return True

    async def leave(self, upstream: str) -> None:
        if self._fleet.error is not None:
            raise self._fleet.error
        self._fleet.reports.get(upstream, {}).pop(self._instance, None)


def away() -> StoreError:
    return StoreError(StoreFault.UNREACHABLE, "scripted")
