"""The interop protos, generated once, and the servers that carry their service."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from interop import raw
from support.envoy import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
NAMES = ("empty", "messages", "test")
READY_S = 30.0
# Server, event loop, transport.
LEAN = [
    ("lean", "asyncio", "tcp"),
    ("lean", "asyncio", "unix"),
    ("lean", "uvloop", "tcp"),
    ("lean", "uvloop", "unix"),
]
SERVERS = [("grpc.aio", "asyncio", "tcp"), *LEAN]


@pytest.fixture(scope="session")
def generated() -> Iterator[Path]:
    """A folder with the package interop_pb."""
    with tempfile.TemporaryDirectory(prefix="snt-") as name:
        sources = [f"interop_pb/{each}.proto" for each in NAMES]
        out = [f"--python_out={name}", f"--grpc_python_out={name}"]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-Iinterop_pb={HERE / 'protos'}", *out]
        subprocess.run([*command, *sources], check=True, timeout=60)
        yield Path(name)


@pytest.fixture(scope="session")
def pb(generated: Path) -> Iterator[SimpleNamespace]:
    """Messages and stubs of the interop protos, by their names."""
    sys.path.insert(0, str(generated))
    try:
        modules = [importlib.import_module(f"interop_pb.{name}_pb2") for name in NAMES]
        modules.append(importlib.import_module("interop_pb.test_pb2_grpc"))
    finally:
        sys.path.remove(str(generated))
    yield SimpleNamespace(**{name: value for module in modules for name, value in vars(module).items()})
    for name in [name for name in sys.modules if name.partition(".")[0] == "interop_pb"]:
        del sys.modules[name]


@pytest.fixture(scope="module", params=SERVERS, ids="-".join)
def server(request: pytest.FixtureRequest, generated: Path, module_folder: Path) -> Iterator[str]:
    """A server of any kind that runs: its address."""
    with serving(*request.param, generated, module_folder) as address:
        yield address


@pytest.fixture(scope="module", params=LEAN, ids="-".join)
def lean(request: pytest.FixtureRequest, generated: Path, module_folder: Path) -> Iterator[str]:
    """One of ours, for rules that grpcio's core does not keep."""
    with serving(*request.param, generated, module_folder) as address:
        yield address


@contextmanager
def serving(kind: str, loop: str, transport: str, generated: Path, folder: Path) -> Iterator[str]:
    """Run serving.py as a process."""
    port = free_port()
    address = f"127.0.0.1:{port}" if transport == "tcp" else f"unix://{folder}/{port}.sock"
    log = folder / f"server-{port}.log"
    path = os.pathsep.join((str(HERE.parent), str(generated)))
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, HERE / "serving.py", kind, loop, address],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=file,
        )
    try:
        _wait_ready(process, address, log)
        yield address
        assert process.poll() is None, log.read_text()
        # Whatever a client does, the server must not have let an exception out.
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        process.kill()
        process.wait()


def _wait_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            raw.connect(address).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
