"""Sentinel's own controller behind the simulator's interface: the very code that serves.

What the store and the shell do around it is done here in a few lines: instances exchange in turn, each with
the report it has; whoever finds the state due computes the next one; without the store each goes on alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.policy import TIERS

from sentinel_ext.core.ended import Outcome
from sentinel_ext.core.fleet import LAW_MS, REPORT_MS, alone
from sentinel_ext.core.hearing import Hearing
from sentinel_ext.core.law import next_shared
from sentinel_ext.core.report import Report, Shared
from sentinel_ext.core.upstream import Upstream, UpstreamOptions

if TYPE_CHECKING:
    from sim.policy import World

_NS = 1_000_000_000
_TIER = {name: number for number, name in enumerate(TIERS)}
_OUTCOME = {"ok": Outcome.OK, "failed": Outcome.FAILED}
EXPIRY_MS = 3_000.0


class Instance:
    """One upstream as one instance sees it."""

    def __init__(self, world: World) -> None:
        options = UpstreamOptions(
            slo_ms=world.slo * 1000, timeout_ms=world.timeout * 1000, flush_ms=world.flush * 1000
        )
        self.options = options
        self.upstream = Upstream("sim", options, 0)
        self._tenants = world.tenants
        self._hearing = Hearing(world.flush * 1000)
        self._counts: list[int] | None = None
        self._entries = 0

    def admit(self, tenant: str, tier: str, now: float) -> bool:
        """Decide; an admitted request is started."""
        self._counts = self.upstream.admit(tenant, _TIER[tier], self._tenants[tenant][1])
        return self._counts is not None

    def start(self, tenant: str, tier: str, now: float) -> tuple[int, int]:
        """The ticket."""
        return self.upstream.flight.generation, _TIER[tier]

    def end(self, token: tuple[int, int], outcome: str, latency: float | None, now: float) -> None:
        """Count what the log says."""
        self._entries += 1
        latency_us = None if latency is None else int(latency * 1e6)
        self.upstream.end(token[0], token[1], _OUTCOME[outcome], latency_us)

    def batch(self, now: float) -> None:
        """The log lives."""
        self._hearing.heard("envoy", self._entries, int(now * _NS))
        self._entries = 0

    def tick(self, now: float) -> None:
        """Move time on."""
        self._hearing.tick(int(now * _NS))
        self.upstream.tick(self._hearing, 0.0, int(now * _NS))


class Sentinel:
    """All instances, and the state they share."""

    name = "sentinel"

    def __init__(self, world: World) -> None:
        self.sidecars = [Instance(world) for _ in range(world.instances)]
        self.period = REPORT_MS / 1000 / world.instances
        self._reports: dict[int, tuple[float, Report]] = {}
        self._shared = Shared()
        self._turn = 0

    def exchange(self, now: float, reachable: bool) -> None:
        """Let the next instance exchange."""
        number = self._turn = (self._turn + 1) % len(self.sidecars)
        instance, now_ms = self.sidecars[number], now * 1000
        upstream = instance.upstream
        report = upstream.publish(int(now * _NS))
        if not reachable:
            if now_ms - upstream.shared.at_ms >= LAW_MS:
                upstream.adopt(alone(upstream, report, instance.options.law, now_ms))
            return
        self._reports[number] = (now_ms, report)
        if now_ms - self._shared.at_ms >= LAW_MS:
            fresh = [report for at, report in self._reports.values() if now_ms - at < EXPIRY_MS]
            self._shared = next_shared(self._shared, fresh, instance.options.law, now_ms)
        upstream.adopt(self._shared)


def make(world: World) -> Sentinel:
    """Build one controller per instance."""
    return Sentinel(world)
