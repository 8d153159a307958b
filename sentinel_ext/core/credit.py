"""How much an upstream may get: a credit that is cut while pressure is high and raised while it is low. Pure.

Small cuts and a band in which nothing is done: of 180 settings these swung least and cost no goodput
(overload.md §4.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core import probe
from sentinel_ext.core.pressure import best

if TYPE_CHECKING:
    from sentinel_ext.core.pressure import LawOptions
    from sentinel_ext.core.report import Shared, Totals

# Factors are per half second, whatever the period.
STEP_MS = 500.0
# Pressure above HIGH cuts the credit, below LOW raises it; between them it is left alone.
HIGH, LOW = 70.0, 50.0
CUT = 0.05
RAISE = 1.03
# Far below the best of the last minute it is raised by so much, and by less the nearer pressure is to LOW:
# at a fixed low pressure, an upstream whose tail alone makes 40 points came back from an outage in a minute.
RAISE_FAR, RAISE_FOUND, NEAR = 0.4, 0.15, 0.9
# So long a queue that was found says what to expect.
FOUND_MS = 10_000.0
# One cut per feedback delay: a cut is seen in latency after the log's flush, the report and a window.
# Slow upstreams answer later.
CUT_EVERY_MS, CUT_AFTER_MS = 1_000.0, 600.0
FAILING = 0.2
# From so strong a signal on there is a queue; what is completed, give or take the noise, is all it can do.
# If that is far from what it was, it may also be that the log has stopped or an instance is not heard.
QUEUED, DONE, SETTLED = 0.5, 1.1, 0.6
CALM_MS = 3_000.0
FLOOR = 0.05
# What a reopened breaker begins with, as a share of the peak.
REOPENED = 0.1


def credited(state: Shared, totals: Totals, options: LawOptions, now_ms: float, step_ms: float) -> Shared:
    """Cut, raise or let go the credit."""
    if state.probe_ms:
        return probe.probed(state, totals, options, now_ms)
    waited_ms = now_ms - state.cut_ms
    if waited_ms >= max(CUT_EVERY_MS, CUT_AFTER_MS + 3 * state.baseline_ms):
        if state.pressure > HIGH and state.heard_ms >= state.cut_ms:
            state = _cut(state, totals, now_ms)
        elif state.pressure < LOW:
            state = _raised(state, totals, now_ms, step_ms / STEP_MS)
    if state.credit is not None:
        state = msgspec.structs.replace(state, credit=max(state.credit, FLOOR * best(state), 1.0))
    return probe.probed(_calmed(state, totals, now_ms), totals, options, now_ms)


def _cut(state: Shared, totals: Totals, now_ms: float) -> Shared:
    """Snap to what the upstream can do, then small steps: large ones cost goodput and swing."""
    top, found, found_ms = state.peak or state.usual, state.found, state.found_ms
    is_failing = totals.failed > FAILING * totals.completed
    is_settled = totals.completed >= SETTLED * state.usual
    if is_failing or (is_settled and state.signals.get("queue", 0.0) >= QUEUED):
        # With a queue before it an upstream does what it can; of what fails, only what does not counts.
        done = totals.ok if is_failing else max(totals.completed, state.usual)
        top = min(top, max(FLOOR * best(state), DONE * done))
        found = top if top < state.peak else found
        found_ms = found_ms if is_failing else now_ms
    credit = top if state.credit is None else min(state.credit, top)
    credit *= 1 - CUT * (state.pressure - HIGH) / (100 - HIGH)
    return msgspec.structs.replace(state, credit=credit, cut_ms=now_ms, found=found, found_ms=found_ms)


def _raised(state: Shared, totals: Totals, now_ms: float, steps: float) -> Shared:
    """Raise what is used up: fast far below the best, slower where a queue was found lately."""
    credit = state.credit
    if credit is None or not (totals.offered > credit or totals.admitted >= 0.85 * credit):
        return state
    factor = RAISE
    if credit < NEAR * best(state):
        is_found = credit >= NEAR * state.peak and now_ms - state.found_ms <= FOUND_MS
        far = RAISE_FOUND if is_found else RAISE_FAR
        # A tail that is slow says little of load while the mean is what it was and nothing waits.
        pressed = max(state.signals.get(name, 0.0) for name in ("latency", "queue", "failures"))
        factor = max(RAISE, 1 + far * (1 - pressed))
    return msgspec.structs.replace(state, credit=credit * factor**steps)


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
    peak = best(shared)
    if not peak:
        return shared
    return msgspec.structs.replace(
        shared,
        credit=REOPENED * peak,
        found=None,
        calm_ms=0.0,
        probe_ms=0.0,
        lasting=0.0,
        pressure=0.0,
    )
