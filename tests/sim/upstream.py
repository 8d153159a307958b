"""The upstream: workers that serve in order of arrival, and know of no client that gave up.

So the fate of a request is known when it arrives: it starts when the first worker is free, and nothing that
comes later changes that. There is no event for a start or an end.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

from sim.scenario import within

if TYPE_CHECKING:
    from sim.scenario import Change, Scenario


class Upstream:
    """Serves requests given in the order of their arrival."""

    __slots__ = (
        "_capacity",
        "_free",
        "_queue",
        "_refuses",
        "_service_s",
        "_slowdown",
        "_waiting",
        "_who",
        "_workers",
    )

    def __init__(self, scenario: Scenario) -> None:
        self._free = [(0.0, number) for number in range(scenario.workers)]
        self._workers = scenario.workers
        self._service_s = scenario.service_s
        self._capacity = scenario.capacity
        self._slowdown = scenario.slowdown
        self._refuses = scenario.refuses
        self._queue = scenario.queue
        self._waiting: deque[float] = deque()
        self._who = list(scenario.tenant_tiers.items())

    def serve(self, now: float, work: float, tenant: int) -> float | None:
        """Take one request; return when it will be done, None if it is refused.

        Args:
            now: its arrival, never before the one of the last call.
            work: its service time as a multiple of the mean.
            tenant: its number, for slowdowns that meet some tenants only.
        """
        if self._refuses and within(self._refuses, now):
            return None
        if self._queue is not None and not self._has_room(now, self._queue):
            return None
        if self._capacity:
            self._park(now)
        free_at, worker = self._free[0]
        start = free_at if free_at > now else now
        service = work * self._service_s
        if self._slowdown:
            service *= self._slower(start, tenant)
        end = start + service
        heapq.heapreplace(self._free, (end, worker))
        if self._queue is not None and start > now:
            self._waiting.append(start)
        return end

    def _has_room(self, now: float, bound: int) -> bool:
        while self._waiting and self._waiting[0] <= now:
            self._waiting.popleft()
        return len(self._waiting) < bound

    def _park(self, now: float) -> None:
        """Make sure that the first worker is one that serves when it would start."""
        while True:
            free_at, worker = self._free[0]
            start = free_at if free_at > now else now
            until = self._away(worker, start)
            if until is None:
                return
            heapq.heapreplace(self._free, (until, worker))

    def _away(self, worker: int, now: float) -> float | None:
        for change in self._capacity:
            if change.start_s <= now < change.end_s and worker >= change.factor * self._workers:
                return change.end_s
        return None

    def _slower(self, now: float, tenant: int) -> float:
        factor = 1.0
        for change in self._slowdown:
            if change.start_s <= now < change.end_s and self._meets(change, tenant):
                factor *= change.factor
        return factor

    def _meets(self, change: Change, tenant: int) -> bool:
        return not change.who or change.who in self._who[tenant]
