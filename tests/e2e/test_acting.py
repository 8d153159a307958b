"""What an operator may do over the debug port: for the whole fleet, audited, and only where it is allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from support.debug_house import House, explain, somebody, until

if TYPE_CHECKING:
    from support.debug_client import DebugClient
    from support.fleet import Sentinel

pytestmark = pytest.mark.e2e


async def test_acting_without_permission_is_refused_and_audited(house: House) -> None:
    for method, request in (
        ("ResetTenant", {"tenant": "acme"}),
        ("SetBreaker", {"upstream": "default", "mode": "open"}),
        ("SetStageMode", {"stage": "window", "mode": "off"}),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await house.second.call(method, **request)
        assert grpc.StatusCode.PERMISSION_DENIED == error.value.code()
        assert "ADMIN_ACTIONS=true" in (error.value.details() or "")

    async def are_written() -> bool:
        return len(_audit(house.processes[1])) >= 3

    await until(are_written, "no audit lines")
    lines = [line for line in _audit(house.processes[1]) if line["message"] == "refused"]
    assert ["ResetTenant", "SetBreaker", "SetStageMode"] == [line["action"] for line in lines]
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in lines)


def _audit(process: Sentinel) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["logger"] == "sentinel.audit"]


async def test_a_reset_gives_a_tenant_its_limit_back_on_all_instances(house: House) -> None:
    tenant = somebody()
    spent = [await client.check(tenant) for client in (house.first, house.second, house.second, house.first)]
    reset = await house.first.call("ResetTenant", tenant=tenant)

    assert [True, True, True, False] == spent
    assert reset["had_used"]
    assert "0" == reset["tenant"]["used"]
    assert [True, True, True, False] == [await house.second.check(tenant) for _ in range(4)]

    async def is_written() -> bool:
        return any(line["message"] == "acted" for line in _audit(house.processes[0]))

    await until(is_written, "no audit line")


async def test_a_breaker_forced_open_shows_everywhere_with_its_history(house: House) -> None:
    forced = await house.first.call("SetBreaker", upstream="orders", mode="open")
    refused = await explain(house.first, "acme", upstream="orders")
    await house.first.call("SetBreaker", upstream="orders", mode="auto")
    (breaker,) = (await house.first.call("ListBreakers", upstream="orders"))["breakers"]

    assert ("open", "open") == (forced["breaker"]["numbers"]["state"], forced["breaker"]["numbers"]["forced"])
    assert ("breaker", "circuit_open") == (refused["stage"], refused["reason"])
    assert "an operator forced it" in refused["sentence"]
    assert "SetBreaker with mode auto" in refused["advice"]
    assert ["open", "closed"] == [each["before"] for each in breaker["history"]]
    assert not await _is_open(house, "orders")
    for wrong, code in (("nowhere", "NOT_FOUND"), ("search", "NOT_FOUND")):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await house.first.call("SetBreaker", upstream=wrong, mode="open")
        assert code == error.value.code().name


async def _is_open(house: House, upstream: str) -> bool:
    (breaker,) = (await house.first.call("ListBreakers", upstream=upstream))["breakers"]
    return bool(breaker["numbers"]["state"] == "open")


async def test_a_stage_mode_reaches_all_instances_and_survives_a_reload(house: House) -> None:
    tenant = somebody()
    set_ = await house.first.call("SetStageMode", stage="window", mode="shadow")
    await until(lambda: _mode_is(house.second, "shadow"), "the other instance does not hear")
    passed = [await client.check(tenant) for client in (house.first, house.second) for _ in range(4)]
    told = await explain(house.first, tenant)
    metrics = await house.processes[1].metrics()
    await _reload(house.processes[0])
    kept = await _mode_is(house.first, "shadow")
    back = await house.first.call("SetStageMode", stage="window", mode="policy")
    await until(lambda: _mode_is(house.second, "enforce"), "the other instance stays in shadow")

    states = {each["stage"]: (each["mode"], each["policy_mode"]) for each in set_["stages"]}
    assert ("shadow", "enforce") == states["window"]
    assert kept
    assert 1.0 == metrics['sentinel_stage_mode{mode="shadow",source="operator",stage="window"}']
    assert [True] * 8 == passed
    assert "although window would refuse if enforced" in told["sentence"]
    # Whoever asks and however: the same words about every stage, in the same order.
    words = ("stage", "mode", "policy_mode", "is_mode_set")
    explained, acted = (
        [[each.get(word, False) for word in words] for each in of["stages"]] for of in (told, set_)
    )
    assert explained == acted
    assert ["window", "shadow", "enforce", True] == acted[-1]
    assert ("enforce", "enforce") == {
        each["stage"]: (each["mode"], each["policy_mode"]) for each in back["stages"]
    }["window"]
    assert not await house.second.check(tenant)


async def _reload(process: Sentinel) -> None:
    before = (await process.metrics())["sentinel_config_generation"]
    policy = Path(process.environment["POLICY_FILE"])
    policy.write_text(policy.read_text().replace("limit: 1000", "limit: 1001"))

    async def is_loaded() -> bool:
        return (await process.metrics())["sentinel_config_generation"] > before

    await until(is_loaded, "the changed policy is not loaded")


async def _mode_is(client: DebugClient, mode: str) -> bool:
    found = await explain(client, "acme")
    return bool(mode == found["stages"][-1]["mode"])
