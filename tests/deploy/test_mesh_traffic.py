"""Every recipe that is Envoy's configuration, before a real Sentinel: Check, rate limits, the access log."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from support.envoy import EnvoyProcess, free_port, validate
from support.fleet import Reply, Sentinel, Upstream
from support.manifests import RECIPES
from support.mesh import MESHES, localised

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.redis_server import RedisServer

pytestmark = pytest.mark.e2e

WAIT_S = 10.0
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ADDRESSES = {"GRPC_ADDRESS", "ADMIN_ADDRESS", "REDIS_URL"}
# Where nothing takes a client's tier away before Sentinel is asked; its answers overwrite it.
KEEPS_TIER = {"cilium"}


@dataclass
class House:
    """What all recipes share."""

    sentinel: Sentinel
    upstream: Upstream
    session: aiohttp.ClientSession
    folder: Path


@dataclass
class Gateway:
    """One recipe's Envoy."""

    house: House
    name: str
    port: int

    async def get(self, tenant: str, **headers: str) -> Reply:
        sent = {"x-tenant-id": tenant, "host": "shop.example.com", **headers}
        started = time.perf_counter()
        async with self.house.session.get(f"http://127.0.0.1:{self.port}/basket", headers=sent) as response:
            got = {key.lower(): value for key, value in response.headers.items()}
            return Reply(response.status, got, await response.text(), time.perf_counter() - started)

    async def until_refused(self, tenant: str, *, by_rate_limit_service: bool) -> Reply:
        """Send until a 429 comes from the one or the other; Envoy marks those of the rate limit service."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for reply in await asyncio.gather(*(self.get(tenant) for _ in range(60))):
                if (429, by_rate_limit_service) == (reply.status, "x-envoy-ratelimited" in reply.headers):
                    return reply
        raise AssertionError(f"no 429 for {tenant}")


@pytest.fixture(scope="module")
async def house(shared_redis: RedisServer, module_folder: Path) -> AsyncIterator[House]:
    """Sentinel, started from the recipe's own environment and policy."""
    recipe = RECIPES / "envoy"
    shutil.copy(recipe / "policy.yaml", module_folder)
    lines = (recipe / "sentinel.env").read_text().splitlines()
    told = dict(line.split("=", 1) for line in lines)
    assert set(told) >= ADDRESSES
    own = {name: value for name, value in told.items() if name not in ADDRESSES}
    sentinel = Sentinel(module_folder, {**own, "REDIS_URL": shared_redis.url})
    sentinel.start()
    try:
        async with Upstream() as upstream, aiohttp.ClientSession() as session:
            await sentinel.ready()
            yield House(sentinel, upstream, session, module_folder)
    finally:
        sentinel.stop()


@pytest.fixture(scope="module", params=MESHES)
async def gateway(request: pytest.FixtureRequest, house: House) -> AsyncIterator[Gateway]:
    async with started(house, request.param) as gateway:
        yield gateway


@asynccontextmanager
async def started(house: House, name: str, sentinel_port: int | None = None) -> AsyncIterator[Gateway]:
    """Let Envoy judge a recipe, then run it."""
    port, admin_port = free_port(), free_port()
    config = localised(
        MESHES[name](),
        port=port,
        admin_port=admin_port,
        sentinel_port=sentinel_port or house.sentinel.grpc_port,
        upstream_port=house.upstream.port,
    )
    path = house.folder / f"{name}-{port}.json"
    path.write_text(json.dumps(config))
    judged = await asyncio.to_thread(validate, path)
    assert (0, False) == (judged.returncode, "deprecated" in judged.stderr.lower()), judged.stderr
    envoy = EnvoyProcess(path, admin_port)
    try:
        await asyncio.to_thread(envoy.start)
        yield Gateway(house, name, port)
    finally:
        envoy.stop()


async def test_an_allowed_request_has_its_headers_on_both_sides(gateway: Gateway) -> None:
    tenant = f"first-{gateway.name}"
    sent = {"x-correlation-id": f"c-{gateway.name}", "traceparent": TRACE, "x-sentinel-tier": "vital"}
    reply = await gateway.get(tenant, **sent)
    seen = json.loads(reply.body)["headers"]

    assert (200, sent["x-correlation-id"]) == (reply.status, reply.headers["x-correlation-id"])
    assert {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"} <= reply.headers.keys()
    assert (tenant, "standard") == (seen["x-tenant-id"], seen["x-sentinel-tier"])
    assert TRACE.split("-")[1] == seen["traceparent"].split("-")[1]


async def test_check_refuses_past_its_limit(gateway: Gateway) -> None:
    tenant = f"second-{gateway.name}"
    refused = await gateway.until_refused(tenant, by_rate_limit_service=False)

    assert refused.headers["x-sentinel-reason"] in {"local_rate_limited", "rate_limited"}
    assert "retry-after" in refused.headers
    assert {"orders"} == {line["upstream"] for line in logged(gateway.house.sentinel, tenant)}


def logged(sentinel: Sentinel, tenant: str) -> list[dict[str, Any]]:
    """Return the log lines of a tenant's refusals."""
    lines = (json.loads(line) for line in sentinel.log.read_text().splitlines())
    found = [line for line in lines if line.get("tenant") == tenant]
    assert found
    return found


async def test_the_rate_limit_service_refuses_past_its_rule(gateway: Gateway) -> None:
    """Acme has a large plan: what it meets first is the rule of 100 a second."""
    if gateway.name == "istio-sidecar":
        assert "ratelimit" not in json.dumps(MESHES[gateway.name]())
        return
    refused = await gateway.until_refused("acme", by_rate_limit_service=True)

    assert "rate_limited" == refused.headers["x-sentinel-reason"]


async def test_the_access_log_arrives_with_the_route(gateway: Gateway) -> None:
    names = (
        'sentinel_access_log_entries_total{result="counted"}',
        'sentinel_http_requests_total{method="GET",route="orders",status="200"}',
    )
    before = await gateway.house.sentinel.metrics()
    await gateway.get(f"third-{gateway.name}")
    deadline = time.monotonic() + WAIT_S
    while True:
        now = await gateway.house.sentinel.metrics()
        if all(now.get(name, 0) > before.get(name, 0) for name in names):
            return
        assert time.monotonic() < deadline, [(name, before.get(name), now.get(name)) for name in names]
        await asyncio.sleep(0.02)


async def test_requests_pass_while_sentinel_is_away(gateway: Gateway) -> None:
    """A second Envoy of the recipe, whose Sentinel does not answer; a client's tier must not get through."""
    async with started(gateway.house, gateway.name, free_port()) as alone:
        reply = await alone.get("acme", **{"x-sentinel-tier": "vital"})

    assert 200 == reply.status
    assert (gateway.name in KEEPS_TIER) == ("x-sentinel-tier" in json.loads(reply.body)["headers"])
