"""Concurrency limiters: AIMD, Gradient2, Vegas, as published by Netflix, with their default constants.

All update once per window of a second on the mean latency of the window, if it has enough samples, and do not
grow a limit that is not used by half.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sim.rivals.sidecar import Counting

if TYPE_CHECKING:
    from sim.policy import Outcome, World

WINDOW_S = 1.0
MIN_SAMPLES = 10
INITIAL = 20.0


class Limiter(Counting):
    """Admits while fewer than `limit` requests are under way."""

    __slots__ = ("_dropped", "_most", "_next", "_samples", "_total", "limit")

    def __init__(self, world: World) -> None:
        super().__init__()
        self.limit = INITIAL
        self._next = WINDOW_S
        self._clear()

    def _clear(self) -> None:
        self._samples = 0
        self._total = 0.0
        self._dropped = False
        self._most = self.inflight

    def admit(self, tenant: str, tier: str, now: float) -> bool:
        return self.inflight < self.limit

    def start(self, tenant: str, tier: str, now: float) -> object:
        self.inflight += 1
        self._most = max(self._most, self.inflight)
        return None

    def end(self, token: object, outcome: Outcome, latency: float | None, now: float) -> None:
        self.inflight -= 1
        self._dropped |= outcome == "failed"
        if latency is not None:
            self._samples += 1
            self._total += latency

    def batch(self, now: float) -> None:
        if now >= self._next and self._samples >= MIN_SAMPLES:
            self.limit = self.updated(self._total / self._samples, self._most, self._dropped)
            self._next = now + WINDOW_S
            self._clear()

    def updated(self, rtt: float, inflight: int, dropped: bool) -> float:
        """Give the limit of the next window."""
        return self.limit


class Aimd(Limiter):
    """One more per window, a tenth less after a drop."""

    __slots__ = ()

    TIMEOUT_S = 5.0
    BACKOFF = 0.9
    MIN, MAX = 20.0, 200.0

    def updated(self, rtt: float, inflight: int, dropped: bool) -> float:
        limit = self.limit
        if dropped or rtt > self.TIMEOUT_S:
            limit *= self.BACKOFF
        elif inflight * 2 >= limit:
            limit += 1
        return min(self.MAX, max(self.MIN, limit))


class Gradient2(Limiter):
    """Follows the ratio of a long average of the latency to the last window's."""

    __slots__ = ("_count", "_long")

    LONG, WARM_UP = 600, 10
    TOLERANCE, SMOOTHING, QUEUE = 1.5, 0.2, 4.0
    DECAY = 0.95  # of the long average, while it is more than twice the short one
    MIN, MAX = 20.0, 200.0

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._long = 0.0
        self._count = 0

    def updated(self, rtt: float, inflight: int, dropped: bool) -> float:
        self._count += 1
        if self._count <= self.WARM_UP:
            self._long += (rtt - self._long) / self._count
        else:
            self._long += (rtt - self._long) * 2 / (self.LONG + 1)
        if self._long > 2 * rtt:
            self._long *= self.DECAY
        if inflight < self.limit / 2:
            return self.limit
        gradient = max(0.5, min(1.0, self.TOLERANCE * self._long / rtt))
        wanted = gradient * self.limit + self.QUEUE
        limit = self.limit * (1 - self.SMOOTHING) + wanted * self.SMOOTHING
        return min(self.MAX, max(self.MIN, limit))


class Gradient2Shares(Gradient2):
    """The same limit, of which the lower tiers may use a part only."""

    __slots__ = ()

    SHARES = {"vital": 1.0, "standard": 0.9, "economy": 0.7}  # noqa: RUF012

    def admit(self, tenant: str, tier: str, now: float) -> bool:
        return self.inflight < self.limit * self.SHARES[tier]


class Vegas(Limiter):
    """Keeps the estimated queue between three and six logarithms of the limit."""

    __slots__ = ("_probe", "_random", "_rtt0", "_since")

    MAX = 1000.0
    PROBE = 30

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._random = world.random
        self._rtt0 = math.inf
        self._since = 0
        self._probe = self._jitter()

    def _jitter(self) -> float:
        return self.PROBE * self._random.uniform(0.5, 1)

    def updated(self, rtt: float, inflight: int, dropped: bool) -> float:
        self._since += 1
        if self._since >= self._probe * self.limit:
            self._since, self._probe, self._rtt0 = 0, self._jitter(), rtt
            return self.limit
        if rtt < self._rtt0:
            self._rtt0 = rtt
            return self.limit
        if inflight * 2 < self.limit and not dropped:
            return self.limit
        return min(self.MAX, max(1.0, self._moved(rtt, dropped)))

    def _moved(self, rtt: float, dropped: bool) -> float:
        step = max(1.0, math.log10(self.limit))
        queue = math.ceil(self.limit * (1 - self._rtt0 / rtt))
        if dropped or queue > 6 * step:
            return self.limit - step
        if queue <= step:
            return self.limit + 6 * step
        return self.limit + step if queue < 3 * step else self.limit
