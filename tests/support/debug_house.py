"""Two instances that share a Redis, and clients of their debug ports."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.debug_client import DebugClient
from support.envoy import free_port
from support.fleet import Sentinel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from support.redis_server import RedisServer

POLICY = """
plans:
  gold: {tier: vital, limit: 1000, window: 60s}
  small: {limit: 3, window: 60s}
  tight: {tier: economy, limit: 100, window: 60s, burst: 2, refill: 1/s}
default_plan: small
tenants: {acme: gold, "tight-*": tight, banned: {limit: 0}}
upstreams: {orders: {}, search: {breaker: off}}
ratelimit:
  domain: shop
  descriptors:
    - {key: user, rate_limit: {unit: hour, requests_per_unit: 2}}
    - {key: user, value: vip, rate_limit: {unlimited: true}}
"""
_numbers = itertools.count()


def somebody(kind: str = "t") -> str:
    """A tenant that nobody has seen."""
    return f"{kind}-{next(_numbers)}"


@dataclass
class House:
    """`first` may act; `second` may not, and has no policy file of its own."""

    first: DebugClient
    second: DebugClient
    processes: tuple[Sentinel, Sentinel]


@asynccontextmanager
async def started(redis: RedisServer, folder: Path) -> AsyncIterator[House]:
    with redis.client() as client:
        client.flushall()
    (folder / "policy.yaml").write_text(POLICY)
    ports = [free_port(), free_port()]
    shared = {"REDIS_URL": redis.url, "STORE_TIMEOUT_MS": "2000"}
    acting = {
        "ADMIN_ACTIONS": "true",
        "POLICY_FILE": str(folder / "policy.yaml"),
        "RATELIMIT_HEADERS": "legacy",
    }
    processes = tuple(
        Sentinel(folder, {**shared, **more, "DEBUG_GRPC_ADDRESS": f"127.0.0.1:{port}"})
        for port, more in zip(ports, (acting, {"BASE_RATE_LIMIT": "3"}), strict=True)
    )
    for process in processes:
        process.start()
    try:
        for process in processes:
            await process.ready()
        first, second = (DebugClient(f"127.0.0.1:{port}") for port in ports)
        async with first, second:
            yield House(first, second, processes)
    finally:
        for process in processes:
            process.discard()


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + 20
    while not await condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def explain(client: DebugClient, tenant: str, **more: Any) -> Any:
    return await client.call("Explain", request={"tenant": tenant, **more})
