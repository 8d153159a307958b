"""An open-loop curve from load to the priority that is still admitted: the cubic of Netflix's Zuul, 2020."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.rivals.sidecar import Counting

if TYPE_CHECKING:
    from sim.policy import Outcome, World

THRESHOLD, MOST = 0.35, 1.0
TAU_S = 0.5
PERIOD_S = 0.5
# Priorities of a tier, 1 is the most important; each request draws its own, as users differ.
PRIORITIES = {"vital": (1, 20), "standard": (21, 50), "economy": (51, 100)}
# A fifth of failures is all the load there is, as a mean latency of the SLO is.
FAILED_FULL = 0.2


class Cubic(Counting):
    """Sheds priorities above 100 * (1 - x^3), x the load above the threshold."""

    __slots__ = ("_ends", "_failed", "_load", "_next", "_random", "_slo", "_theta", "_total")

    def __init__(self, world: World) -> None:
        super().__init__()
        self._random = world.random
        self._slo = world.slo
        self._load = 0.0
        self._theta = 100.0
        self._next = PERIOD_S
        self._clear()

    def _clear(self) -> None:
        self._ends = self._failed = 0
        self._total = 0.0

    def admit(self, tenant: str, tier: str, now: float) -> bool:
        low, high = PRIORITIES[tier]
        return self._theta >= 100 or low + self._random.random() * (high - low) <= self._theta

    def end(self, token: object, outcome: Outcome, latency: float | None, now: float) -> None:
        self.inflight -= 1
        self._ends += 1
        self._failed += outcome == "failed"
        self._total += latency or 0.0

    def tick(self, now: float) -> None:
        if now < self._next:
            return
        self._next = now + PERIOD_S
        ends = max(1, self._ends)
        load = min(1.0, max(self._total / ends / self._slo, self._failed / ends / FAILED_FULL))
        self._load += (load - self._load) * min(1.0, PERIOD_S / TAU_S)
        x = min(1.0, max(0.0, (self._load - THRESHOLD) / (MOST - THRESHOLD)))
        self._theta = 100 * (1 - x**3)
        self._clear()
