"""Files of envoyproxy/ratelimit through a real Envoy's `ratelimit` filter, with a real Redis."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import pytest
from support import ratelimit_envoy
from support.fleet import Sentinel, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from support.envoy import EnvoyProcess
    from support.redis_server import RedisServer

pytestmark = pytest.mark.e2e

RULES = """
domain: shop
descriptors:
  - key: user
    rate_limit: {name: per-user, unit: hour, requests_per_unit: 3}
    descriptors:
      - key: team
        value: red
        rate_limit: {unit: day, requests_per_unit: 2}
  - key: user
    value: shadow-*
    shadow_mode: true
    rate_limit: {unit: hour, requests_per_unit: 1}
  - key: user
    value: free
  - key: user
    value: heavy-*
    rate_limit: {unit: hour, requests_per_unit: 10}
  - key: user
    value: sliding-*
    rate_limit: {per: 90s, requests_per_unit: 2, algorithm: sliding_window}
  - key: user
    value: open-*
    rate_limit: {unit: hour, requests_per_unit: 1, on_store_failure: local}
  - key: user
    value: tiered-*
    rate_limit: {unit: hour, requests_per_unit: 2, tier: economy}
  - key: team
    rate_limit: {unit: hour, requests_per_unit: 100}
"""
_numbers = itertools.count()


def somebody(kind: str = "user") -> str:
    """A user nobody has counted yet."""
    return f"{kind}-{next(_numbers)}"


@dataclass
class Gateway:
    sentinel: Sentinel
    envoy: EnvoyProcess
    base: str
    session: aiohttp.ClientSession

    async def get(self, path: str, user: str, **headers: str) -> tuple[int, dict[str, str]]:
        sent = {"x-user": user, **headers}
        async with self.session.get(self.base + path, headers=sent) as response:
            await response.read()
            return response.status, {name.lower(): value for name, value in response.headers.items()}

    async def statuses(self, path: str, user: str, count: int, **headers: str) -> list[int]:
        return [(await self.get(path, user, **headers))[0] for _ in range(count)]


@pytest.fixture(scope="module")
async def gateway(shared_redis: RedisServer, module_folder: Path, grpc_server: str) -> AsyncIterator[Gateway]:
    with shared_redis.client() as client:
        client.flushall()  # of the run on the other server
    rules = module_folder / "rules"
    rules.mkdir(exist_ok=True)
    (rules / "shop.yaml").write_text(RULES)
    environment = {
        "REDIS_URL": shared_redis.url,
        "RATELIMIT_CONFIG_DIR": str(rules),
        "RATELIMIT_HEADERS": "draft",
        "STORE_TIMEOUT_MS": "2000",
    }
    sentinel = Sentinel(module_folder, environment)
    sentinel.start()
    async with Upstream() as upstream, aiohttp.ClientSession() as session:
        await sentinel.ready()
        envoy, port = await asyncio.to_thread(
            ratelimit_envoy.start, module_folder, sentinel.grpc_port, upstream.port, name=grpc_server
        )
        try:
            yield Gateway(sentinel, envoy, f"http://127.0.0.1:{port}", session)
        finally:
            envoy.stop()
            sentinel.stop()


async def test_the_limit_passes_and_envoy_tells_the_numbers(gateway: Gateway) -> None:
    user = somebody()
    answers = [await gateway.get("/", user) for _ in range(4)]

    assert [200, 200, 200, 429] == [status for status, _ in answers]
    assert ["2", "1", "0", "0"] == [headers["x-ratelimit-remaining"] for _, headers in answers]
    first, refused = answers[0][1], answers[3][1]
    assert '3, 3;w=3600;name="per-user"' == first["x-ratelimit-limit"]
    assert 0 < int(first["x-ratelimit-reset"]) <= 3600
    assert '"per-user";q=3;w=3600' == first["ratelimit-policy"]
    assert "retry-after" not in first
    assert 0 < int(refused["retry-after"]) <= 3600
    assert "rate_limited" == refused["x-sentinel-reason"]
    assert "true" == refused["x-envoy-ratelimited"]


async def test_users_have_counters_of_their_own_and_an_exempt_one_none(gateway: Gateway) -> None:
    assert [200] * 3 == await gateway.statuses("/", somebody(), 3)
    assert [200] * 6 == await gateway.statuses("/", "free", 6)


async def test_shadow_mode_lets_pass(gateway: Gateway) -> None:
    assert [200] * 4 == await gateway.statuses("/", somebody("shadow"), 4)


async def test_nested_and_several_descriptors(gateway: Gateway) -> None:
    user = somebody()

    assert [200, 200, 429] == await gateway.statuses("/nested", user, 3, **{"x-team": "red"})
    assert [200] * 4 == await gateway.statuses("/nested", user, 4, **{"x-team": "blue"})
    assert [200, 200, 200, 429] == await gateway.statuses("/two", user, 4, **{"x-team": "green"})


async def test_costs_and_refunds_of_the_route(gateway: Gateway) -> None:
    user = somebody("heavy")

    assert [200, 200, 429] == await gateway.statuses("/heavy", user, 3)
    assert [200] * 3 == await gateway.statuses("/refund", user, 3)  # 15 - 6
    assert [200, 429] == await gateway.statuses("/", user, 2)


async def test_a_window_of_any_length_that_slides(gateway: Gateway) -> None:
    assert [200, 200, 429] == await gateway.statuses("/", somebody("sliding"), 3)


async def test_what_happened_is_in_the_metrics_by_rule(gateway: Gateway) -> None:
    await gateway.statuses("/", somebody(), 5)
    samples = await gateway.sentinel.metrics()

    assert samples['sentinel_ratelimit_over_limit_total{domain="shop",rule="user"}'] >= 2
    assert samples['sentinel_ratelimit_decisions_total{cause="rate_limited",verdict="over_limit"}'] >= 2


async def test_how_requests_of_a_limit_with_a_tier_end_comes_back_through_the_log(gateway: Gateway) -> None:
    def counted(samples: dict[str, float]) -> list[float]:
        names = [f'sentinel_access_log_entries_total{{result="{word}"}}' for word in ("counted", "denied")]
        return [samples.get(name, 0.0) for name in names]

    before = counted(await gateway.sentinel.metrics())
    assert [200, 200, 429] == await gateway.statuses("/", somebody("tiered"), 3)

    async with asyncio.timeout(10):
        while True:
            after = counted(await gateway.sentinel.metrics())
            if [before[0] + 2, before[1] + 1] == after:
                return
            await asyncio.sleep(0.05)


async def test_an_operator_resets_and_refunds_only_where_allowed(gateway: Gateway) -> None:
    body = {"domain": "shop", "entries": [["user", "somebody"]]}
    async with gateway.session.post(f"{gateway.sentinel.admin}/ratelimits/reset", json=body) as response:
        assert 403 == response.status
    async with gateway.session.get(f"{gateway.sentinel.admin}/ratelimits") as response:
        assert "per-user" in await response.text()


@pytest.mark.parametrize(("deny", "expected"), [(False, 200), (True, 500)])
async def test_a_lost_store_is_for_failure_mode_deny_to_decide(
    gateway: Gateway, tmp_path: Path, *, deny: bool, expected: int, grpc_server: str
) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "shop.yaml").write_text(RULES)
    environment = {
        "REDIS_URL": "redis://127.0.0.1:1",  # nobody listens
        "RATELIMIT_CONFIG_DIR": str(tmp_path / "rules"),
    }
    sentinel = Sentinel(tmp_path, environment)
    sentinel.start()
    try:
        async with Upstream() as upstream:
            await _alive(gateway.session, sentinel)
            envoy, port = await asyncio.to_thread(
                ratelimit_envoy.start,
                tmp_path,
                sentinel.grpc_port,
                upstream.port,
                deny=deny,
                name=grpc_server,
            )
            lost = Gateway(sentinel, envoy, f"http://127.0.0.1:{port}", gateway.session)
            try:
                assert [expected] * 2 == await lost.statuses("/", somebody(), 2)
                assert [200, 429] == await lost.statuses("/", somebody("open"), 2)
            finally:
                envoy.stop()
    finally:
        sentinel.stop()


async def _alive(session: aiohttp.ClientSession, sentinel: Sentinel) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                async with session.get(f"{sentinel.admin}/healthz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


async def test_many_at_once_admit_exactly_the_limit(gateway: Gateway) -> None:
    user = somebody("heavy")
    send: Callable[[], object] = lambda: gateway.get("/", user)  # noqa: E731
    answers = await asyncio.gather(*(send() for _ in range(60)))

    assert 10 == sum(status == 200 for status, _ in answers)
