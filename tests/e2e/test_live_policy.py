"""Files that change under a running Sentinel: what holds afterwards, and that no request notices."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from envoy.service.ratelimit.v3 import rls_pb2, rls_pb2_grpc
from support.fleet import Sentinel

from sentinel_ext.policy.document import MAX_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from support.redis_server import RedisServer

pytestmark = pytest.mark.e2e

# Notices of the system take a fraction of a second; on a busy machine the look every five seconds may win.
NOTICED_S = 12.0
OVER = rls_pb2.RateLimitResponse.OVER_LIMIT


def rules(limit: int, domain: str = "shop") -> str:
    return f"""
domain: {domain}
descriptors:
  - key: user
    rate_limit: {{unit: day, requests_per_unit: {limit}}}
"""


@dataclass
class Running:
    sentinel: Sentinel
    folder: Path
    stub: Any
    checks: Any
    session: aiohttp.ClientSession

    @property
    def policy(self) -> Path:
        return self.folder.parent / "policy.yaml"

    async def check(self, tenant: str = "acme") -> dict[str, str]:
        """Ask whether a request passes; the headers that the client would see, and `ok`."""
        request = external_auth_pb2.CheckRequest()
        request.attributes.request.http.headers["x-tenant-id"] = tenant
        response = await self.checks.Check(request, timeout=5)
        assert not response.HasField("error_response")
        headers = response.ok_response.response_headers_to_add
        if response.HasField("denied_response"):
            headers = response.denied_response.headers
        found = {each.header.key: each.header.value or each.header.raw_value.decode() for each in headers}
        return found | {"ok": str(response.HasField("ok_response"))}

    async def ask(self, user: str = "u", hits: int = 1) -> rls_pb2.RateLimitResponse:
        request = rls_pb2.RateLimitRequest(domain="shop", hits_addend=hits)
        request.descriptors.add().entries.add(key="user", value=user)
        return await self.stub.ShouldRateLimit(request, timeout=5)

    async def config(self) -> dict[str, Any]:
        async with self.session.get(f"{self.sentinel.admin}/readyz") as response:
            assert 200 == response.status
            return (await response.json())["config"]

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(NOTICED_S):
            while not condition(told := await self.config()):
                await asyncio.sleep(0.05)
            return told


@pytest.fixture
async def running(redis: RedisServer, tmp_path: Path) -> AsyncIterator[Running]:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "shop.yaml").write_text(rules(5))
    policy = tmp_path / "policy.yaml"
    policy.write_text("plans: {default: {limit: 5, window: 1h}}\n")
    environment = {
        "REDIS_URL": redis.url,
        "RATELIMIT_CONFIG_DIR": str(folder),
        "POLICY_FILE": str(policy),
        "STORE_TIMEOUT_MS": "2000",
    }
    sentinel = Sentinel(tmp_path, environment)
    sentinel.start()
    try:
        await sentinel.ready()
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{sentinel.grpc_port}") as channel,
            aiohttp.ClientSession() as session,
        ):
            stub = rls_pb2_grpc.RateLimitServiceStub(channel)
            checks = external_auth_pb2_grpc.AuthorizationStub(channel)
            yield Running(sentinel, folder, stub, checks, session)
    finally:
        sentinel.discard()


async def test_a_new_limit_holds_counters_go_on_and_no_request_fails(running: Running) -> None:
    for _ in range(6):
        last = await running.ask()
    assert OVER == last.overall_code
    done = asyncio.Event()

    async def load() -> int:
        count = 0
        while not done.is_set():
            assert (await running.ask("other")).overall_code in {rls_pb2.RateLimitResponse.OK, OVER}
            count += 1
        return count

    loads = [asyncio.create_task(load()) for _ in range(4)]
    for limit in (7, 8, 9, 10):
        generation = (await running.config())["generation"]
        (running.folder / "shop.yaml").write_text(rules(limit))
        told = await running.until(lambda told, before=generation: told["generation"] > before)
        assert told["ok"]
    done.set()
    assert sum(await asyncio.gather(*loads)) > 50

    answer = await running.ask()
    assert (rls_pb2.RateLimitResponse.OK, 10, 3) == (
        answer.overall_code,
        answer.statuses[0].current_limit.requests_per_unit,
        answer.statuses[0].limit_remaining,  # the 6 before are still counted
    )


async def test_a_broken_file_changes_nothing_and_is_told_until_it_is_right_again(running: Running) -> None:
    (running.folder / "shop.yaml").write_text(rules(5).replace("day", "dya"))

    told = await running.until(lambda told: not told["ok"])

    assert "invalid rate limit unit" in told["problems"][0]
    assert 1 == told["generation"]
    assert 5 == (await running.ask()).statuses[0].current_limit.requests_per_unit
    samples = await running.sentinel.metrics()
    assert 0 == samples["sentinel_config_last_reload_ok"]
    assert 1 <= samples['sentinel_config_reloads_total{result="broken"}']
    assert "configuration is broken" in running.sentinel.log.read_text()

    (running.folder / "shop.yaml").write_text(rules(6))
    await running.until(lambda told: told["ok"] and told["generation"] == 2)
    assert 6 == (await running.ask()).statuses[0].current_limit.requests_per_unit


async def test_a_configmaps_symlinks_are_followed(running: Running) -> None:
    """As the kubelet does it: a new folder, and `..data` renamed over the old link in one step."""
    folder = running.folder
    (folder / "shop.yaml").unlink()
    await running.until(lambda told: told["generation"] >= 2)

    def publish(version: str, limit: int) -> None:
        (folder / version).mkdir()
        (folder / version / "shop.yaml").write_text(rules(limit))
        (folder / "..new").symlink_to(version)
        (folder / "..new").rename(folder / "..data")

    publish("..2026_1", 11)
    (folder / "shop.yaml").symlink_to("..data/shop.yaml")
    await running.until(lambda told: told["generation"] >= 3)
    assert 11 == (await running.ask()).statuses[0].current_limit.requests_per_unit
    before = (await running.config())["generation"]
    publish("..2026_2", 12)
    await running.until(lambda told: told["generation"] > before)
    assert 12 == (await running.ask()).statuses[0].current_limit.requests_per_unit


async def test_an_editor_that_renames_and_a_policy_file_are_followed_too(running: Running) -> None:
    policy = running.policy
    fresh = policy.with_suffix(".new")
    fresh.write_text("plans: {default: {limit: 9, window: 1h}, gold: {limit: 1}}\n")
    fresh.replace(policy)

    await running.until(lambda told: told["generation"] == 2)
    async with running.session.get(f"{running.sentinel.admin}/readyz") as response:
        assert 2 == (await response.json())["policy"]["plans"]


async def test_sighup_loads_at_once(running: Running) -> None:
    running.sentinel.send(signal.SIGHUP)

    await running.until(lambda told: told["generation"] == 2)


async def test_a_plan_that_changes_under_load_costs_no_request_and_its_window_goes_on(
    running: Running,
) -> None:
    admitted = [(await running.check())["ok"] for _ in range(6)]
    assert ["True"] * 5 + ["False"] == admitted
    done = asyncio.Event()

    async def load(tenant: str) -> int:
        count = 0
        while not done.is_set():
            await running.check(tenant)
            count += 1
        return count

    loads = [asyncio.create_task(load(f"t{number}")) for number in range(4)]
    for limit in (7, 8, 9):
        before = (await running.config())["generation"]
        running.policy.write_text(f"plans: {{default: {{limit: {limit}, window: 1h}}}}\n")
        await running.until(lambda told, before=before: told["generation"] > before)
    done.set()
    assert sum(await asyncio.gather(*loads)) > 50

    answer = await running.check()
    assert ("True", "9", "3") == (  # the 5 before are still counted
        answer["ok"], answer["x-ratelimit-limit"], answer["x-ratelimit-remaining"],
    )  # fmt: skip
    stages = "stages: {window: shadow}\n"
    running.policy.write_text("plans: {default: {limit: 1, window: 1h}}\n" + stages)
    await running.until(lambda told: told["generation"] > before + 1)
    assert "True" == (await running.check())["ok"]


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)


async def test_whatever_takes_the_policy_s_place_requests_go_on_and_so_does_the_watch(
    running: Running,
) -> None:
    policy, strange = running.policy, running.policy.with_name("strange")
    hostile: list[tuple[str, Callable[[], object]]] = [
        ("is not a file", strange.mkdir),
        ("is not a file", lambda: os.mkfifo(strange)),
        ("Too many levels", lambda: strange.symlink_to(policy)),
        ("is not UTF-8", lambda: strange.write_bytes(os.urandom(10_000))),
        ("is larger than", lambda: sparse(strange)),
    ]
    for number, (said, make) in enumerate(hostile, 1):
        make()
        if policy.is_dir():
            policy.rmdir()
        if strange.is_dir():
            policy.unlink(missing_ok=True)
        strange.rename(policy)
        told = await running.until(lambda told, said=said: said in told.get("problems", [""])[0])
        assert (False, 1) == (told["ok"], told["generation"])
        assert "5" == (await running.check(f"t{number}"))["x-ratelimit-limit"]

    policy.unlink()
    policy.write_text("plans: {default: {limit: 6, window: 1h}}\n")
    await running.until(lambda told: told["ok"] and told["generation"] == 2)
    assert "6" == (await running.check())["x-ratelimit-limit"]


async def test_a_pipe_in_the_policy_s_place_does_not_hold_the_end_up(running: Running) -> None:
    running.policy.unlink()
    os.mkfifo(running.policy)
    await running.until(lambda told: not told["ok"])

    assert 0 == await asyncio.to_thread(running.sentinel.stop)


async def test_every_worker_follows_and_gets_sighup(redis: RedisServer, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("plans: {}\n")
    environment = {"REDIS_URL": redis.url, "POLICY_FILE": str(policy), "WORKERS": "2"}
    environment["GRPC_ADDRESS"] = f"unix://{tmp_path}/s.sock"
    sentinel = Sentinel(tmp_path, environment)
    sentinel.start()

    async def until(generation: int, *, ok: bool) -> None:
        async with asyncio.timeout(2 * NOTICED_S), aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"{sentinel.admin}/readyz") as response:
                    workers = (await response.json())["workers"]
                told = {(w["config"]["generation"], w["config"]["ok"]) for w in workers if "config" in w}
                if {(generation, ok)} == told and len(workers) == 2:
                    return
                await asyncio.sleep(0.1)

    try:
        await sentinel.ready()
        await until(1, ok=True)
        policy.write_text("plans: {gold: {limit: 3}}\n")
        await until(2, ok=True)
        sentinel.send(signal.SIGHUP)
        await until(3, ok=True)
        policy.write_text("plans: [")
        await until(3, ok=False)
        samples = await sentinel.metrics()
        assert (0, 2) == (
            samples["sentinel_config_last_reload_ok"],
            samples['sentinel_config_reloads_total{result="broken"}'],
        )
    finally:
        sentinel.discard()


async def test_files_that_are_wrong_from_the_start_stop_the_start(redis: RedisServer, tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "a.yaml").write_text("descriptors: []\n")
    sentinel = Sentinel(tmp_path, {"REDIS_URL": redis.url, "RATELIMIT_CONFIG_DIR": str(folder)})
    sentinel.start()

    assert 2 == await asyncio.to_thread(sentinel.process.wait, 30)
    assert "config file cannot have empty domain" in sentinel.log.read_text()
