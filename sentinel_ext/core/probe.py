"""Overloaded, or simply slow? A short, deliberate cut tells. Pure.

Shedding does not make a slow service faster. With an objective that the upstream's own latency breaks, or a
baseline of better days, pressure never ends and load is shed for nothing (measured: an upstream of 200 ms
under an SLO of 500 ms served 33 % of its capacity at 80 % load; with the probe 79 %). So when pressure lasts,
the upstream gets clearly less than it completes for a moment: a queue drains, and what latency is left is its
own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.pressure import MIN_SAMPLES, is_growing

if TYPE_CHECKING:
    from sentinel_ext.core.pressure import LawOptions
    from sentinel_ext.core.report import Shared, Totals

SUSPECT = 55.0
PROBE_CREDIT = 0.85
PROBE_MS = 1_000.0
OWN_LATENCY, OWN_BASELINE = 0.75, 1.5
# After the probe an overloaded upstream gets what it completed with a queue before it, and a little more.
CONFIRMED = 1.05
MAX_FAILING, MAX_FAILING_LATE = 0.15, 0.01
PROBE_AGAIN_MS, PROBE_CONFIRMED_MS, PROBE_CONFIRMED_MAX_MS = 10_000.0, 60_000.0, 300_000.0


def _tells_latency(totals: Totals, options: LawOptions) -> bool:
    """Whether latency means something: what is given up at the timeout takes as long, whatever the load."""
    limit = MAX_FAILING if totals.mean_ms < options.timeout_ms / 2 else MAX_FAILING_LATE
    return totals.failed < limit * totals.completed


def probed(state: Shared, totals: Totals, options: LawOptions, now_ms: float) -> Shared:
    """Find out whether a slow upstream is overloaded or simply slow, by asking less of it for a moment.

    Shedding does not make a slow service faster, and a baseline learned under load excuses anything: only
    what is left of the latency when the queue has drained tells the two apart.
    """
    if state.probe_ms:
        return _judged(state, totals, options, now_ms) if now_ms >= state.probe_ms else state
    is_suspect = (
        state.credit is not None
        and state.lasting > SUSPECT
        and totals.timed >= MIN_SAMPLES
        and _tells_latency(totals, options)
        and not is_growing(state)
    )
    if not is_suspect or now_ms < state.probe_again_ms:
        return state
    return msgspec.structs.replace(
        state,
        probe_ms=now_ms + PROBE_MS + 2 * totals.mean_ms + totals.flush_ms,
        probe_mean_ms=totals.mean_ms,
        probe_inflight=totals.inflight,
        probe_kept=state.credit,
        credit=PROBE_CREDIT * totals.completed,
    )


def _judged(state: Shared, totals: Totals, options: LawOptions, now_ms: float) -> Shared:
    """End a probe: what is left of the latency is the baseline, and if nearly all is, it never was load."""
    ended = msgspec.structs.replace(
        state, credit=state.probe_kept, probe_ms=0.0, lasting=0.0, probe_again_ms=now_ms + PROBE_AGAIN_MS
    )
    if totals.timed < MIN_SAMPLES or not _tells_latency(totals, options):
        return ended
    before = state.probe_inflight
    # A queue drains; without one, what is in flight goes down only as far as what was admitted.
    is_drained = totals.inflight < PROBE_CREDIT * before - 2 * math.sqrt(before)
    is_own = totals.mean_ms > OWN_LATENCY * state.probe_mean_ms and not is_drained
    if is_own:
        return msgspec.structs.replace(
            ended,
            baseline_ms=max(state.baseline_ms, totals.mean_ms),
            own_failing=totals.failed / totals.completed,
            credit=max(state.probe_kept, state.peak),
            probe_wait_ms=0.0,
        )
    wait_ms = min(PROBE_CONFIRMED_MAX_MS, 2 * state.probe_wait_ms or PROBE_CONFIRMED_MS)
    is_slow_too = totals.mean_ms > OWN_BASELINE * state.baseline_ms
    capacity = (state.credit or 0.0) / PROBE_CREDIT  # with a queue, what was completed is what it can do
    return msgspec.structs.replace(
        ended,
        credit=min(state.probe_kept, CONFIRMED * capacity),
        baseline_ms=totals.mean_ms if is_slow_too else state.baseline_ms,
        probe_wait_ms=wait_ms,
        probe_again_ms=now_ms + wait_ms,
    )
