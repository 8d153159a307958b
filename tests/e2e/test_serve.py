"""`sentinel-ext serve` as an operator starts, asks and stops it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from support.envoy import free_port
from support.fleet import Sentinel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("grpc_server")]

ROOT = Path(__file__).parents[2]
ADDRESSES = ("GRPC_ADDRESS", "ADMIN_ADDRESS", "DEBUG_GRPC_ADDRESS")
CHECK = "envoy.service.auth.v3.Authorization/Check"


def serve(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `serve` until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "sentinel_ext", "serve"],
        env={"PATH": os.environ["PATH"], "REDIS_URL": "memory://", **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
async def sentinel(short_folder: Path) -> AsyncIterator[Sentinel]:
    sentinel = Sentinel(short_folder, {"REDIS_URL": "memory://", "LOG_LEVEL": "debug"})
    sentinel.start()
    await sentinel.ready()
    yield sentinel
    sentinel.discard()


def test_every_wrong_value_is_told_at_once_with_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BURST_CAPACITY=-3\nWINDOW_MS=soon\n")
    done = serve(tmp_path, GRPC_ADDRESS="nowhere", FAIL_OPEN="perhaps", REDIS_URL="http://u:s3cret@h")

    assert 2 == done.returncode
    for name, given in {
        "BURST_CAPACITY": "-3",
        "WINDOW_MS": "soon",
        "GRPC_ADDRESS": "nowhere",
        "FAIL_OPEN": "perhaps",
    }.items():
        (line,) = [line for line in done.stderr.splitlines() if name in line]
        assert given in line
        assert "allowed" in line
    assert "REDIS_URL" in done.stderr
    assert "s3cret" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_broken_policy_is_told_with_file_line_and_path(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("plans:\n  gold:\n    limit: -5\n    colour: red\n")
    done = serve(tmp_path, POLICY_FILE="policy.yaml")

    assert 2 == done.returncode
    assert "policy.yaml:3:" in done.stderr
    assert "plans.gold.limit" in done.stderr
    assert "policy.yaml:4:" in done.stderr


@pytest.mark.parametrize("variable", ADDRESSES)
def test_a_port_in_use_is_named_and_nothing_is_left_running(tmp_path: Path, variable: str) -> None:
    addresses = {name: f"127.0.0.1:{free_port()}" for name in ADDRESSES}
    host, port = addresses[variable].split(":")
    with socket.create_server((host, int(port))):
        done = serve(tmp_path, **addresses)

    assert 1 == done.returncode
    assert f"{variable}: cannot listen on {addresses[variable]}" in done.stderr
    assert "Traceback" not in done.stderr


async def test_sigterm_drains_and_exits_0_and_logs_are_json_without_secrets(
    sentinel: Sentinel,
) -> None:
    assert 0 == sentinel.stop()

    lines = [json.loads(line) for line in sentinel.log.read_text().splitlines()]
    assert ["serving", "draining", "stopped"] == [line["message"] for line in lines]
    with socket.socket() as probe:
        assert 0 != probe.connect_ex(("127.0.0.1", sentinel.grpc_port))


async def test_a_password_never_shows(short_folder: Path) -> None:
    sentinel = Sentinel(
        short_folder, {"REDIS_URL": "redis://user:s3cret@127.0.0.1:1/0", "LOG_LEVEL": "debug"}
    )
    sentinel.start()
    try:
        async with asyncio.timeout(15):
            while "store lost" not in sentinel.log.read_text():
                await asyncio.sleep(0.02)
        samples = await sentinel.metrics()
        assert 0 == samples["sentinel_store_up"]
        async with aiohttp.ClientSession() as session, session.get(f"{sentinel.admin}/status") as response:
            shown = await response.text()
    finally:
        assert 0 == sentinel.stop()
    assert "127.0.0.1:1/0" in json.loads(shown)["store"]["url"]
    assert "s3cret" not in shown + sentinel.log.read_text()


async def test_grpcurl_lists_describes_checks_and_asks_for_health(sentinel: Sentinel) -> None:
    """The real grpcurl where it was installed (`make tools`); tests/server has a client too."""
    grpcurl = shutil.which("grpcurl", path=f"{ROOT / '.tools/bin'}:{os.environ['PATH']}")
    if grpcurl is None:
        assert shutil.which("go") is None, "Go is here, so `make tools` must have installed grpcurl"
        return
    address = f"127.0.0.1:{sentinel.grpc_port}"

    def run(*arguments: str) -> str:
        command = [grpcurl, "-plaintext", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    request = (
        '{"attributes":{"request":{"http":{"method":"GET","path":"/","headers":{"x-tenant-id":"acme"}}}}}'
    )
    checked = json.loads(run("-d", request, address, CHECK))

    assert {"envoy.service.auth.v3.Authorization", "grpc.health.v1.Health"} <= set(
        run(address, "list").split()
    )
    assert "rpc Check" in run(address, "describe", "envoy.service.auth.v3.Authorization")
    assert "x-correlation-id" in json.dumps(checked)
    assert {"status": "SERVING"} == json.loads(run(address, "grpc.health.v1.Health/Check"))
