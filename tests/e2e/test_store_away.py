"""Redis stopped, frozen and restarted under traffic through Envoy."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from support.fleet import Fleet, Reply, statuses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.redis_server import RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("grpc_server")]

DEADLINE_S = 0.005
LIMIT = 40
POLICY = f"""
plans:
  open:   {{tier: vital,    limit: {LIMIT}, window: 1h, burst: unlimited}}
  closed: {{tier: standard, limit: {LIMIT}, window: 1h, burst: unlimited, on_store_failure: closed}}
  local:  {{tier: economy,  limit: {LIMIT}, window: 1h, burst: unlimited, on_store_failure: local}}
default_plan: local
tenants: {{vera: open, carl: closed, lola: local}}
"""


@pytest.fixture
async def fleet(redis_server: RedisServer, short_folder: Path) -> AsyncIterator[Fleet]:
    (short_folder / "policy.yaml").write_text(POLICY)
    environment = {
        "REDIS_URL": redis_server.url,
        "POLICY_FILE": str(short_folder / "policy.yaml"),
        "STORE_TIMEOUT_MS": str(round(DEADLINE_S * 1000)),
        "FAIL_OPEN": "false",  # what Envoy lets pass by itself must not look like Sentinel's decision
    }
    async with Fleet(short_folder, environment, config_arguments=("--check-timeout-ms", "5000")) as fleet:
        yield fleet


class Pauses:
    """Time in which the machine did not let this process run: on a shared one nobody's promise holds then."""

    def __init__(self) -> None:
        self.total = 0.0
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            due = time.monotonic() + 0.001
            await asyncio.sleep(0.001)
            late = time.monotonic() - due
            if late > 0.005:  # noise of timers is no pause
                self.total += late


async def ask(fleet: Fleet, tenant: str) -> Reply:
    return await fleet.get(headers={"x-tenant-id": tenant})


async def answered_exactly(fleet: Fleet, tenant: str) -> bool:
    """An answer of the shared window names what remains; a failure mode's answer does not (or is refused)."""
    reply = await ask(fleet, tenant)
    return reply.status == 200 and "x-ratelimit-remaining" in reply.headers


async def until_exact(fleet: Fleet, tenant: str) -> None:
    async with asyncio.timeout(15):
        while not await answered_exactly(fleet, tenant):
            await asyncio.sleep(0.02)


async def test_each_plan_does_what_it_says_while_redis_is_gone_and_counts_again_after(
    fleet: Fleet, redis_server: RedisServer
) -> None:
    for tenant in ("vera", "carl", "lola"):
        assert 200 == (await ask(fleet, tenant)).status

    redis_server.stop()
    replies = {tenant: await fleet.send(LIMIT + 20, tenant, 4) for tenant in ("vera", "carl", "lola")}

    assert {200: LIMIT + 20} == statuses(replies["vera"])
    assert {503: LIMIT + 20} == statuses(replies["carl"])
    assert {"store_unavailable"} == {reply.headers["x-sentinel-reason"] for reply in replies["carl"]}
    # One request was counted by Redis before: the local window starts from it.
    assert {200: LIMIT - 1, 429: 21} == statuses(replies["lola"])

    redis_server.start()
    await until_exact(fleet, "carl")
    async with asyncio.timeout(15):  # empty Redis: the whole limit again, exactly
        while (used := (await ask(fleet, "carl")).headers.get("x-ratelimit-remaining")) is None:
            await asyncio.sleep(0.02)
    assert {200: int(used), 429: LIMIT - int(used)} == statuses(await fleet.send(LIMIT, "carl", 4))


async def test_a_frozen_redis_makes_nobody_wait_longer_than_the_deadline(
    fleet: Fleet, redis_server: RedisServer
) -> None:
    """Through Envoy, client and all: the deadline plus 20 ms, for each of the requests of two seconds."""
    for tenant in ("vera", "carl", "lola"):
        await fleet.send(5, tenant, 1)  # connections are up, and how long a request takes by itself

    redis_server.freeze()
    pauses = Pauses()
    replies: dict[str, list[Reply]] = {"vera": [], "carl": [], "lola": []}
    for _ in range(60):
        for tenant, kept in replies.items():
            begun = pauses.total
            reply = await ask(fleet, tenant)
            reply.seconds -= pauses.total - begun
            kept.append(reply)
            await asyncio.sleep(0.005)

    slowest = max(reply.seconds for kept in replies.values() for reply in kept)
    pauses.stop()
    assert slowest <= DEADLINE_S + 0.020
    assert {200: 60} == statuses(replies["vera"])
    assert {503: 60} == statuses(replies["carl"])
    assert {200: LIMIT - 5, 429: 60 - (LIMIT - 5)} == statuses(replies["lola"])

    redis_server.thaw()
    await until_exact(fleet, "carl")
    # Exact again: what Redis counted before it froze still counts, and no more than the limit is admitted.
    assert LIMIT >= 5 + statuses(await fleet.send(LIMIT, "carl", 4))[200]


async def test_readiness_tells_the_store_is_away_and_stays_ready_where_plans_allow(
    fleet: Fleet, redis_server: RedisServer
) -> None:
    redis_server.stop()
    await ask(fleet, "lola")
    url = f"{fleet.sentinels[0].admin}/readyz"
    async with asyncio.timeout(10):
        while True:
            async with fleet.session.get(url) as response:
                ready, detail = response.status, await response.json()
            if not detail["store"]["available"]:
                break
            await asyncio.sleep(0.02)

    assert 200 == ready
    samples = await fleet.sentinels[0].metrics()
    assert 0 == samples["sentinel_store_up"]
    assert 1 <= samples['sentinel_store_fallbacks_total{mode="local"}']
