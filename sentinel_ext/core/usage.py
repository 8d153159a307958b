"""Who uses how much: each tenant's rate, measured a slice of the table at a time.

A whole table is 32,768 tenants; looking at all of them at once would hold the event loop for some 10 ms. A
slice of SLICE takes about 0.3 ms.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from sentinel_ext.core.model import Word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sentinel_ext.core.tenant import Tenant

SLICE: Final = 1_024
# A rate is taken over at least so long: of less it would be noise.
MIN_SPAN_NS: Final = 500_000_000
_NS_PER_S = 1_000_000_000


class Order(Word):
    """What the busiest tenants are ranked by."""

    RATE = "rate"
    USED = "used"
    DENIED = "denied"


def slices(tenants: Sequence[Tenant]) -> Iterator[Sequence[Tenant]]:
    """Cut a table into slices."""
    for first in range(0, len(tenants), SLICE):
        yield tenants[first : first + SLICE]


def measure(tenants: Sequence[Tenant], now_ns: int) -> None:
    """Set the rate of each: requests per second since it was measured last."""
    for tenant in tenants:
        elapsed_ns = now_ns - tenant.marked_ns
        if elapsed_ns >= MIN_SPAN_NS:
            requests = tenant.allowed + tenant.denied
            tenant.rate = (requests - tenant.marked) * _NS_PER_S / elapsed_ns
            tenant.marked, tenant.marked_ns = requests, now_ns


class Top:
    """The first `count` of all tenants that are offered, slice by slice."""

    __slots__ = ("_best", "_count", "_key", "_offered", "_prefix")

    def __init__(self, count: int, order: Order, prefix: str, now_ns: int) -> None:
        """Rank by `order`; only names that begin with `prefix`."""
        self._count, self._prefix = count, prefix
        self._key = _key(order, now_ns)
        # The order of offering breaks ties, so that tenants are never compared.
        self._offered = 0
        self._best: list[tuple[float, int, Tenant]] = []

    def offer(self, tenants: Sequence[Tenant]) -> None:
        """Take a slice into account."""
        best, key, prefix = self._best, self._key, self._prefix
        for tenant in tenants:
            if prefix and not tenant.name.startswith(prefix):
                continue
            self._offered += 1
            entry = (key(tenant), -self._offered, tenant)
            if len(best) < self._count:
                heapq.heappush(best, entry)
            elif entry > best[0]:
                heapq.heapreplace(best, entry)

    def ranked(self) -> list[Tenant]:
        """Return them, the first first."""
        return [tenant for _, _, tenant in sorted(self._best, key=lambda each: each[:2], reverse=True)]


def _key(order: Order, now_ns: int) -> Callable[[Tenant], float]:
    if order is Order.RATE:
        return lambda tenant: tenant.rate
    if order is Order.DENIED:
        return lambda tenant: tenant.denied

    def used(tenant: Tenant) -> float:
        limit, hits = tenant.plan.limit, tenant.last_used(now_ns) or 0
        return hits / limit if limit else 0.0

    return used
