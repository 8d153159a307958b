"""Snapshots of several workers as one. Pure.

What each worker counts is added up; where only one number can stand for all it is the worst: no order of
the workers may hide an open breaker or a pressed upstream. Of a breaker that they share through the store
the latest epoch is what holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from sentinel_ext.core.model import Mode
from sentinel_ext.core.signals import Level
from sentinel_ext.core.snapshot import (
    MAX_CHANGES_SHOWN,
    MAX_NAMES_SHOWN,
    MAX_TENANTS_SHOWN,
    MAX_UPSTREAMS_SHOWN,
    Snapshot,
    StageTraffic,
    TenantRow,
    TierTraffic,
    Traffic,
)
from sentinel_ext.core.views import PressureView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sentinel_ext.core.snapshot import BreakerChange, ConfigState, LogState, StoreState
    from sentinel_ext.core.views import BreakerView, UpstreamView


_REFUSING = {"half_open": 1, "open": 2}
# The least first: an operator should see that somewhere a stage does not enforce, or that a level is reached.
_MODES = tuple(mode.value for mode in (Mode.OFF, Mode.SHADOW, Mode.ENFORCE))
_LEVELS = tuple(level.value for level in Level)


def merged(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Return one for all; there is at least one. Findings are not merged: they are made of the whole."""
    first = snapshots[0]
    return replace(
        first,
        at_s=min(each.at_s for each in snapshots),
        is_ready=any(each.is_ready for each in snapshots),
        is_draining=all(each.is_draining for each in snapshots),
        traffic=_traffic([each.traffic for each in snapshots]),
        pressure=_pressure([each.pressure for each in snapshots]),
        tenants=_tenants([row for each in snapshots for row in each.tenants]),
        tenant_count=_tenant_count(snapshots),
        tenants_max=max(each.tenants_max for each in snapshots),
        upstream_count=max(each.upstream_count for each in snapshots),
        breakers=_breakers([each.breakers for each in snapshots]),
        changes=_changes([each.changes for each in snapshots]),
        store=_store([each.store for each in snapshots]),
        log=_log([each.log for each in snapshots]),
        config=_config([each.config for each in snapshots]),
        instances=max(each.instances for each in snapshots),
        names=tuple(dict.fromkeys(name for each in snapshots for name in each.names))[:MAX_NAMES_SHOWN],
        processes=tuple(process for each in snapshots for process in each.processes),
        findings=(),
    )


def _added(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + value
    return total


def _worst(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            found[name] = max(value, found.get(name, value))
    return found


def _traffic(parts: Sequence[Traffic]) -> Traffic:
    return Traffic(
        allowed=sum(part.allowed for part in parts),
        refused=sum(part.refused for part in parts),
        fallbacks=sum(part.fallbacks for part in parts),
        stages=tuple(_stage(same) for same in zip(*(part.stages for part in parts), strict=True)),
        tiers=tuple(_tier(same) for same in zip(*(part.tiers for part in parts), strict=True)),
        limits=_added(part.limits for part in parts),
        history={name: _series([part.history.get(name, []) for part in parts]) for name in parts[0].history},
    )


def _stage(same: Sequence[StageTraffic]) -> StageTraffic:
    return StageTraffic(
        same[0].stage,
        min((each.mode for each in same), key=_MODES.index),
        min((each.policy for each in same), key=_MODES.index),
        sum(each.refused for each in same),
        _added(each.reasons for each in same),
        sum(each.shadow for each in same),
    )


def _tier(same: Sequence[TierTraffic]) -> TierTraffic:
    return TierTraffic(
        same[0].tier,
        sum(each.per_s for each in same),
        sum(each.allowed for each in same),
        sum(each.refused for each in same),
        sum(each.good for each in same),
        sum(each.events for each in same),
    )


def _series(parts: Sequence[Sequence[float]]) -> list[float]:
    """Add up from the end: a worker that was restarted has a shorter past."""
    total = [0.0] * max(map(len, parts))
    for part in parts:
        for at, value in enumerate(part, len(total) - len(part)):
            total[at] += value
    return [round(value, 1) for value in total]


def _pressure(parts: Sequence[PressureView]) -> PressureView:
    upstreams: dict[str, UpstreamView] = {}
    for part in parts:
        for upstream in part.upstreams:
            known = upstreams.get(upstream.name, upstream)
            shown = max(known, upstream, key=lambda each: each.pressure)
            upstreams[upstream.name] = replace(shown, is_blind=known.is_blind or upstream.is_blind)
    return PressureView(
        max(part.score for part in parts),
        max((part.level for part in parts), key=_LEVELS.index),
        max(part.local for part in parts),
        _worst(part.local_signals for part in parts),
        tuple(sorted(upstreams.values(), key=lambda each: -each.pressure))[:MAX_UPSTREAMS_SHOWN],
    )


def _tenant_count(snapshots: Sequence[Snapshot]) -> int:
    """Count tenants, exactly where every worker lists all it knows; else it is this many at least."""
    listed = len({row.name for each in snapshots for row in each.tenants})
    return max(listed, *(each.tenant_count for each in snapshots))


def _tenants(rows: Sequence[TenantRow]) -> tuple[TenantRow, ...]:
    found: dict[str, TenantRow] = {}
    for row in rows:
        known = found.get(row.name)
        found[row.name] = row if known is None else _tenant(known, row)
    return tuple(sorted(found.values(), key=lambda row: -row.rate))[:MAX_TENANTS_SHOWN]


def _tenant(one: TenantRow, other: TenantRow) -> TenantRow:
    known = [refused for refused in (one.refused, other.refused) if refused is not None]
    used = [each for each in (one.used, other.used) if each is not None]
    limits = [each for each in (one.limit, other.limit) if each is not None]
    return replace(
        one,
        rate=one.rate + other.rate,
        refused=sum(known) if known else None,
        allowed=one.allowed + other.allowed,
        denied=one.denied + other.denied,
        used=max(used, default=None),
        limit=min(limits, default=None),
    )


def _breakers(parts: Sequence[Sequence[BreakerView]]) -> tuple[BreakerView, ...]:
    found: dict[str, BreakerView] = {}
    for part in parts:
        for breaker in part:
            known = found.get(breaker.upstream, breaker)
            alone = known.without_store or breaker.without_store
            shown = breaker if outweighs(_word(breaker), _word(known)) else known
            found[breaker.upstream] = replace(shown, without_store=alone)
    return tuple(sorted(found.values(), key=breaker_order))[:MAX_UPSTREAMS_SHOWN]


class BreakerWord(NamedTuple):
    """What one worker says of a breaker."""

    state: str
    forced: str
    without_store: bool
    epoch: int


def outweighs(one: BreakerWord, other: BreakerWord) -> bool:
    """Whether `one` stands for both: the later word on a breaker that they share, else what refuses more.

    Without the store each has epochs of its own.
    """
    if one.without_store or other.without_store or one.epoch == other.epoch:
        return _weight(one) > _weight(other)
    return one.epoch > other.epoch


def _weight(word: BreakerWord) -> tuple[int, bool, bool, int]:
    return _REFUSING.get(word.state, 0), word.forced != "auto", not word.without_store, word.epoch


def _word(breaker: BreakerView) -> BreakerWord:
    return BreakerWord(breaker.state, breaker.forced, breaker.without_store, breaker.epoch)


def breaker_order(breaker: BreakerView) -> tuple[bool, str]:
    """Rank breakers: those that are not closed first."""
    return breaker.state == "closed" and breaker.forced == "auto", breaker.upstream


def _changes(parts: Sequence[Sequence[BreakerChange]]) -> tuple[BreakerChange, ...]:
    """Each worker saw the same changes, at slightly different times: of an upstream, one worker's word."""
    found: dict[str, list[BreakerChange]] = {}
    for part in parts:
        told: dict[str, list[BreakerChange]] = {}
        for change in part:
            told.setdefault(change.upstream, []).append(change)
        for upstream, changes in told.items():
            if len(changes) > len(found.get(upstream, [])):
                found[upstream] = changes
    latest = sorted((change for each in found.values() for change in each), key=lambda change: -change.at_s)
    return tuple(latest[:MAX_CHANGES_SHOWN])


def _store(parts: Sequence[StoreState]) -> StoreState:
    return replace(
        parts[0],
        is_up=all(part.is_up for part in parts),
        p99_ms=max((part.p99_ms for part in parts if part.p99_ms is not None), default=None),
        calls=sum(part.calls for part in parts),
        errors=_added(part.errors for part in parts),
    )


def _log(parts: Sequence[LogState]) -> LogState:
    return replace(
        parts[0],
        streams=sum(part.streams for part in parts),
        messages=sum(part.messages for part in parts),
        entries=sum(part.entries for part in parts),
        unmatched=sum(part.unmatched for part in parts),
        garbled=sum(part.garbled for part in parts),
        flush_ms=max(part.flush_ms for part in parts),
        was_heard=any(part.was_heard for part in parts),
    )


def _config(parts: Sequence[ConfigState]) -> ConfigState:
    """Show the worker that is worst off: whose files are broken, else that has the oldest ones."""
    return min(parts, key=lambda part: (part.ok, part.loaded_at))
