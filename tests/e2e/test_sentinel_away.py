"""Sentinel killed, frozen and drained under traffic through a real Envoy."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest
from support.fleet import Fleet, statuses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("grpc_server")]

ALLOWED_HEADER = "x-envoy-auth-failure-mode-allowed"


@pytest.fixture(params=["true", "false"], ids=["fail open", "fail closed"])
async def fleet(request: pytest.FixtureRequest, short_folder: Path) -> AsyncIterator[Fleet]:
    environment = {"REDIS_URL": "memory://", "FAIL_OPEN": request.param, "BURST_CAPACITY": "1000"}
    async with Fleet(short_folder, environment) as fleet:
        yield fleet


async def test_a_sentinel_that_was_killed(fleet: Fleet) -> None:
    assert 200 == (await fleet.get()).status
    fleet.sentinels[0].kill()

    replies = [await fleet.get(headers={"x-sentinel-tier": "vital"}) for _ in range(5)]

    if fleet.environment["FAIL_OPEN"] == "true":
        assert {200: 5} == statuses(replies)
        assert all(ALLOWED_HEADER in reply.body for reply in replies)
        assert all("x-sentinel-tier" not in reply.body for reply in replies)  # a client cannot speak for us
    else:
        assert {503: 5} == statuses(replies)
        assert all("x-sentinel-reason" not in reply.headers for reply in replies)


async def test_a_frozen_sentinel_is_noticed_and_found_again(fleet: Fleet) -> None:
    fleet.sentinels[0].send(signal.SIGSTOP)
    async with asyncio.timeout(10):
        while fleet.envoys[0].stat("cluster.sentinel.membership_healthy"):
            await asyncio.sleep(0.05)

    replies = [await fleet.get() for _ in range(10)]
    assert {200 if fleet.environment["FAIL_OPEN"] == "true" else 503: 10} == statuses(replies)
    # Nobody waits for a Sentinel that is known to be frozen: the check timeout of 200 ms is not spent.
    assert 0.1 > sorted(reply.seconds for reply in replies)[5]

    fleet.sentinels[0].send(signal.SIGCONT)
    async with asyncio.timeout(10):
        while "x-correlation-id" not in (await fleet.get()).headers:
            await asyncio.sleep(0.05)


async def test_a_drain_answers_what_is_under_way_and_exits_0(fleet: Fleet) -> None:
    await fleet.get()
    process = fleet.sentinels[0].process
    fleet.sentinels[0].send(signal.SIGTERM)
    decided = []
    while process.poll() is None:
        reply = await fleet.get()
        decided.append("x-correlation-id" in reply.headers)
        await asyncio.sleep(0.01)

    assert 0 == process.returncode
    # NOT_SERVING first, then GOAWAY: Sentinel decides until Envoy's health check has taken it out, then
    # FAIL_OPEN does. There is no gap in between in which a request is neither.
    assert decided[:10] == [True] * 10
    assert decided == sorted(decided, reverse=True)
