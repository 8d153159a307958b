"""The promise through the real thing: two Sentinels, two Envoys, one Redis."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from support.fleet import Fleet, statuses

from sentinel_ext.core.window import SUBWINDOWS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.redis_server import RedisServer

pytestmark = pytest.mark.e2e

LIMIT = 100
STORE_CALLS = "sentinel_store_duration_seconds_count"
POLICY = f"""
plans:
  strict: {{limit: {LIMIT}, window: 60s, burst: unlimited}}
  short:  {{limit: 20, window: 2s, burst: unlimited}}
  bucket: {{limit: unlimited, burst: 5, refill: 0.01/s}}
  both:   {{limit: 3, window: 1h, burst: 10, refill: 0.001/s}}
default_plan: strict
tenants: {{"short-*": short, "bucket-*": bucket, "both-*": both}}
"""


@pytest.fixture(scope="module")
async def fleet(shared_redis: RedisServer, module_folder: Path, grpc_server: str) -> AsyncIterator[Fleet]:
    with shared_redis.client() as client:
        client.flushall()  # of the run on the other server
    (module_folder / "policy.yaml").write_text(POLICY)
    environment = {
        "REDIS_URL": shared_redis.url,
        "POLICY_FILE": str(module_folder / "policy.yaml"),
        # This file measures the window, not the failure modes: a busy test machine must not reach them.
        "STORE_TIMEOUT_MS": "2000",
        "FAIL_OPEN": "false",
    }
    async with Fleet(
        module_folder, environment, size=2, config_arguments=("--check-timeout-ms", "10000")
    ) as fleet:
        yield fleet


async def fallbacks(fleet: Fleet) -> float:
    totals = 0.0
    for sentinel in fleet.sentinels:
        samples = await sentinel.metrics()
        totals += sum(v for name, v in samples.items() if name.startswith("sentinel_store_fallbacks_total"))
    return totals


async def test_three_times_the_limit_at_once_admits_the_limit_and_never_more(fleet: Fleet) -> None:
    seen = fleet.upstream.seen
    replies = await fleet.send(3 * LIMIT, "acme", concurrency=3 * LIMIT)
    counted = statuses(replies)

    assert {200, 429} == set(counted)
    # All fall into at most two neighbouring sub-windows, so nothing is lost to the ring's granularity.
    assert LIMIT * (1 - 1 / SUBWINDOWS) <= counted[200] <= LIMIT
    assert fleet.upstream.seen - seen == counted[200]
    assert 0 == await fallbacks(fleet)


async def test_no_window_of_sustained_traffic_holds_more_than_the_limit(fleet: Fleet) -> None:
    """Three windows of traffic at several times the limit; every admission is checked against all others."""
    limit, window_s = 20, 2.0
    admitted: list[tuple[float, float]] = []
    ends = time.monotonic() + 3 * window_s

    async def sender(instance: int) -> None:
        while (sent := time.monotonic()) < ends:
            reply = await fleet.get(instance=instance, headers={"x-tenant-id": "short-1"})
            if reply.status == 200:
                admitted.append((sent, time.monotonic()))
            await asyncio.sleep(0.01)

    await asyncio.gather(*(sender(i % 2) for i in range(6)))

    # An admission happened between sending and receiving. Those that surely lie within one window: sent after
    # its beginning, received before its end.
    for begin, _ in admitted:
        assert limit >= sum(begin <= sent and received <= begin + window_s for sent, received in admitted)
    # Steady demand is served: at least (1 - 1/k) of the limit per window over the whole span.
    assert len(admitted) >= 3 * limit * (1 - 1 / SUBWINDOWS)
    assert 0 == await fallbacks(fleet)


async def test_the_bucket_belongs_to_an_instance_and_costs_no_round_trip(fleet: Fleet) -> None:
    asked = [(await sentinel.metrics())[STORE_CALLS] for sentinel in fleet.sentinels]
    replies = await fleet.send(20, "bucket-1", concurrency=1)

    assert {200: 10, 429: 10} == statuses(replies)  # a burst of 5 on each of two instances
    refused = next(reply for reply in replies if reply.status == 429)
    assert "local_rate_limited" == refused.headers["x-sentinel-reason"]
    assert asked == [(await sentinel.metrics())[STORE_CALLS] for sentinel in fleet.sentinels]


async def test_a_request_the_window_refuses_costs_its_bucket_nothing(fleet: Fleet) -> None:
    """Burst 10, limit 3: were refused requests charged, the bucket would run dry and give its own reason."""
    replies = [await fleet.get(headers={"x-tenant-id": "both-1"}) for _ in range(25)]

    assert {200: 3, 429: 22} == statuses(replies)
    assert {"rate_limited"} == {
        reply.headers["x-sentinel-reason"] for reply in replies if reply.status == 429
    }


async def test_remaining_counts_down_over_both_instances(fleet: Fleet) -> None:
    replies = [await fleet.get(instance=i % 2, headers={"x-tenant-id": "globex"}) for i in range(6)]

    assert [99, 98, 97, 96, 95, 94] == [int(reply.headers["x-ratelimit-remaining"]) for reply in replies]


async def test_two_instances_know_of_each_other(fleet: Fleet) -> None:
    async with asyncio.timeout(10):
        while [2.0, 2.0] != [(await s.metrics())["sentinel_instances"] for s in fleet.sentinels]:
            await asyncio.sleep(0.05)
