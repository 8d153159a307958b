"""What instances tell each other of an upstream: reports in, one shared state out. Values only.

Counters are summed over instances, never scores averaged: noise falls with the square root of their number,
and an instance that sees little traffic has little to say (overload.md §4.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.fill import TIERS, Demand

if TYPE_CHECKING:
    from collections.abc import Sequence

# Tenants that one report lists by name, the busiest; the others are summed up by tier.
MAX_NAMED = 64
# Tenants that one fill tells apart over the whole fleet.
MAX_FILLED = 256

TierCounts = tuple[int, int, int]
NONE: TierCounts = (0, 0, 0)


class Report(msgspec.Struct, frozen=True, array_like=True, tag="1", gc=False):
    """One instance at one upstream over its last `span_ms`.

    Places in an array, so the tag is its version: raise it with any change of fields, and instances of two
    versions leave each other's reports out while a rolling update goes on.

    Attributes:
        span_ms: what the counters cover.
        admitted: requests that went out.
        ok, failed: ended requests by outcome; `failed` are overload failures.
        slow: of `ok`, those that took longer than half the SLO.
        latency_ms: summed up over `timed` ended requests.
        inflight: by tier, at this moment.
        relayed: ends heard here lately that instances which decided on them still count as in flight.
        demands: what was asked for by tenant, requests per second; their sum is what was offered.
        flush_ms: how far apart this instance's log messages come.
        is_blind: log entries have stopped coming, so nothing is known of ends.
        local: the pressure of the instance itself, 0 to 100.
    """

    span_ms: float
    admitted: int = 0
    ok: int = 0
    failed: int = 0
    slow: int = 0
    timed: int = 0
    latency_ms: float = 0.0
    inflight: TierCounts = NONE
    relayed: int = 0
    demands: tuple[Demand, ...] = ()
    flush_ms: float = 100.0
    is_blind: bool = False
    is_logged: bool = False
    local: float = 0.0


class Sample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Ended requests, as counts; `latency_ms` is summed up over `timed` of them."""

    ok: float = 0.0
    failed: float = 0.0
    slow: float = 0.0
    timed: float = 0.0
    latency_ms: float = 0.0

    @property
    def ended(self) -> float:
        """All of them."""
        return self.ok + self.failed

    @property
    def mean_ms(self) -> float:
        """Their mean latency."""
        return self.latency_ms / self.timed if self.timed else 0.0

    @property
    def failing(self) -> float:
        """The share that failed."""
        return self.failed / self.ended if self.ended else 0.0

    @property
    def slowness(self) -> float:
        """Of those that ended well, the share that was slow."""
        return self.slow / self.ok if self.ok else 0.0


class Shared(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What all instances know of an upstream together; the control law makes the next from the last.

    Attributes:
        at_ms: when it was made, on the store's clock.
        since_ms: when the first was made.
        pressure: 0 to 100, smoothed.
        signals: the ramps u1 to u4 behind it, by name.
        baseline_ms: mean latency without load; 0 when not known yet.
        peak: most completions per second in the last minute; less while `found` is less.
        peaks: (second, rate) it is taken from, one for each ten seconds.
        credit: requests per second that may pass; None lets all pass.
        cut_ms: when the credit was last cut.
        calm_ms: since when the credit has been far above demand; 0 when it is not.
        lasting: the pressure, smoothed over seconds.
        pool: requests that have ended since there were last enough of them to judge by.
        heard_ms: when there last were.
        usual: completions per second, smoothed.
        found: all that the upstream can do at the moment, as a queue before it or a probe has shown; None
            while nothing speaks against the peak. found_ms: when a queue or a probe last did.
        own_failing, own_slow: shares of failures and of slow answers that it has whatever its load.
        probe_ms: when a probe is looked at next; 0 when there is none. probe_mean_ms, probe_last_ms: mean
            latency before it, and at the last look. probe_kept: the credit it goes back to, then what it
            found. probe_again_ms, probe_wait_ms: when the next may begin.
        offered, admitted, completed: rates over all instances, requests per second.
        inflight: over all instances.
        history: (ms, inflight) of the last second, to see it grow.
        tier_share: which share of each tier's demand passes, for tenants not listed in `shares`.
        shares: tenant -> share of its demand that passes, where that is not its tier's.
        rates: tenant -> requests per second that it may have, over all instances; only where that is less
            than it asks for.
        is_blind: the state was frozen because ends are not heard.
        local: traffic-weighted mean of the instances' own pressures.
        instances: how many reported.
        is_open: the upstream's breaker was not closed when this was made.
    """

    at_ms: float = 0.0
    since_ms: float = 0.0
    pressure: float = 0.0
    signals: dict[str, float] = {}
    baseline_ms: float = 0.0
    peak: float = 0.0
    peaks: tuple[tuple[int, float], ...] = ()
    credit: float | None = None
    cut_ms: float = 0.0
    calm_ms: float = 0.0
    lasting: float = 0.0
    pool: Sample = Sample()
    heard_ms: float = 0.0
    usual: float = 0.0
    found: float | None = None
    found_ms: float = 0.0
    own_failing: float = 0.0
    own_slow: float = 0.0
    probe_ms: float = 0.0
    probe_mean_ms: float = 0.0
    probe_last_ms: float = 0.0
    probe_kept: float = 0.0
    probe_again_ms: float = 0.0
    probe_wait_ms: float = 0.0
    offered: float = 0.0
    admitted: float = 0.0
    completed: float = 0.0
    inflight: int = 0
    history: tuple[tuple[float, int], ...] = ()
    tier_share: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shares: dict[str, float] = {}
    rates: dict[str, float] = {}
    is_blind: bool = False
    local: float = 0.0
    instances: int = 0
    is_open: bool = False


class Totals(msgspec.Struct, frozen=True, gc=False):
    """All reports summed up, as rates. `ended` counts completions and failures in the span."""

    offered: float
    admitted: float
    ok: float
    failed: float
    ended: int
    slow: float
    timed: int
    mean_ms: float
    inflight: int
    demands: tuple[Demand, ...]
    flush_ms: float
    blind: float
    is_logged: bool
    local: float
    instances: int

    @property
    def completed(self) -> float:
        """Ended per second, well or badly."""
        return self.ok + self.failed


def summed(reports: Sequence[Report], scale: float = 1.0) -> Totals:
    """Sum up. `scale` above 1 stands for instances that cannot be heard (the store is away).

    Blind instances say nothing of ends: what the others saw stands for their traffic, too.
    """
    admitted = sum(_per_s(r.admitted, r) for r in reports)
    blind = sum(_per_s(r.admitted, r) for r in reports if r.is_blind)
    blind_share = blind / admitted if admitted else 0.0
    seeing = [r for r in reports if not r.is_blind]
    unseen = scale / (1 - blind_share) if blind_share < 1 else 0.0
    timed = sum(r.timed for r in seeing)
    offered = [sum(demand.rate for demand in r.demands) for r in reports]
    traffic = [max(1.0, rate) for rate in offered]
    return Totals(
        offered=scale * sum(offered),
        admitted=scale * admitted,
        ok=unseen * sum(_per_s(r.ok, r) for r in seeing),
        failed=unseen * sum(_per_s(r.failed, r) for r in seeing),
        ended=sum(r.ok + r.failed for r in seeing),
        slow=unseen * sum(_per_s(r.slow, r) for r in seeing),
        timed=timed,
        mean_ms=sum(r.latency_ms for r in seeing) / timed if timed else 0.0,
        inflight=max(0, round(unseen * sum(sum(r.inflight) - r.relayed for r in seeing))),
        demands=_merged(reports, scale),
        flush_ms=max((r.flush_ms for r in seeing), default=100.0),
        blind=blind_share,
        is_logged=any(r.is_logged for r in reports),
        local=sum(w * r.local for w, r in zip(traffic, reports, strict=True)) / (sum(traffic) or 1.0),
        instances=len(reports),
    )


def _per_s(count: float, report: Report) -> float:
    # A report comes from the store: an absurd span must not make an absurd rate.
    return count * 1000 / report.span_ms if report.span_ms >= 1 else 0.0


def _merged(reports: Sequence[Report], scale: float) -> tuple[Demand, ...]:
    """One demand for each tenant, the busiest by name, and one for the rest of each tier."""
    named: dict[str, Demand] = {}
    rest = [Demand("", tier, 0.0, 0.0) for tier in range(TIERS)]
    for report in reports:
        for demand in report.demands:
            if not demand.name:
                _join(rest[demand.tier], demand.rate * scale, demand.weight, instead=True)
            elif (known := named.get(demand.name)) is not None:
                known.rate += demand.rate * scale
            else:
                named[demand.name] = Demand(
                    demand.name, demand.tier, demand.rate * scale, demand.weight, demand.guaranteed
                )
    busiest = sorted(named.values(), key=lambda d: (-d.rate, d.name))
    for demand in busiest[MAX_FILLED:]:
        _join(rest[demand.tier], demand.rate, demand.weight)
    return (*busiest[:MAX_FILLED], *(demand for demand in rest if demand.rate > 0))


def _join(rest: Demand, rate: float, weight: float, *, instead: bool = False) -> None:
    """Add to the rest of a tier. Instances mostly see the same tenants, so their weights do not add up."""
    rest.rate += rate
    rest.weight = max(rest.weight, weight) if instead else rest.weight + weight
