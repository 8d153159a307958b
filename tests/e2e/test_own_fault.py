"""A bug of ours: an error_response on the wire, and Envoy's failure_mode_allow decides."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Never

import aiohttp
import pytest
from support.envoy import EnvoyProcess, free_port
from support.fleet import Upstream

from sentinel_ext.address import Address
from sentinel_ext.server.grpcio import GrpcioServer
from sentinel_ext.server.lean import LeanServer
from sentinel_ext.services.authorization import Authorization

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel_ext.services.registry import Unary

pytestmark = pytest.mark.e2e


def broken(*_: object) -> Never:
    raise ZeroDivisionError("a bug of ours")


def make_server(kind: str, address: Address, methods: tuple[Unary, ...]) -> LeanServer | GrpcioServer:
    if kind == "grpcio":
        return GrpcioServer(address, methods)
    server = LeanServer(address)
    server.add(methods)
    return server


@pytest.mark.parametrize("kind", ["lean", "grpcio"])
@pytest.mark.parametrize(
    ("fail_open", "status", "arrived"), [("true", 200, 1), ("false", 503, 0)], ids=["open", "closed"]
)
async def test_envoy_goes_by_its_failure_mode(
    short_folder: Path, kind: str, fail_open: str, status: int, arrived: int
) -> None:
    faults: list[Exception] = []
    address = Address("127.0.0.1", free_port())
    server = make_server(kind, address, Authorization(broken, faults.append).methods())
    await server.start()
    path, port, admin = short_folder / "envoy.yaml", free_port(), free_port()
    async with Upstream() as upstream:
        environment = {
            "GRPC_ADDRESS": str(address), "PORT": str(port), "FAIL_OPEN": fail_open,
            "DOWNSTREAM_URL": f"http://127.0.0.1:{upstream.port}",
        }  # fmt: skip
        command = [sys.executable, "-m", "sentinel_ext", "envoy-config", "--output", str(path)]
        command += ["--listen-address", "127.0.0.1", "--envoy-admin-address", f"127.0.0.1:{admin}"]
        subprocess.run(command, env=environment, cwd=short_folder, check=True)
        # In a thread: Envoy is ready once the server of this loop has answered its health check.
        envoy = EnvoyProcess(path, admin)
        try:
            await asyncio.to_thread(envoy.start)
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{port}/x") as response,
            ):
                assert status == response.status
                assert "x-sentinel-reason" not in response.headers
        finally:
            envoy.stop()
            await server.stop(0)
        assert arrived == upstream.seen
    assert [ZeroDivisionError] == [type(fault) for fault in faults]
