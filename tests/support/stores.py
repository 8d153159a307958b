"""Stores whose time a test sets: memory, and the real Lua in a real Redis."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Protocol

from sentinel_ext.store.memory import MemoryStore
from sentinel_ext.store.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.redis_server import RedisServer

    from sentinel_ext.store.base import Store

START_US = 1_790_000_000_000_000  # a date of 2026, so that numbers have their real size
_NOW_KEY = "test:now"


class TimedStore(Protocol):
    store: Store

    def set_time(self, now_us: int) -> None: ...


class TimedMemory:
    def __init__(self) -> None:
        self._now_us = START_US
        self.store = MemoryStore(lambda: self._now_us)

    def set_time(self, now_us: int) -> None:
        self._now_us = now_us


class TimedRedis:
    """The package's own script, but for its one line that asks the server for the time."""

    def __init__(self, server: RedisServer) -> None:
        self._client = server.client()
        self._client.flushall()
        store = make_redis_store(server.url)
        text = store._window.text
        assert text.count(b"redis.call('TIME')") == 1
        at = f"(function() local t = redis.call('GET', '{_NOW_KEY}') "
        at += "return {math.floor(t / 1000000), t % 1000000} end)()"
        store._window.text = text.replace(b"redis.call('TIME')", at.encode())
        store._window.digest = b"0" * 40  # unknown to Redis: the text travels each time
        self.store = store
        self.set_time(START_US)

    def set_time(self, now_us: int) -> None:
        self._client.set(_NOW_KEY, now_us)

    def close(self) -> None:
        self._client.close()


def make_redis_store(url: str, changed: Callable[[bool, str], None] = lambda _up, _why: None) -> RedisStore:
    return RedisStore(url, links=2, jitter=random.Random(7).random, changed=changed)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition without guessing how long it takes."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
