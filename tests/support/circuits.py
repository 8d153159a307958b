"""Shared breakers whose time a test sets: memory, and the real Lua in a real Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sentinel_ext.core.breaker import BreakerOptions, Force, View
from sentinel_ext.core.tally import Batch, Tally
from sentinel_ext.store.circuits import (
    Acquire,
    CircuitStore,
    MemoryCircuits,
    Obey,
    Operation,
    RedisCircuits,
    Release,
    Report,
    Result,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from support.redis_server import RedisServer

    from sentinel_ext.store.link import Script

T = TypeVar("T")

START_MS = 1_790_000_000_000
COOLDOWN_MS = 1_000
TTL_MS = 400
OPTIONS = BreakerOptions(
    failure_threshold=0.5,
    consecutive_failures=4,
    min_requests=10,
    window_ms=1_000,
    cooldown_ms=COOLDOWN_MS,
    half_open_max=3,
    successes_needed=2,
    probe_ttl_ms=TTL_MS,
    slow_rate=0.6,
)
FAIL = Batch(failed=4, lead=4, trail=4, longest=4)
UP = "orders"
# Trips at once and tries soon, so that short schedules see all states.
JUMPY = msgspec.structs.replace(OPTIONS, consecutive_failures=2, slow_rate=None)


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never waits, without a loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits for something")


def tallied(text: str) -> Batch:
    """Count o and S as successes, f and F as failures, S and F as slow."""
    tally = Tally()
    for letter in text:
        tally.add(letter in "oS", letter in "SF")
    return tally.batch(0)


class Timed:
    """A store whose time a test sets, and one operation at a time."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.store: CircuitStore = MemoryCircuits(lambda: self.now_ms)

    async def do(self, operation: Operation) -> tuple[bool, View]:
        (reply,) = await self.store.call([operation])
        return reply

    async def report(self, epoch: int, batch: Batch, options: BreakerOptions = OPTIONS) -> tuple[bool, View]:
        return await self.do(Report(UP, options, epoch, batch))

    async def acquire(self, permit: str, options: BreakerOptions = OPTIONS) -> tuple[bool, View]:
        return await self.do(Acquire(UP, options, permit))

    async def result(self, epoch: int, permit: str, ok: bool) -> tuple[bool, View]:
        return await self.do(Result(UP, OPTIONS, epoch, permit, ok))

    async def release(self, permit: str) -> tuple[bool, View]:
        return await self.do(Release(UP, OPTIONS, permit))

    async def force(self, mode: Force) -> tuple[bool, View]:
        return await self.do(Obey(UP, OPTIONS, mode))

    async def view(self, epoch: int = 0) -> View:
        return (await self.report(epoch, Batch()))[1]

    async def half_open(self) -> View:
        """Trip it and let the cooldown pass."""
        _, opened = await self.report((await self.view()).epoch, FAIL)
        self.now_ms += opened.retry_ms
        return await self.view()


class TimedRedis(Timed):
    """The package's own script, but for its one line that asks the server for the time."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        self.client = server.client()
        self.client.flushall()
        self.store = RedisCircuits(self._run, "instance-a")

    async def _run(self, script: Script, keys: Sequence[bytes], *args: bytes | str | int) -> Any:
        # As arguments of its own, or Redis would keep one script per moment.
        text = script.text.decode()
        assert 1 == text.count("redis.call('TIME')")
        text = text.replace("redis.call('TIME')", "{ARGV[2], ARGV[3]}")
        seconds, millis = divmod(self.now_ms, 1000)
        return self.client.eval(text, len(keys), *keys, *args, seconds, millis * 1000)
