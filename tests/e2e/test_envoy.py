"""What clients and upstreams see through a real Envoy."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from support.fleet import Fleet, statuses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

POLICY = """
plans:
  gold:   {tier: vital, limit: 1000, window: 60s, burst: 200, refill: 100/s}
  tiny:   {tier: economy, limit: 2, window: 60s, burst: 200}
  none:   {limit: 0}
  free:   {limit: unlimited, burst: unlimited}
  silver: {}
default_plan: silver
tenants: {acme: gold, "trial-*": tiny, blocked: none, trusted: free}
"""


@pytest.fixture(scope="module", params=["tcp", "unix"])
async def fleet(
    request: pytest.FixtureRequest, module_folder: Path, grpc_server: str
) -> AsyncIterator[Fleet]:
    (module_folder / "policy.yaml").write_text(POLICY)
    environment = {
        "REDIS_URL": "memory://",
        "POLICY_FILE": str(module_folder / "policy.yaml"),
        "FAIL_OPEN": "false",
    }
    if request.param == "unix":
        environment["GRPC_ADDRESS"] = f"unix://{module_folder}/sentinel.sock"
    async with Fleet(module_folder, environment, config_arguments=("--check-timeout-ms", "5000")) as fleet:
        yield fleet


async def test_an_allowed_request_carries_ids_tier_and_numbers(fleet: Fleet) -> None:
    reply = await fleet.get("/proxy/orders?x=1", headers={"x-tenant-id": "acme", "x-sentinel-tier": "vital!"})
    arrived = json.loads(reply.body)

    assert 200 == reply.status
    assert ("1000", "999") == (reply.headers["x-ratelimit-limit"], reply.headers["x-ratelimit-remaining"])
    assert 1 <= int(reply.headers["x-ratelimit-reset"]) <= 66
    assert "/orders?x=1" == arrived["path"]
    assert "vital" == arrived["headers"]["x-sentinel-tier"]
    assert reply.headers["x-correlation-id"] == arrived["headers"]["x-correlation-id"]
    assert re.fullmatch("[0-9a-f]{32}", reply.headers["x-correlation-id"])
    trace = re.fullmatch("00-([0-9a-f]{32})-[0-9a-f]{16}-00", arrived["headers"]["traceparent"])
    assert trace is not None
    assert reply.headers["x-correlation-id"] == trace[1]


async def test_valid_ids_of_the_caller_are_kept_and_broken_ones_replaced(fleet: Fleet) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    kept = await fleet.get(headers={"x-correlation-id": "order-17:a", "traceparent": trace})
    broken = await fleet.get(headers={"x-correlation-id": "a b\tc", "traceparent": "00-0-0-0"})

    assert "order-17:a" == kept.headers["x-correlation-id"]
    assert trace == json.loads(kept.body)["headers"]["traceparent"]
    assert "a b\tc" != broken.headers["x-correlation-id"]
    assert "00-0-0-0" != json.loads(broken.body)["headers"]["traceparent"]


async def test_a_refusal_says_why_and_when_to_come_back(fleet: Fleet) -> None:
    seen = fleet.upstream.seen
    replies = [
        await fleet.get(headers={"x-tenant-id": "trial-7", "x-correlation-id": "c-1"}) for _ in range(3)
    ]
    refused = replies[-1]
    problem = json.loads(refused.body)

    assert [200, 200, 429] == [reply.status for reply in replies]
    assert "application/problem+json" == refused.headers["content-type"]
    assert "rate_limited" == refused.headers["x-sentinel-reason"] == problem["reason"]
    assert "c-1" == refused.headers["x-correlation-id"] == problem["correlation_id"]
    assert ("2", "0") == (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"])
    assert 1 <= int(refused.headers["retry-after"]) == problem["retry_after"] <= 66
    assert 429 == problem["status"]
    assert "trial-7" in problem["detail"]
    assert 2 == fleet.upstream.seen - seen


async def test_deny_all_and_unlimited(fleet: Fleet) -> None:
    blocked = await fleet.get(headers={"x-tenant-id": "blocked"})
    trusted = await fleet.send(300, "trusted", 16)

    assert 429 == blocked.status
    assert "its limit is 0" in json.loads(blocked.body)["detail"]
    assert {200: 300} == statuses(trusted)
    assert "x-ratelimit-limit" not in trusted[0].headers


@pytest.mark.parametrize(
    "name",
    ["", "   ", "a" * 257, "b" * 50_000, "tab\there", "caf\u00e9".encode("latin-1").decode("latin-1")],
    ids=["empty", "blank", "257 bytes", "50 kB", "tab", "not ascii"],
)
async def test_hostile_tenant_names_get_an_answer_and_harm_nobody(fleet: Fleet, name: str) -> None:
    reply = await fleet.get(headers={"x-tenant-id": name})
    other = await fleet.get(headers={"x-tenant-id": "acme"})

    assert 200 == reply.status
    if len(name) > 256 or "\t" in name:
        assert "ignored" in reply.headers["x-sentinel-warning"]
    assert "1000" == other.headers["x-ratelimit-limit"]


async def test_a_megabyte_of_tenant_name_is_refused_by_envoy_and_serving_goes_on(fleet: Fleet) -> None:
    reply = await fleet.get(headers={"x-tenant-id": "x" * 1_000_000})

    assert 431 == reply.status
    assert 200 == (await fleet.get(headers={"x-tenant-id": "acme"})).status
