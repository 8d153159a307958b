"""How hard an upstream is pressed: four ramps over the counters of all instances, one smooth score. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.signals import ramp, soft_max

if TYPE_CHECKING:
    from sentinel_ext.core.report import Shared, Totals

# Time constants of the pressure's smoothing, and of the slower one that tells lasting pressure.
SMOOTHING_MS = 500.0
LASTING_MS = 2_500.0
# Fewer ended requests than this in a span say nothing of an upstream.
MIN_SAMPLES = 20
# Below this nothing speaks of load.
IDLE = 20.0
LEARNING_MS = 10_000.0
PEAK_BUCKETS, PEAK_BUCKET_MS = 6, 10_000.0
GROWTH_MS = 1_000.0


class LawOptions(msgspec.Struct, frozen=True):
    """What the law knows of an upstream from the policy.

    Attributes:
        slo_ms: latency objective.
        timeout_ms: after which Envoy gives a request up.
    """

    slo_ms: float = 200.0
    timeout_ms: float = 30_000.0

    @property
    def anchor_ms(self) -> float:
        """No baseline is learned above this: learned under load, it would excuse any latency."""
        return self.slo_ms / 4


def observed(state: Shared, totals: Totals, options: LawOptions, now_ms: float, step_ms: float) -> Shared:
    """Take in latency, failures and queues: baseline, peak, ramps, pressure."""
    history = (*((at, n) for at, n in state.history if at >= now_ms - GROWTH_MS), (now_ms, totals.inflight))
    state = msgspec.structs.replace(
        state, inflight=totals.inflight, history=history, **_peaked(state, totals, now_ms)
    )
    if totals.ended >= MIN_SAMPLES:
        if totals.timed >= MIN_SAMPLES:
            state = msgspec.structs.replace(state, baseline_ms=_baseline(state, totals, options, now_ms))
        signals = ramps(state, totals)
    elif totals.ended or totals.inflight > MIN_SAMPLES:
        # So few tell nothing new. What was measured before must fade: kept as it was, it cut the credit on
        # and on, so that never again enough ended (an upstream of 120/s served 5 % for a minute after a
        # hang).
        faded = math.exp(-step_ms / LASTING_MS)
        old = {name: value * faded for name, value in state.signals.items()}
        signals = {**old, **_queued(state, totals)}
    else:
        signals = {}
    raw = soft_max(signals.values())
    weight = 1 - math.exp(-step_ms / SMOOTHING_MS)
    pressure = state.pressure + weight * (raw - state.pressure)
    lasting = state.lasting + (1 - math.exp(-step_ms / LASTING_MS)) * (pressure - state.lasting)
    failing = totals.failed / totals.completed if totals.completed else 0.0
    return msgspec.structs.replace(
        state,
        pressure=pressure,
        lasting=lasting,
        signals=signals,
        own_failing=min(state.own_failing, failing),
    )


def ramps(state: Shared, totals: Totals) -> dict[str, float]:
    """Return u1 to u4: latency, queue, failures, slow share."""
    q_ms = reference_queue_ms(state.baseline_ms)
    return {
        "latency": ramp(totals.mean_ms - state.baseline_ms, 0.0, 2 * q_ms),
        **_queued(state, totals),
        "failures": ramp(totals.failed / totals.completed - state.own_failing, 0.02, 0.20),
        "slow": ramp(totals.slow / totals.ok if totals.ok else 0.0, 0.05, 0.50),
    }


def _queued(state: Shared, totals: Totals) -> dict[str, float]:
    """u2, by Little's law: a queue is seen in what is in flight before any of it has ended."""
    excess = sojourn_excess_ms(state.baseline_ms, totals.inflight, totals.completed, totals.flush_ms)
    return {"queue": ramp(excess, 0.0, 2 * reference_queue_ms(state.baseline_ms))}


def reference_queue_ms(baseline_ms: float) -> float:
    """The queueing that is half of too much."""
    return max(50.0, baseline_ms / 2)


def sojourn_excess_ms(baseline_ms: float, inflight: float, per_s: float, flush_ms: float) -> float:
    """Time in the system above the baseline, beyond what waits for the log's flush and two sigma of noise."""
    per_ms = max(per_s, 1.0) / 1000
    return inflight / per_ms - flush_ms / 2 - baseline_ms - 2 * math.sqrt(max(inflight, 0)) / per_ms


def is_growing(state: Shared) -> bool:
    """Whether more is in flight than a second ago, by more than chance."""
    (_, before), (_, now) = state.history[0], state.history[-1]
    return now > before + 2 * math.sqrt(max(before, 1))


def _peaked(state: Shared, totals: Totals, now_ms: float) -> dict[str, object]:
    """The most completions per second, over the last minute in buckets of ten seconds."""
    bucket = int(now_ms // PEAK_BUCKET_MS)
    peaks = {at: rate for at, rate in state.peaks if at > bucket - PEAK_BUCKETS}
    if totals.ended >= MIN_SAMPLES:
        peaks[bucket] = max(peaks.get(bucket, 0.0), totals.ok)
    return {"peaks": tuple(sorted(peaks.items())), "peak": max(peaks.values(), default=state.peak)}


def _baseline(state: Shared, totals: Totals, options: LawOptions, now_ms: float) -> float:
    """The mean latency without load: down fast, up only while nothing speaks of load."""
    mean, known = totals.mean_ms, state.baseline_ms
    age_ms = now_ms - state.since_ms
    if not known:
        is_enough = totals.ended >= 50 or age_ms >= max(1_000.0, 4 * mean)
        return min(mean, options.anchor_ms) if is_enough else 0.0
    if mean < known:
        return known + 0.3 * (mean - known)
    is_learning = age_ms <= LEARNING_MS
    is_quiet = totals.failed == 0 and state.credit is None and not is_growing(state)
    if is_quiet and (is_learning or state.pressure < IDLE):
        return min(known + (0.3 if is_learning else 0.03) * (mean - known), max(known, options.anchor_ms))
    return known
