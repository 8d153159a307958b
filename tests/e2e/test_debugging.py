"""sentinel.v1.DecisionService of a fleet: two instances, one Redis; one may act, the other may not."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
from support.debug_house import House, explain, somebody, until

pytestmark = pytest.mark.e2e


async def test_explain_says_what_a_check_then_meets_and_takes_nothing(house: House) -> None:
    tenant = somebody()
    told = [(await explain(house.first, tenant)).get("allowed", False) for _ in range(10)]
    met = [await house.first.check(tenant) for _ in range(4)]
    refused = await explain(house.first, tenant)

    assert [True] * 10 == told
    assert [True, True, True, False] == met
    assert ("window", "rate_limited", 429) == (refused["stage"], refused["reason"], refused["http_status"])
    window = refused["stages"][-1]
    assert window["decides"]
    assert ("3", "3") == (window["window"]["used"], window["window"]["effective_limit"])
    assert "3 of 3 requests used in the last 1 min over all instances" in refused["sentence"]
    assert "raise `limit` of plan small" in refused["advice"]
    headers = {each["name"]: each["value"] for each in refused["client_headers"]}
    assert "rate_limited" == headers["x-sentinel-reason"]
    assert 0 < int(headers["retry-after"]) <= 66
    assert refused["body"].startswith("{")


async def test_explain_of_the_bucket_counts_its_tokens(house: House) -> None:
    tenant = somebody("tight")
    for _ in range(2):
        await house.first.check(tenant)
    refused = await explain(house.first, tenant)

    assert ("bucket", "local_rate_limited") == (refused["stage"], refused["reason"])
    assert 'tenants."tight-*"' == refused["identity"]["plan_rule"]
    assert "A pattern of the policy" in refused["identity"]["plan_why"]


async def test_explain_of_an_unknown_tenant_remembers_nobody(house: House) -> None:
    before = (await house.first.call("ListTenants"))["total"]
    found = await explain(house.first, somebody("stranger"), path="/orders?x=1", upstream="orders")
    unseen = await explain(house.first, somebody("stranger"), upstream="never-seen")

    assert not found["identity"].get("is_known", False)
    assert "default_plan" == found["identity"]["plan_rule"]
    assert "rules of upstreams.orders hold" in found["identity"]["upstream_why"]
    assert "rules of upstreams.default hold" in unseen["identity"]["upstream_why"]
    assert before == (await house.first.call("ListTenants"))["total"]
    pressed = [each["upstream"] for each in (await house.first.call("GetPressure"))["upstreams"]]
    assert "never-seen" not in pressed


async def test_explain_without_a_policy_says_so(house: House) -> None:
    found = await explain(house.second, "acme")
    nobody = await house.second.call("Explain", request={})
    limits = {"domain": "shop", "descriptors": [{"entries": [{"key": "user", "value": "u"}]}]}
    undecided = await house.second.call("Explain", rate_limit=limits)

    assert "No policy names any tenant (POLICY_FILE)" in found["identity"]["plan_why"]
    assert "anonymous" == nobody["identity"]["tenant"]
    assert "none of these names the tenant: header x-tenant-id" in nobody["identity"]["plan_why"]
    assert "failure_mode_deny" in undecided["sentence"]
    assert "RATELIMIT_CONFIG_DIR" in undecided["advice"]


async def test_explain_takes_what_envoy_sends(house: House) -> None:
    check = {
        "attributes": {
            "request": {"http": {"headers": {"x-tenant-id": "acme", "x-correlation-id": "c-1"}}},
            "context_extensions": {"upstream": "search"},
        }
    }
    found = await house.first.call("Explain", check=check)

    assert ("acme", "search") == (found["identity"]["tenant"], found["identity"]["upstream"])
    assert {"name": "x-correlation-id", "value": "c-1"} in found["client_headers"]
    breaker = next(stage for stage in found["stages"] if stage["stage"] == "breaker")
    assert ("none", "none") == (breaker["verdict"], breaker["breaker"]["state"])


async def test_explain_of_rate_limits_takes_nothing_either(house: House) -> None:
    user = somebody("user")

    def asking(value: str) -> dict[str, Any]:
        return {"domain": "shop", "descriptors": [{"entries": [{"key": "user", "value": value}]}]}

    free = [await house.first.call("Explain", rate_limit=asking(user)) for _ in range(5)]
    costly = await house.first.call("Explain", rate_limit={**asking(user), "hits_addend": 3})
    vip = await house.first.call("Explain", rate_limit=asking("vip"))
    other = {"domain": "shop", "descriptors": [{"entries": [{"key": "color", "value": "red"}]}]}
    unmatched = await house.first.call("Explain", rate_limit=other)

    assert [True] * 5 == [each["allowed"] for each in free]
    assert "matches by its key alone" in free[0]["descriptors"][0]["why"]
    assert ("rate_limited", 429) == (costly["reason"], costly["http_status"])
    (limit,) = costly["descriptors"][0]["limits"]
    assert (True, "fixed_window", "2", "3") == (
        limit["over"],
        limit["algorithm"],
        limit["limit"],
        limit["hits"],
    )
    assert "The rule is unlimited." == vip["descriptors"][0]["why"]
    assert "No rule of the domain matches" in unmatched["descriptors"][0]["why"]


async def test_explain_of_rate_limits_tells_the_headers_that_then_come(house: House) -> None:
    entry = {"key": "user", "value": somebody("user")}
    request = {"domain": "shop", "descriptors": [{"entries": [entry]}]}
    for remaining in ("1", "0", "0"):
        explained = await house.first.call("Explain", rate_limit=request)
        told = {each["name"]: each["value"] for each in explained["client_headers"]}
        met = await house.first.should_rate_limit(request)

        waits = [
            (int(told[name]), int(met[name])) for name in ("ratelimit-reset", "retry-after") if name in met
        ]
        assert all(0 <= before - after <= 1 for before, after in waits)
        assert met == told | {name: met[name] for name in ("ratelimit-reset", "retry-after") if name in told}
        assert remaining == met["ratelimit-remaining"]
    assert "rate_limited" == told["x-sentinel-reason"]
    assert not explained.get("allowed", False)
    assert "2 of 2 hits used in 1 h" in explained["sentence"]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({}, "one of check, rate_limit and request"),
        ({"request": {"path": "orders"}}, "request.path"),
        ({"request": {"path": "/a b"}}, "request.path"),
        ({"request": {"path": "/" + "x" * 9000}}, "request.path"),
        ({"request": {"method": "G T"}}, "request.method"),
        ({"request": {"headers": {"X-Upper": "1"}}}, "request.headers"),
        ({"rate_limit": {"domain": ""}}, "domain must not be empty"),
    ],
)
async def test_explain_refuses_what_no_request_can_be(house: House, request_: Any, text: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await house.first.call("Explain", **request_)
    assert grpc.StatusCode.INVALID_ARGUMENT == error.value.code()
    assert text in (error.value.details() or "")


async def test_a_hostile_name_is_told_as_ignored(house: House) -> None:
    found = await explain(house.first, "x" * 300)

    assert "anonymous" == found["identity"]["tenant"]
    assert "longer than 256 bytes" in found["identity"]["problem"]


async def test_tenants_are_ranked_filtered_and_counted(house: House) -> None:
    names = [somebody("ranked") for _ in range(3)]
    for name, count in zip(names, (1, 4, 2), strict=True):
        for _ in range(count):
            await house.first.check(name)
    by_denied = await house.first.call("ListTenants", order_by="denied", prefix="ranked-")
    by_used = await house.first.call("ListTenants", order_by="used", prefix="ranked-", limit=2)
    one = await house.first.call("GetTenant", tenant=names[2])

    assert names[1] == by_denied["tenants"][0]["tenant"]
    assert "1" == by_denied["tenants"][0]["denied"]
    assert [names[1], names[2]] == [each["tenant"] for each in by_used["tenants"]]
    assert ("2", "3", True) == (
        one["tenant"]["used"], one["tenant"]["effective_limit"], one["tenant"]["is_known"],
    )  # fmt: skip
    for wrong in ({"limit": 1001}, {"order_by": "size"}):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await house.first.call("ListTenants", **wrong)
        assert grpc.StatusCode.INVALID_ARGUMENT == error.value.code()


async def test_an_upstream_that_nobody_knows_is_not_found(house: House) -> None:
    for method, text in (("GetPressure", "known: default"), ("ListBreakers", "known: default")):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await house.second.call(method, upstream="nowhere")
        assert grpc.StatusCode.NOT_FOUND == error.value.code()
        assert text in (error.value.details() or "")


async def test_a_watcher_sees_what_it_asked_for(house: House) -> None:
    tenant, other = somebody(), somebody()
    call = house.first.watch(tenants=[tenant], verdict="deny")
    await until(lambda: _is_watched(house), "nobody watches")
    for name in [other] * 4 + [tenant] * 4:
        await house.first.check(name)
    event = await asyncio.wait_for(call.read(), 10)
    call.cancel()

    assert (tenant, False, "rate_limited", "window") == (
        event.tenant, event.allowed, event.reason, event.stage,
    )  # fmt: skip
    assert abs(event.time.ToSeconds() - time.time()) < 60
    await until(lambda: _is_watched(house, 0), "the watcher stays")


async def _is_watched(house: House, count: int = 1) -> bool:
    return count == (await house.processes[0].metrics())["sentinel_watchers"]


async def test_a_watcher_that_does_not_read_misses_and_holds_nobody_up(house: House) -> None:
    call = house.first.watch()
    await until(lambda: _is_watched(house), "nobody watches")
    missed = (await house.processes[0].metrics())["sentinel_watch_missed_total"]
    tenant = somebody()
    for _ in range(30):
        await asyncio.gather(*(house.first.check(tenant) for _ in range(50)))
    after = (await house.processes[0].metrics())["sentinel_watch_missed_total"]
    events = [await asyncio.wait_for(call.read(), 10)]
    while not events[-1].missed:
        if len(events) > 1400:
            await house.first.check(tenant)
        events.append(await asyncio.wait_for(call.read(), 10))
    call.cancel()

    assert after > missed
    assert 0 < events[-1].missed <= 1500


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"verdict": "no"}, "verdict"),
        ({"stages": ["door"]}, "no stage 'door'"),
        ({"sample": 1.5}, "sample"),
        ({"kind": "x"}, "kind"),
        ({"tenants": ["t"] * 101}, "at most 100"),
    ],
)
async def test_a_watch_that_makes_no_sense_is_refused(house: House, request_: Any, text: str) -> None:
    call = house.first.watch(**request_)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call.read()
    assert grpc.StatusCode.INVALID_ARGUMENT == error.value.code()
    assert text in (error.value.details() or "")
