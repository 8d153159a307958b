"""The control law of one upstream: what all instances reported becomes the next shared state. Pure.

In three steps, a file each: how hard the upstream is pressed (pressure.py), how much it may get (credit.py,
with probe.py), and who gets it (fill.py, here). docs/overload.md has the law in words and the measurements
behind its numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.credit import credited, reopened
from sentinel_ext.core.fill import TIERS, fill
from sentinel_ext.core.pressure import LawOptions, observed
from sentinel_ext.core.report import Report, Shared, Totals, summed

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_STEP_MS, MAX_STEP_MS = 50.0, 2_000.0
# With this share of the traffic unseen, the state is frozen and the last credit, or the peak, is the limit.
BLIND = 0.5
BLIND_SHARE = 0.9


def next_shared(
    shared: Shared,
    reports: Sequence[Report],
    options: LawOptions,
    now_ms: float,
    scale: float = 1.0,
    *,
    is_open: bool = False,
) -> Shared:
    """Return the state after `shared`, from what all instances reported.

    Args:
        scale: how many times the traffic of `reports` there is (other instances cannot be heard).
        now_ms: on the clock that `shared.at_ms` is on.
        is_open: the upstream's breaker is not closed; when it has closed again, load comes back in steps.
    """
    if shared.is_open and not is_open:
        shared = reopened(shared)
    totals = summed(reports, scale)
    step_ms = min(MAX_STEP_MS, max(MIN_STEP_MS, now_ms - shared.at_ms))
    state = msgspec.structs.replace(
        shared,
        at_ms=now_ms,
        since_ms=shared.since_ms or now_ms,
        offered=totals.offered,
        admitted=totals.admitted,
        completed=totals.completed,
        local=totals.local,
        instances=totals.instances,
        is_blind=totals.blind > BLIND,
        is_open=is_open,
    )
    if not totals.is_logged:
        # Nobody's access log was ever heard: nothing is known of this upstream, so nothing is done.
        return msgspec.structs.replace(state, pressure=0.0, signals={}, credit=None, **_open())
    if not state.is_blind:
        state = observed(state, totals, options, now_ms, step_ms)
        state = credited(state, totals, options, now_ms, step_ms)
    return _shared_out(state, totals)


def _open() -> dict[str, object]:
    return {"tier_share": (1.0,) * TIERS, "shares": {}, "rates": {}}


def _shared_out(state: Shared, totals: Totals) -> Shared:
    """Turn the credit into shares of demand, by tier and tenant."""
    credit = state.credit
    if state.is_blind:
        # Nobody sees a queue grow, and a credit just above what the upstream can do ends where all give up.
        credit = state.peak or None if credit is None else BLIND_SHARE * credit
    if credit is None or not totals.demands:
        return msgspec.structs.replace(state, **_open())
    rates = fill(credit, totals.demands)
    asked, given = [0.0] * TIERS, [0.0] * TIERS
    rest: list[float | None] = [None] * TIERS
    shares, allowed = {}, {}
    for demand, rate in zip(totals.demands, rates, strict=True):
        share = 1.0 if rate >= demand.rate * (1 - 1e-9) else rate / demand.rate
        asked[demand.tier] += demand.rate
        given[demand.tier] += rate
        if demand.name:
            shares[demand.name] = share
            if share < 1 and demand.tier > 0:  # vital limits never move
                allowed[demand.name] = rate
        else:
            rest[demand.tier] = share
    # A tenant that nobody has named yet gets what the unnamed get; if all are named, its tier's mean.
    tiers = [
        unnamed if unnamed is not None else given[tier] / asked[tier] if asked[tier] else 1.0
        for tier, unnamed in enumerate(rest)
    ]
    return msgspec.structs.replace(
        state, tier_share=(tiers[0], tiers[1], tiers[2]), shares=shares, rates=allowed
    )
