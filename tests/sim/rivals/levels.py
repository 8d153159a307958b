"""Admission by priority level: DAGOR-like and Cinnamon-like.

A level is a tier and a cohort of users in it, 0 is the most important. The simulator has no users: each
request draws its cohort. DAGOR looks at the queueing time of the server, Cinnamon owns a queue; a sidecar has
neither: here the first looks at the latency above its baseline, the second counts what exceeds its limit.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING

from sim.policy import TIERS
from sim.rivals.limits import Vegas
from sim.rivals.sidecar import Counting

if TYPE_CHECKING:
    from sim.policy import Outcome, World

COHORTS = 128
LEVELS = COHORTS * len(TIERS)
FIRST = {tier: rank * COHORTS for rank, tier in enumerate(TIERS)}


class Dagor(Counting):
    """Admits levels below a cursor; a twentieth less while overloaded, a hundredth more otherwise."""

    __slots__ = (
        "_admitted",
        "_arrived",
        "_baseline",
        "_cursor",
        "_ends",
        "_levels",
        "_next",
        "_random",
        "_total",
    )

    WINDOW_S, WINDOW_REQUESTS = 1.0, 2000
    OVERLOADED_S = 0.020
    LESS, MORE = 0.05, 0.01

    def __init__(self, world: World) -> None:
        super().__init__()
        self._random = world.random.random
        self._baseline = math.inf
        self._cursor = LEVELS
        self._next = self.WINDOW_S
        self._clear()

    def _clear(self) -> None:
        self._levels = [0] * LEVELS
        self._arrived = self._admitted = self._ends = 0
        self._total = 0.0

    def admit(self, tenant: str, tier: str, now: float) -> bool:
        if now >= self._next or self._arrived >= self.WINDOW_REQUESTS:
            self._move()
            self._next = now + self.WINDOW_S
        level = FIRST[tier] + int(self._random() * COHORTS)
        self._levels[level] += 1
        self._arrived += 1
        if level >= self._cursor:
            return False
        self._admitted += 1
        return True

    def end(self, token: object, outcome: Outcome, latency: float | None, now: float) -> None:
        self.inflight -= 1
        if latency is not None:
            self._ends += 1
            self._total += latency

    def _move(self) -> None:
        if not self._ends:
            self._clear()
            return
        mean = self._total / self._ends
        self._baseline = min(self._baseline, mean)
        if mean - self._baseline > self.OVERLOADED_S:
            expected = (1 - self.LESS) * self._admitted
        else:
            expected = self._admitted + self.MORE * self._arrived
        self._cursor = bisect_right(list(accumulate(self._levels)), expected)
        self._clear()


class Cinnamon(Vegas):
    """A PI controller on what does not fit the limit; the distribution of recent levels makes it a level."""

    __slots__ = ("_cursor", "_into", "_outof", "_recent", "_step", "_sum")

    PERIOD_S = 0.5
    KP, KI = 0.1, 1.4
    RECENT = 1000
    # Some must pass, or nothing would tell the controller that the overload is over.
    MOST_REJECTED = 0.95
    # What passed the rejector waits in a queue; a sidecar has none, so that many more pass to wait upstream.
    QUEUED = 0.5

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._recent: deque[int] = deque(maxlen=self.RECENT)
        self._cursor = LEVELS
        self._step = self.PERIOD_S
        self._into = self._outof = 0
        self._sum = 0.0

    def admit(self, tenant: str, tier: str, now: float) -> bool:
        level = FIRST[tier] + int(self._random.random() * COHORTS)
        self._recent.append(level)
        if level > self._cursor:
            return False
        self._into += 1
        if self.inflight >= self.limit * (1 + self.QUEUED):
            return False
        self._outof += 1
        return True

    def tick(self, now: float) -> None:
        if now < self._step:
            return
        self._step = now + self.PERIOD_S
        free = max(0.0, self.limit - self.inflight)
        error = (self._into - self._outof - free) / max(1, self._outof)
        # The sum stays where the answer can still move: a long overload must not be remembered after its end.
        self._sum = max(0.0, min(self.MOST_REJECTED / self.KI, self._sum + error * self.PERIOD_S))
        reject = max(0.0, min(self.MOST_REJECTED, self.KP * error + self.KI * self._sum))
        self._into = self._outof = 0
        levels = sorted(self._recent)
        self._cursor = LEVELS if not reject or not levels else levels[int((1 - reject) * (len(levels) - 1))]
