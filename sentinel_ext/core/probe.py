"""Overloaded, or simply slow? A short, deliberate cut tells. Pure.

Shedding does not make a slow service faster. With an objective that the upstream's own latency breaks, or a
baseline of better days, pressure never ends and load is shed for nothing (measured: an upstream of 200 ms
under an SLO of 500 ms served 33 % of its capacity at 80 % load; with the probe 79 %). So when pressure lasts,
the upstream gets clearly less than it completes: a queue drains, and latency falls. When it falls no longer,
what is left of it is the upstream's own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.pressure import best, is_growing
from sentinel_ext.core.signals import soft_max

if TYPE_CHECKING:
    from sentinel_ext.core.pressure import LawOptions
    from sentinel_ext.core.report import Shared, Totals

# Pressure that lasts above SUSPECT is looked into; below OVER it has gone by itself.
SUSPECT, OVER = 55.0, 30.0
# Of the completions; so little that a queue drains although they are known only by some 10 %.
PROBE_CREDIT = 0.75
# Completions this far from their mean, or further than their noise: what the upstream can do is changing.
STEADY = 0.15
# The first look, beside twice the latency: the cut must arrive everywhere, act, and be heard of.
LOOK_MS = 800.0
# Latency that falls by less than this between two looks has stopped falling; if so much of it is left, it was
# no load.
FALLING, OWN_LATENCY = 0.85, 0.75
# Then the upstream gets so much more than it had, at most its best, and goes on from there.
OWN_CREDIT = 1.5
# After the probe an overloaded upstream gets what it completed with a queue before it, and a little more.
CONFIRMED = 1.05
# Pressure at a credit this far below what was found is news.
EXPLAINED = 0.8
MAX_FAILING, MAX_FAILING_LATE = 0.15, 0.01
PROBE_AGAIN_MS, PROBE_CONFIRMED_MS, PROBE_CONFIRMED_MAX_MS = 10_000.0, 60_000.0, 300_000.0


def probed(state: Shared, totals: Totals, options: LawOptions, now_ms: float) -> Shared:
    """Begin a probe, or look how one goes."""
    if state.probe_ms:
        return _looked(state, totals, options, now_ms)
    if not _is_suspect(state, totals, options, now_ms):
        return state
    return msgspec.structs.replace(
        state,
        probe_ms=now_ms + LOOK_MS + 2 * totals.mean_ms,
        probe_mean_ms=totals.mean_ms,
        probe_last_ms=totals.mean_ms,
        probe_kept=state.credit,
        credit=max(1.0, PROBE_CREDIT * min(state.usual, totals.completed)),
    )


def _is_suspect(state: Shared, totals: Totals, options: LawOptions, now_ms: float) -> bool:
    """Whether pressure lasts, is there now, and nothing moves that would mislead."""
    if state.credit is None or state.heard_ms != now_ms or not totals.ended:
        return False
    if now_ms < state.probe_again_ms and state.credit >= EXPLAINED * state.probe_kept:
        return False
    noise = max(STEADY, 2 / math.sqrt(totals.ended))
    return (
        min(state.lasting, state.pressure, soft_max(state.signals.values())) > SUSPECT
        and _tells_latency(totals, options)
        and not is_growing(state)
        and abs(totals.completed - state.usual) < noise * state.usual
    )


def _tells_latency(totals: Totals, options: LawOptions) -> bool:
    """Whether latency means something: what is given up at the timeout takes as long, whatever the load."""
    limit = MAX_FAILING if totals.mean_ms < options.timeout_ms / 2 else MAX_FAILING_LATE
    return totals.timed > 0 and totals.failed < limit * totals.completed


def _looked(state: Shared, totals: Totals, options: LawOptions, now_ms: float) -> Shared:
    """As long as latency falls the queue drains; what is left then is the upstream's own."""
    is_gone = state.pressure < OVER
    if not is_gone:
        if now_ms < state.probe_ms or state.heard_ms != now_ms:
            return state
        if _tells_latency(totals, options) and totals.mean_ms < FALLING * state.probe_last_ms:
            next_ms = now_ms + LOOK_MS + 2 * totals.mean_ms
            return msgspec.structs.replace(state, probe_last_ms=totals.mean_ms, probe_ms=next_ms)
    found = (state.credit or 0.0) / PROBE_CREDIT
    ended = msgspec.structs.replace(
        state,
        credit=state.probe_kept,
        probe_ms=0.0,
        lasting=0.0,
        probe_kept=found,
        probe_again_ms=now_ms + PROBE_AGAIN_MS,
    )
    if not _tells_latency(totals, options):
        return ended
    if not is_gone:
        ended = msgspec.structs.replace(ended, baseline_ms=max(state.baseline_ms, totals.mean_ms))
        if totals.mean_ms > OWN_LATENCY * state.probe_mean_ms:
            return msgspec.structs.replace(
                ended,
                own_failing=totals.failed / totals.completed,
                own_slow=totals.slow / totals.ok if totals.ok else 0.0,
                credit=max(state.probe_kept, min(best(state), OWN_CREDIT * found)),
                found=None,
                probe_wait_ms=0.0,
            )
    return _confirmed(ended, CONFIRMED * found, now_ms, is_drained=not is_gone)


def _confirmed(state: Shared, capacity: float, now_ms: float, *, is_drained: bool) -> Shared:
    """It was load: the credit is what the upstream did with a queue before it; the next probe can wait."""
    wait_ms = min(PROBE_CONFIRMED_MAX_MS, 2 * state.probe_wait_ms or PROBE_CONFIRMED_MS)
    state = msgspec.structs.replace(
        state,
        credit=min(state.credit or capacity, capacity),
        probe_wait_ms=wait_ms,
        probe_again_ms=now_ms + wait_ms,
    )
    if not is_drained:
        return state
    found = capacity if capacity < state.peak else state.found
    return msgspec.structs.replace(state, found=found, found_ms=now_ms)
