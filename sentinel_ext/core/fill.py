"""Who gets how much of a credit: tier by tier, and max-min fair between the tenants of a tier.

Max-min (Doorman's FAIR_SHARE): nobody gets more than it asks for, and nobody can get more without somebody
smaller getting less. One tenant at ten times its demand leaves the others theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

# Tiers as numbers, in the order in which they are served: vital, standard, economy.
TIERS = 3


class Demand(msgspec.Struct, array_like=True, gc=False):
    """What one tenant, or the rest of a tier, asks for.

    Attributes:
        name: the tenant; "" stands for all tenants of the tier that are not listed one by one.
        tier: 0 vital, 1 standard, 2 economy.
        rate: requests per second, over all instances.
        weight: its part in its tier; for "" the sum over those it stands for.
        guaranteed: requests per second of its contract; vital only.
    """

    name: str
    tier: int
    rate: float
    weight: float = 1.0
    guaranteed: float = 0.0


def fill(credit: float, demands: Sequence[Demand]) -> list[float]:
    """Share `credit` (requests per second) out; return the rate of each demand, in their order.

    Contracts come first, then the rest of vital, then standard, then economy. The rates never add up to
    more than the credit, and no rate is larger than its demand.
    """
    granted = [0.0] * len(demands)
    left = max(0.0, credit)
    contracts = [(i, min(d.rate, d.guaranteed), max(d.guaranteed, 1e-9)) for i, d in enumerate(demands)
                 if d.tier == 0 and d.guaranteed > 0]  # fmt: skip
    left -= _max_min(left, contracts, granted)
    for tier in range(TIERS):
        asks = [
            (i, d.rate - granted[i], max(d.weight, 1e-9)) for i, d in enumerate(demands) if d.tier == tier
        ]
        left -= _max_min(left, asks, granted)
    return granted


def _max_min(credit: float, asks: Sequence[tuple[int, float, float]], granted: list[float]) -> float:
    """Serve (index, rate, weight) from the least per weight up; return what was used."""
    left = credit
    weights = sum(weight for _, _, weight in asks)
    for index, rate, weight in sorted(asks, key=lambda ask: ask[1] / ask[2]):
        if left <= 0:
            break
        share = min(rate, left * weight / weights) if weights > weight else min(rate, left)
        granted[index] += share
        left -= share
        weights -= weight
    return credit - left
