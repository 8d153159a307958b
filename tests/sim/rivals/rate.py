"""A constant rate, shared evenly: what an operator who knows the capacity to the request would configure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.rivals.sidecar import Counting

if TYPE_CHECKING:
    from sim.policy import World

SHARE = 0.95
BURST_S = 0.1


class StaticRate(Counting):
    """A token bucket per instance; an oracle, for it is told the capacity."""

    __slots__ = ("_burst", "_last", "_rate", "_tokens")

    def __init__(self, world: World) -> None:
        super().__init__()
        self._rate = SHARE * world.oracle / world.instances
        self._burst = max(1.0, self._rate * BURST_S)
        self._tokens = self._burst
        self._last = 0.0

    def admit(self, tenant: str, tier: str, now: float) -> bool:
        self._tokens = min(self._burst, self._tokens + self._rate * (now - self._last))
        self._last = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
