"""How much an upstream may get: a credit that is cut while pressure is high and raised while it is low. Pure.

Small cuts and a band in which nothing is done: of 180 settings these swung least and cost no goodput
(overload.md §4.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core import probe
from sentinel_ext.core.pressure import IDLE

if TYPE_CHECKING:
    from sentinel_ext.core.pressure import LawOptions
    from sentinel_ext.core.report import Shared, Totals

# Factors are per half second, whatever the period.
STEP_MS = 500.0
# Pressure above HIGH cuts the credit, below LOW raises it; between them it is left alone.
HIGH, LOW = 70.0, 50.0
CUT = 0.05
RAISE, RAISE_FAR = 1.03, 1.2
# One cut per feedback delay: a cut is seen in latency after the log's flush, the report and a window.
CUT_EVERY_MS = 1_000.0
FAILING = 0.2
CALM_MS = 3_000.0
FLOOR = 0.05
# What a reopened breaker begins with, as a share of the peak.
REOPENED = 0.1


def credited(state: Shared, totals: Totals, options: LawOptions, now_ms: float, step_ms: float) -> Shared:
    """Cut, raise or let go the credit."""
    if state.probe_ms:
        return probe.probed(state, totals, options, now_ms)
    credit, cut_ms = state.credit, state.cut_ms
    steps = step_ms / STEP_MS
    may_change = now_ms - cut_ms >= CUT_EVERY_MS
    if state.pressure > HIGH and may_change:
        credit, cut_ms = _cut(state, totals), now_ms
    elif (
        credit is not None
        and state.pressure < LOW
        and may_change
        and (totals.offered > credit or totals.admitted >= 0.85 * credit)
    ):
        is_far = credit < 0.9 * state.peak and state.pressure < IDLE
        credit *= (RAISE_FAR if is_far else RAISE) ** steps
    if credit is not None:
        credit = max(credit, FLOOR * state.peak, 1.0)
    state = msgspec.structs.replace(state, credit=credit, cut_ms=cut_ms)
    return probe.probed(_calmed(state, totals, now_ms), totals, options, now_ms)


def _cut(state: Shared, totals: Totals) -> float:
    """Snap to the measured peak on entry, then small steps: large ones cost goodput and swing."""
    top = state.peak or 0.5 * totals.admitted
    credit = top if state.credit is None else min(state.credit, top)
    credit *= 1 - CUT * (state.pressure - HIGH) / (100 - HIGH)
    return credit * 0.5 if totals.failed > FAILING * totals.completed else credit


def _calmed(state: Shared, totals: Totals, now_ms: float) -> Shared:
    """Let go of a credit that has been well above demand for a while."""
    if state.credit is None or state.credit <= 1.25 * totals.offered:
        return msgspec.structs.replace(state, calm_ms=0.0)
    if not state.calm_ms:
        return msgspec.structs.replace(state, calm_ms=now_ms)
    if now_ms - state.calm_ms < CALM_MS:
        return state
    return msgspec.structs.replace(state, credit=None, calm_ms=0.0)


def reopened(shared: Shared) -> Shared:
    """Return the state after the breaker closed: the upstream gets its load back step by step."""
    if not shared.peak:
        return shared
    return msgspec.structs.replace(
        shared, credit=REOPENED * shared.peak, calm_ms=0.0, probe_ms=0.0, lasting=0.0, pressure=0.0
    )
