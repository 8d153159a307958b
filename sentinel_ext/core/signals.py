"""Signals of overload as ramps from 0 to 1, and how they become one score.

A signal that is not there is absent: it is left out, never counted as 0 or 100 and never made up for by
weighting the others higher (overload.md §4.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.model import Word

if TYPE_CHECKING:
    from collections.abc import Iterable

FULL = 100.0
# A soft maximum: at least the largest signal, and two half-bad ones are worse than one.
_POWER = 4
# A slow store alone is no reason to shed everything: the failure modes of the plans see to that.
_STORE_SHARE = 0.6
# Levels for people and alerts, left 10 points below where they were entered, after 5 s at the earliest.
HYSTERESIS = 10.0
DWELL_NS = 5_000_000_000


class LocalSignals(msgspec.Struct, frozen=True):
    """What one instance measures of itself; None where it cannot be measured.

    Attributes:
        loop_lag_ms: how late the event loop runs: the worst of each of the last seconds, their median.
        cpu: share of the cgroup's CPU quota in use, 0 to 1.
        psi_cpu, psi_memory, psi_io: share of time with tasks stalled (PSI `some`, `full`, `full`), 0 to 1.
        store_ms: 99th percentile of calls to the store.
    """

    loop_lag_ms: float | None = None
    cpu: float | None = None
    psi_cpu: float | None = None
    psi_memory: float | None = None
    psi_io: float | None = None
    store_ms: float | None = None


def ramp(value: float, low: float, high: float) -> float:
    """Return 0 up to `low`, 1 from `high`, and what lies between in proportion."""
    if value <= low:
        return 0.0
    return 1.0 if value >= high else (value - low) / (high - low)


def soft_max(signals: Iterable[float]) -> float:
    """Return one score from 0 to 100. Monotone in each signal, no smaller than the largest, any order."""
    total = sum(sorted(signal**_POWER for signal in signals))
    return float(FULL * min(1.0, total ** (1 / _POWER)))


def local_ramps(signals: LocalSignals) -> dict[str, float]:
    """Return the ramps u5 to u10 of overload.md §4.1 that are there, by name."""
    ramps = {
        "loop_lag": _ramp_of(signals.loop_lag_ms, 20.0, 200.0),
        "cpu": _ramp_of(signals.cpu, 0.75, 0.95),
        "psi_cpu": _ramp_of(signals.psi_cpu, 0.25, 0.75),
        "psi_memory": _ramp_of(signals.psi_memory, 0.02, 0.15),
        "psi_io": _ramp_of(signals.psi_io, 0.10, 0.50),
        "store": _ramp_of(signals.store_ms, 5.0, 50.0, _STORE_SHARE),
    }
    return {name: value for name, value in ramps.items() if value is not None}


def _ramp_of(value: float | None, low: float, high: float, share: float = 1.0) -> float | None:
    return None if value is None else share * ramp(value, low, high)


class Level(Word):
    """A score in words."""

    NORMAL = "normal"
    ELEVATED = "elevated"
    HIGH = "high"
    CRITICAL = "critical"


ELEVATED_FROM = 50.0
HIGH_FROM = 70.0
_ENTERED_AT = ((85.0, Level.CRITICAL), (HIGH_FROM, Level.HIGH), (ELEVATED_FROM, Level.ELEVATED))
_FLOOR = {level: floor for floor, level in _ENTERED_AT}


class LevelMeter:
    """The level of a score over time: up at once, down with hysteresis. For people; no decision reads it."""

    __slots__ = ("_since_ns", "level")

    def __init__(self) -> None:
        """Start at normal."""
        self.level = Level.NORMAL
        self._since_ns = 0

    def update(self, score: float, now_ns: int) -> bool:
        """Take a score; say whether the level changed."""
        reached = next((level for floor, level in _ENTERED_AT if score >= floor), Level.NORMAL)
        rises = _FLOOR.get(reached, 0.0) > _FLOOR.get(self.level, 0.0)
        falls = score < _FLOOR.get(self.level, 0.0) - HYSTERESIS and now_ns - self._since_ns >= DWELL_NS
        if not rises and not falls:
            return False
        self.level, self._since_ns = reached, now_ns
        return True
