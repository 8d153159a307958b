"""A store as the settings make it, with what hangs on it, on whatever Redis a test has started."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, Self

from support.stores import until

from sentinel_ext.redis_url import RedisUrl
from sentinel_ext.store.base import Answer, Ask, StoreError
from sentinel_ext.store.factory import make_limits, make_shared, make_store

if TYPE_CHECKING:
    from sentinel_ext.core.decision import StoreFault

HOUR_US = 3_600_000_000
# Hosts of one test may look for a master that long.
FAILOVER_S = 20.0


class Opened:
    """`await opened.start()` brings it up as far as it comes; as a scope it is up inside."""

    def __init__(self, url: str, **more: Any) -> None:
        self.told: list[tuple[bool, str]] = []
        self.store = make_store(
            RedisUrl().parse(url).reveal(),
            now_us=lambda: 0,
            jitter=random.Random(7).random,
            changed=lambda up, why: self.told.append((up, why)),
            **more,
        )
        self.limits = make_limits(self.store, now_us=lambda: 0)
        self.circuits, self.loads = make_shared(self.store, "me", now_us=lambda: 0)

    async def __aenter__(self) -> Self:
        await self.store.start()
        await until(self.store.is_available)
        nodes = getattr(self.store, "_nodes", {})
        await until(lambda: all(node.is_available() and node._side.is_up for node in nodes.values()))
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.store.close()

    async def refused(self) -> str:
        """Return why a store that cannot be had is not up."""
        await self.store.start()
        try:
            await until(lambda: bool(self.told))
            assert not self.store.is_available()
        finally:
            await self.store.close()
        up, why = self.told[0]
        assert not up
        return why

    async def count(self, name: str, hits: int = 1, limit: int = 1000) -> Answer | StoreFault:
        (answer,) = await self.store.acquire([Ask(window_key(name), HOUR_US // 10, limit, hits, 1)])
        return answer

    async def count_when_served(self, name: str) -> tuple[Answer, float]:
        """Count as soon as somebody does it again; return also how long that took, in seconds."""
        started = time.monotonic()
        while True:
            try:
                answer = await self.count(name)
            except StoreError:
                answer = None
            if isinstance(answer, Answer):
                return answer, time.monotonic() - started
            assert time.monotonic() < started + FAILOVER_S, self.told
            await asyncio.sleep(0.02)


def window_key(name: str) -> bytes:
    return f"sentinel:w:{{{name}}}:3600000".encode()
