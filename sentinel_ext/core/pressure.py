"""How hard an upstream is pressed: four ramps over the counters of all instances, one smooth score. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.report import Sample
from sentinel_ext.core.signals import ramp, soft_max

if TYPE_CHECKING:
    from sentinel_ext.core.report import Shared, Totals

# Time constants: of the pressure, of the completions that a probe starts from, of lasting pressure.
SMOOTHING_MS = 500.0
USUAL_MS = 1_500.0
LASTING_MS = 2_500.0
# Fewer ended requests than this in a span say nothing of an upstream.
MIN_SAMPLES = 20
# A mean of so many is half believed.
SURE = 50.0
# Below this nothing speaks of load.
IDLE = 20.0
# How much more than it does an upstream without pressure is trusted with.
ROOM = 1.3
LEARNING_MS, LEARNING = 10_000.0, 20.0
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
    rate = totals.ok if totals.ended >= MIN_SAMPLES else 0.0
    state = msgspec.structs.replace(
        state, inflight=totals.inflight, history=history, **_peaked(state, rate, totals.ok, now_ms)
    )
    sample = _pooled(state.pool, totals, step_ms)
    if sample.ended >= MIN_SAMPLES:
        if sample.timed >= MIN_SAMPLES:
            state = msgspec.structs.replace(state, baseline_ms=_baseline(state, sample, options, now_ms))
        signals = ramps(state, totals, sample, options, now_ms)
        if totals.ended < MIN_SAMPLES and state.heard_ms:
            rate = 1000 * sample.ok / (now_ms - state.heard_ms)
            state = msgspec.structs.replace(state, **_peaked(state, rate, totals.ok, now_ms))
        state = msgspec.structs.replace(
            state,
            pool=Sample(),
            heard_ms=now_ms,
            own_failing=min(state.own_failing, sample.failing),
            own_slow=min(state.own_slow, sample.slowness),
        )
    elif totals.admitted or totals.inflight:
        # Too few to judge by: what those before them showed stands until there are enough.
        signals = {**state.signals, **_queued(state, totals, options, now_ms)}
        state = msgspec.structs.replace(state, pool=sample)
    else:
        signals = {}
    pressure = _smoothed(state.pressure, soft_max(signals.values()), step_ms, SMOOTHING_MS)
    usual = _smoothed(state.usual, totals.completed, step_ms, USUAL_MS) if state.usual else totals.completed
    lasting = _smoothed(state.lasting, pressure, step_ms, LASTING_MS)
    return msgspec.structs.replace(state, pressure=pressure, lasting=lasting, usual=usual, signals=signals)


def _smoothed(before: float, now: float, step_ms: float, constant_ms: float) -> float:
    return before + (1 - math.exp(-step_ms / constant_ms)) * (now - before)


def _pooled(pool: Sample, totals: Totals, step_ms: float) -> Sample:
    """Return what to judge by: the reports' own span; where that is too few, all since the last time."""
    if totals.ended >= MIN_SAMPLES:
        pool, part_s = Sample(), totals.ended / totals.completed if totals.completed else 0.0
    else:
        part_s = step_ms / 1000  # spans overlap: of each what is new
    timed = part_s * totals.completed * totals.timed / totals.ended if totals.ended else 0.0
    return Sample(
        ok=pool.ok + part_s * totals.ok,
        failed=pool.failed + part_s * totals.failed,
        slow=pool.slow + part_s * totals.slow,
        timed=pool.timed + timed,
        latency_ms=pool.latency_ms + timed * totals.mean_ms,
    )


def ramps(
    state: Shared, totals: Totals, sample: Sample, options: LawOptions, now_ms: float
) -> dict[str, float]:
    """Return u1 to u4: latency, queue, failures, slow share."""
    # Two sigma of the mean of so many, were they spread as exponential times are.
    noise_ms = 2 * state.baseline_ms / math.sqrt(sample.timed) if sample.timed else 0.0
    excess_ms = sample.mean_ms - state.baseline_ms - noise_ms
    return {
        "latency": ramp(excess_ms, 0.0, 2 * reference_queue_ms(state.baseline_ms)),
        **_queued(state, totals, options, now_ms),
        "failures": ramp(sample.failing - state.own_failing, 0.02, 0.20),
        "slow": ramp(sample.slowness - state.own_slow, 0.05, 0.50),
    }


def _queued(state: Shared, totals: Totals, options: LawOptions, now_ms: float) -> dict[str, float]:
    """u2, by Little's law: a queue is seen in what is in flight before any of it has ended."""
    due_ms = state.baseline_ms or options.slo_ms  # without a baseline only the objective tells what is long
    # What has just been let in cannot have ended: by completions alone, new load at a slow upstream is a
    # queue.
    per_s = max(totals.completed, totals.admitted)
    excess_ms = sojourn_excess_ms(due_ms, totals.inflight, per_s, totals.flush_ms)
    known_ms = now_ms - state.since_ms  # nothing can have waited longer than anybody has looked
    return {"queue": ramp(min(excess_ms, known_ms), 0.0, 2 * reference_queue_ms(due_ms))}


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


def best(state: Shared) -> float:
    """Return the most completions per second of the last minute, whatever was found since."""
    return max((rate for _, rate in state.peaks), default=state.peak)


def _peaked(state: Shared, rate: float, ok: float, now_ms: float) -> dict[str, object]:
    """The most completions per second in the last minute, by ten seconds; and what was found since."""
    bucket = int(now_ms // PEAK_BUCKET_MS)
    peaks = {at: rate for at, rate in state.peaks if at > bucket - PEAK_BUCKETS}
    if rate:
        peaks[bucket] = max(peaks.get(bucket, 0.0), rate)
    peak = max(peaks.values(), default=state.peak)
    found = state.found
    if found is not None:
        found = max(found, (ROOM if state.pressure < IDLE else 1.0) * ok)
        found = None if found >= peak or state.credit is None else found
    return {"peaks": tuple(sorted(peaks.items())), "peak": peak if found is None else found, "found": found}


def _baseline(state: Shared, sample: Sample, options: LawOptions, now_ms: float) -> float:
    """The mean latency without load: down fast, up only while nothing speaks of load."""
    mean, known = sample.mean_ms, state.baseline_ms
    age_ms = now_ms - state.since_ms
    if not known:
        is_enough = sample.ended >= 50 or age_ms >= max(1_000.0, 4 * mean)
        return min(mean, options.anchor_ms) if is_enough else 0.0
    # The mean of a few is noise, and whoever follows it down fast ends at the least of them.
    sure = sample.timed / (sample.timed + SURE)
    if mean < known:
        return known + 0.3 * sure * (mean - known)
    # The first to end are the quick ones: of a slow upstream it takes longer to know the mean.
    is_learning = age_ms <= max(LEARNING_MS, LEARNING * mean)
    is_quiet = sample.failed == 0 and state.credit is None and not is_growing(state)
    if is_quiet and (is_learning or state.pressure < IDLE):
        weight = min(0.3, sure) if is_learning else 0.03
        return min(known + weight * (mean - known), max(known, options.anchor_ms))
    return known
