"""The store of a single instance: the same windows in this process (`memory://`)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from sentinel_ext.core.window import Ring
from sentinel_ext.store.base import Answer, Ask, Refund

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# A ring costs about 250 bytes: 16 MB. The least recently used goes first.
MAX_KEYS = 65_536


class MemoryStore:
    """Windows in a bounded table. `now_us` is any clock in microseconds."""

    def __init__(self, now_us: Callable[[], int], max_keys: int = MAX_KEYS) -> None:
        """Start empty."""
        self._now_us = now_us
        self._max_keys = max_keys
        self._rings: OrderedDict[bytes, Ring] = OrderedDict()

    def is_available(self) -> bool:
        """Memory always answers."""
        return True

    async def start(self) -> None:
        """Nothing to connect to."""

    async def acquire(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Answer all asks in their order."""
        now_us = self._now_us()
        return [
            Answer(*self._ring(ask, now_us).acquire(ask.limit, ask.hits, ask.count, now_us)) for ask in asks
        ]

    async def refund(self, refunds: Sequence[Refund]) -> None:
        """Give hits back to rings that still count them."""
        for refund in refunds:
            ring = self._rings.get(refund.key)
            if ring is not None and ring.sub_us == refund.sub_us:
                ring.refund(refund.slot, refund.hits)

    async def forget(self, keys: Sequence[bytes]) -> int:
        """Forget rings."""
        return sum(self._rings.pop(key, None) is not None for key in keys)

    async def presence(self, instance: str, lease_ms: int, *, leaving: bool = False) -> int:  # noqa: ARG002  the Protocol's
        """One process, one instance."""
        return 0 if leaving else 1

    async def fleet(self, at_most: int) -> Sequence[str]:  # noqa: ARG002  the Protocol's
        """Name nobody: one process is alone."""
        return ()

    async def close(self) -> None:
        """Forget everything."""
        self._rings.clear()

    def __len__(self) -> int:
        return len(self._rings)

    def _ring(self, ask: Ask, now_us: int) -> Ring:
        ring = self._rings.get(ask.key)
        if ring is not None:
            self._rings.move_to_end(ask.key)
            return ring
        ring = self._rings[ask.key] = Ring(ask.sub_us, now_us)
        if len(self._rings) > self._max_keys:
            self._rings.popitem(last=False)
        return ring
