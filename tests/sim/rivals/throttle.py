"""Client-side throttling of the SRE book: reject so that what is sent stays near K times what is accepted."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sim.rivals.sidecar import Counting

if TYPE_CHECKING:
    from sim.policy import Outcome, World

K = 2.0
WINDOW_S = 120.0
BUCKET_S = 1.0


class SreThrottle(Counting):
    """Rejects with probability max(0, (requests - K * accepts) / (requests + 1)) over two minutes."""

    __slots__ = ("_accepts", "_buckets", "_random", "_requests")

    def __init__(self, world: World) -> None:
        super().__init__()
        self._random = world.random.random
        self._buckets: deque[list[float]] = deque([[0.0, 0, 0]])  # start, requests, accepts
        self._requests = 0
        self._accepts = 0

    def admit(self, tenant: str, tier: str, now: float) -> bool:
        self._turn(now)
        rejects = (self._requests - K * self._accepts) / (self._requests + 1)
        self._requests += 1
        self._buckets[-1][1] += 1
        return rejects <= 0 or self._random() >= rejects

    def end(self, token: object, outcome: Outcome, latency: float | None, now: float) -> None:
        self.inflight -= 1
        if outcome == "ok":
            self._accepts += 1
            self._buckets[-1][2] += 1

    def _turn(self, now: float) -> None:
        if now - self._buckets[-1][0] < BUCKET_S:
            return
        self._buckets.append([now, 0, 0])
        while self._buckets[0][0] < now - WINDOW_S:
            _, requests, accepts = self._buckets.popleft()
            self._requests -= int(requests)
            self._accepts -= int(accepts)
