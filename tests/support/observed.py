"""What a running Sentinel, its Envoy and a Sentinel with workers print, after enough has happened to them.

A counter with labels prints no line before its first event, so each event is made to happen: shadow denials,
ignored names, limits near and over, a breaker forced open, a peer that does not speak HTTP/2, a Check that
nobody answers, Redis gone.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from support.fleet import Fleet, Sentinel
from support.promql import Series
from support.redis_server import RedisServer

from sentinel_ext.telemetry import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

POLICY = """
plans:
  gold: {tier: vital, limit: unlimited, burst: unlimited}
  cheap: {tier: economy, limit: unlimited, burst: unlimited}
  small: {tier: standard, limit: 1}
  counted: {tier: vital, limit: 1000000, burst: unlimited}
tenants: {gold: gold, cheap: cheap, small: small, counted: counted}
stages: {window: shadow}
upstreams: {default: {slo: 20ms}}
ratelimit:
  - domain: shop
    descriptors: [{key: tenant, rate_limit: {unit: minute, requests_per_unit: 5, on_store_failure: local}}]
"""
# Usually a second or two; a busy machine takes longer.
PATIENCE_S = 90.0


@asynccontextmanager
async def observed(folder: Path, wanted: set[str]) -> AsyncIterator[tuple[Series, Fleet]]:
    """Start everything; yield what was printed, and the fleet, whose Redis has gone.

    Args:
        wanted: names of metrics to wait for, as patterns; who asks finds out what did not come.
    """
    redis = RedisServer(folder).start()
    (folder / "policy.yaml").write_text(POLICY)
    shared = {"REDIS_URL": redis.url, "ENABLE_TRACING": "true", "OTLP_ENDPOINT": "grpc://127.0.0.1:9"}
    workers = Sentinel(folder, {**shared, "WORKERS": "2", "GRPC_ADDRESS": f"unix://{folder}/workers.sock"})
    own = {"POLICY_FILE": str(folder / "policy.yaml"), "ADMIN_ACTIONS": "true", "DEBUG_GRPC_ADDRESS": "off"}
    fleet = Fleet(folder, shared | own, config_arguments=("--ratelimit-domain", "shop"))
    workers.start()
    try:
        async with fleet:
            await workers.ready()
            series = Series()
            await _happen(fleet, series)
            # Frozen first: a call under way fails then; to a Redis that is known to be gone none is made.
            redis.freeze()
            await _until(
                fleet, series, {"sentinel_store_fallbacks_total", "sentinel_store_errors_total"}, "counted"
            )
            redis.stop()
            series.read(await _text(fleet, f"{workers.admin}/metrics"))
            with suppress(TimeoutError):
                await _until(fleet, series, wanted, "small", "counted")
            # It drains while the tests run.
            workers.send(signal.SIGTERM)
            yield series, fleet
    finally:
        workers.stop()
        redis.stop()


async def _happen(fleet: Fleet, series: Series) -> None:
    await fleet.send(10, "small")
    await fleet.get(headers={"x-tenant-id": "x" * 500})
    with socket.create_connection(("127.0.0.1", fleet.sentinels[0].grpc_port)) as peer:
        peer.sendall(b"GET / HTTP/1.0\r\n\r\n" + bytes(24))
    # Whether an upstream is shed for depends on the machine's speed: what is declared stands for it.
    series.read(_declared("sentinel_sheds", "_total") + _declared("sentinel_credit_requests_per_second", ""))
    await _force(fleet, "open")
    await _until(fleet, series, {"sentinel_circuit_breaker_transitions_total"}, "gold")
    await _force(fleet, "auto")
    # Longer than Envoy waits, shorter than its health checks take to notice.
    fleet.sentinels[0].send(signal.SIGSTOP)
    await fleet.get(headers={"x-tenant-id": "gold"})
    fleet.sentinels[0].send(signal.SIGCONT)


def _declared(name: str, end: str) -> str:
    """Return a line of a metric that telemetry/load.py declares, with its labels and no values."""
    source = Path(load.__file__).read_text()
    found = re.search(rf'"{name}",.*?labels=\[(.*?)\]', source, re.DOTALL)
    assert found is not None
    pairs = ",".join(f'{label}=""' for label in re.findall(r'"(\w+)"', found[1]))
    return f"{name}{end}{{{pairs}}} 0\n"


async def _force(fleet: Fleet, mode: str) -> None:
    breaker = f"{fleet.sentinels[0].admin}/breakers/default"
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with fleet.session.post(breaker, json={"mode": mode}) as response:
                if response.status == 200:
                    return
                # Redis may not have answered in time: then nobody knows whether it holds.
                assert 503 == response.status, await response.text()


async def _until(fleet: Fleet, series: Series, wanted: set[str], *tenants: str) -> None:
    """Send requests until each metric had a line; keep what is printed meanwhile: a gauge may go again."""
    async with asyncio.timeout(PATIENCE_S):
        while any(not any(re.fullmatch(one, name) for name in series.labels) for one in wanted):
            await asyncio.gather(*(fleet.send(40, tenant, 40) for tenant in tenants))
            series.read(await _text(fleet, f"{fleet.sentinels[0].admin}/metrics"))
            series.read(await _text(fleet, f"{fleet.envoys[0].admin}/stats/prometheus"))


async def _text(fleet: Fleet, url: str) -> str:
    async with fleet.session.get(url, timeout=aiohttp.ClientTimeout(10)) as response:
        return await response.text()
