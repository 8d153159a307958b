"""A tenant's limit under pressure: it follows what the fill lets the tenant have. Vital limits never move.

A window holds what was allowed over its length, so a limit that falls must not fall faster than the window
slides: what was admitted under the higher rate is still in it. Down in proportion to the time that passed, up
at once; never above the plan's own limit, so the window's promise stands.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentinel_ext.core.tenant import Tenant

# Room above the fill, and for the chance in arrivals: the fill steers, this limit only holds a surge.
HEADROOM = 1.1
SIGMAS = 2.0
_NS_PER_US = 1000


def scaled_limit(tenant: Tenant, limit: int, rate: float | None, now_ns: int) -> int:
    """Return the limit that holds now.

    Args:
        limit: the plan's.
        rate: requests per second that the fill lets the tenant have over all instances; None where it gets
            all it asks for.
    """
    if rate is None:
        tenant.scaled = None
        return limit
    held = held_limit(tenant, limit, rate, now_ns)
    tenant.scaled, tenant.scaled_ns = held, now_ns
    return min(limit, max(1, int(held)))


def looked_limit(tenant: Tenant, limit: int, rate: float | None, now_ns: int) -> int:
    """Return the limit that holds now, and change nothing; arguments as above."""
    return limit if rate is None else min(limit, max(1, int(held_limit(tenant, limit, rate, now_ns))))


def held_limit(tenant: Tenant, limit: int, rate: float, now_ns: int) -> float:
    """Return where the limit has got to on its way to what the fill allows."""
    window_us = tenant.plan.window_us
    expected = rate * window_us / 1_000_000
    target = min(float(limit), HEADROOM * expected + SIGMAS * math.sqrt(expected) + 1)
    held = limit if tenant.scaled is None else tenant.scaled
    elapsed = 0.0 if tenant.scaled is None else (now_ns - tenant.scaled_ns) / (window_us * _NS_PER_US)
    return max(target, held - max(0.0, elapsed) * (limit - target))
