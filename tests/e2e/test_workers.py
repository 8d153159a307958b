"""WORKERS=2 behind a real Envoy, with a real Redis: spread, summed, restarted, drained."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from support.envoy import free_port
from support.fleet import Fleet, Sentinel, statuses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.redis_server import RedisServer

pytestmark = pytest.mark.e2e
# What keeps workers up knows nothing of what serves in them: one test on both servers, the others on lean.
on_both = pytest.mark.usefixtures("grpc_server")


@pytest.fixture
async def fleet(short_folder: Path, redis_server: RedisServer) -> AsyncIterator[Fleet]:
    environment = {
        "REDIS_URL": redis_server.url,
        "GRPC_ADDRESS": f"unix://{short_folder}/s.sock",
        "WORKERS": "2",
        "BASE_RATE_LIMIT": "100",
        "STORE_TIMEOUT_MS": "2000",  # what is counted matters here, not how fast
        "BURST_CAPACITY": "100000",
        "FAIL_OPEN": "false",
    }
    async with Fleet(short_folder, environment, config_arguments=("--check-timeout-ms", "5000")) as fleet:
        yield fleet


def workers_of(sentinel: Sentinel) -> list[int]:
    """Process ids of the workers, as the kernel knows them."""
    path = Path(f"/proc/{sentinel.process.pid}/task/{sentinel.process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def all_ended(pids: list[int]) -> None:
    async with asyncio.timeout(15):
        while any(map(is_running, pids)):
            await asyncio.sleep(0.02)


def decisions(samples: dict[str, float]) -> float:
    return sum(value for name, value in samples.items() if name.startswith("sentinel_decisions_total"))


@on_both
async def test_requests_reach_both_and_are_counted_once(fleet: Fleet) -> None:
    replies = await fleet.send(300, "acme")
    samples = await fleet.sentinels[0].metrics()

    assert 90 <= statuses(replies)[200] <= 100
    assert (
        300
        == decisions(samples)
        == samples['sentinel_decision_duration_seconds_count{verdict="allow"}']
        + (samples['sentinel_decision_duration_seconds_count{verdict="deny"}'])
    )
    assert 2 == samples["sentinel_workers_ready"] == samples["sentinel_tenants"]
    assert 2 == fleet.envoys[0].stat("cluster.sentinel.membership_healthy")
    assert 1 == samples["sentinel_store_up"]
    await the_status_page_shows_both(fleet.sentinels[0])


async def the_status_page_shows_both(sentinel: Sentinel) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{sentinel.admin}/status") as response:
            shown = await response.json()
        async with session.get(f"{sentinel.admin}/", headers={"accept": "text/html"}) as response:
            assert "text/html" == response.content_type
    (row,) = shown["tenants"]

    assert ("acme", 300) == (row["name"], row["allowed"] + row["denied"])
    assert [(True, 0), (True, 0)] == [(each["is_ready"], each["restarts"]) for each in shown["processes"]]
    assert 2 == len({each["name"] for each in shown["processes"]}) == shown["instances"]
    assert ("critical" not in {each["severity"] for each in shown["findings"]}, True) == (
        True,
        shown["store"]["is_up"],
    )


async def test_a_worker_that_dies_is_replaced_and_nothing_that_was_counted_is_lost(fleet: Fleet) -> None:
    sentinel = fleet.sentinels[0]
    await fleet.send(50, "acme")
    before = decisions(await sentinel.metrics())
    first, second = workers_of(sentinel)

    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(20):
        samples = await sentinel.metrics()
        while samples["sentinel_worker_restarts_total"] < 1 or samples["sentinel_workers_ready"] < 2:
            assert before <= decisions(samples)
            await asyncio.sleep(0.05)
            samples = await sentinel.metrics()
    async with asyncio.timeout(10):
        while fleet.envoys[0].stat("cluster.sentinel.membership_healthy") < 2:
            await asyncio.sleep(0.05)
    replies = await fleet.send(20, "globex")

    assert second in workers_of(sentinel)
    assert first not in workers_of(sentinel)
    assert {200: 20} == statuses(replies)
    assert before + 20 <= decisions(await sentinel.metrics())
    assert '"message":"worker ended"' in sentinel.log.read_text()


async def test_sigterm_drains_all_and_exits_0(fleet: Fleet) -> None:
    sentinel, pids = fleet.sentinels[0], workers_of(fleet.sentinels[0])
    await fleet.send(10, "acme")

    assert 0 == sentinel.stop()

    assert 2 == len(pids)
    assert not any(map(is_running, pids))
    assert 2 == sentinel.log.read_text().count('"message":"draining"')
    assert not list(fleet.folder.glob("s.sock*"))


async def test_workers_do_not_outlive_a_supervisor_that_was_killed(fleet: Fleet) -> None:
    pids = workers_of(fleet.sentinels[0])

    fleet.sentinels[0].kill()

    assert 2 == len(pids)
    await all_ended(pids)


def test_a_worker_that_cannot_start_ends_the_service_with_its_reason(
    short_folder: Path, redis_server: RedisServer
) -> None:
    (short_folder / "s.sock.1").touch()
    environment = {
        "PATH": os.environ["PATH"],
        "REDIS_URL": redis_server.url,
        "GRPC_ADDRESS": f"unix://{short_folder}/s.sock",
        "ADMIN_ADDRESS": f"127.0.0.1:{free_port()}",
        "DEBUG_GRPC_ADDRESS": "off",
        "WORKERS": "2",
    }

    command = [sys.executable, "-m", "sentinel_ext", "serve"]
    done = subprocess.run(
        command, env=environment, cwd=short_folder, capture_output=True, text=True, timeout=60, check=False
    )

    assert 1 == done.returncode
    assert "s.sock.1 exists and is not a socket" in done.stderr
    assert "sentinel-ext: worker 1 could not start: exit code 1" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_breaker_is_forced_for_all_workers_through_the_one_admin_address(fleet: Fleet) -> None:
    """The fixture leaves ADMIN_ACTIONS off: at first it is refused, then the workers restart with it."""
    (sentinel,) = fleet.sentinels
    assert {200: 20} == statuses(await fleet.send(20, "acme"))
    assert (403, []) == (
        await ordered(sentinel, "open"),
        [b for b in await shown(sentinel) if b["forced"] != "auto"],
    )

    sentinel.stop()
    sentinel.environment["ADMIN_ACTIONS"] = "true"
    sentinel.start()
    await sentinel.ready()
    await until_served(fleet)
    assert 200 == await ordered(sentinel, "open")
    async with asyncio.timeout(5):
        while {503: 20} != statuses(replies := await fleet.send(20, "globex")):
            await asyncio.sleep(0.05)
    assert {"circuit_open"} == {reply.headers["x-sentinel-reason"] for reply in replies}
    assert {"default": 1.0} == await states(sentinel)
    assert 200 == await ordered(sentinel, "auto")
    await until_served(fleet)
    assert {"default": 0.0} == await states(sentinel)


async def ordered(sentinel: Sentinel, mode: str) -> int:
    url = f"{sentinel.admin}/breakers/default"
    async with aiohttp.ClientSession() as session, session.post(url, json={"mode": mode}) as response:
        return response.status


async def shown(sentinel: Sentinel) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{sentinel.admin}/breakers") as response:
        breakers: list[dict[str, Any]] = (await response.json())["breakers"]
        return breakers


async def states(sentinel: Sentinel) -> dict[str, float]:
    found = {}
    for name, value in (await sentinel.metrics()).items():
        if name.startswith("sentinel_circuit_breaker_state{"):
            found[name.partition('upstream="')[2].partition('"')[0]] = value
    return found


async def until_served(fleet: Fleet) -> None:
    """Both workers have to be asked, and to be healthy for Envoy again; each time by another tenant."""
    async with asyncio.timeout(10):
        for number in itertools.count():
            if {200: 20} == statuses(await fleet.send(20, f"tenant-{number}")):
                return
            await asyncio.sleep(0.1)
