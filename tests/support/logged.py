"""A real Envoy whose access log we read: with an upstream that fails on demand, and every entry kept."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import msgspec
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf.message import DecodeError
from support.envoy import EnvoyProcess, free_port
from support.lean import local, serving

from sentinel_ext.core.ended import Ended, Ticket
from sentinel_ext.server.calls import Call, HotUnary
from sentinel_ext.services.access_log import AccessLogs
from sentinel_ext.telemetry.red import Red

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sentinel_ext.services.registry import HotStream, OpenStream, StreamHandler

AUTHORIZATION = "envoy.service.auth.v3.Authorization"
PATIENCE_S = 10.0
TICKET = Ticket("e2e", 7, 3)


def check_response(path: str, number: int) -> bytes:
    """Answer by the path: /deny…, /error…, else allow; with the metadata that Sentinel sends out."""
    response = external_auth_pb2.CheckResponse()
    allowed = not path.startswith(("/deny", "/error"))
    if path.startswith("/deny"):
        response.status.code = 8
        response.denied_response.status.code = 429
    elif path.startswith("/error"):
        response.status.code = 13
        response.error_response.status.code = 503
    else:
        response.ok_response.SetInParent()
    fields = {
        "tenant": "acme",
        "tier": "vital",
        "plan": "gold",
        "upstream": "orders",
        "decision_id": f"{number:016x}",
        "correlation_id": path,
        "allowed": allowed,
        "stage": "window",
        "reason": "allowed" if allowed else "rate_limited",
        "ticket": str(TICKET),
    }
    if path.startswith("/named"):
        fields["route"] = "by-extension"
    if not path.startswith("/silent"):
        response.dynamic_metadata.update(fields)
    return bytes(response.SerializeToString())


class Upstream:
    """Speaks HTTP/1.1 byte by byte, so that it can also do what no server should. The path says what."""

    def __init__(self) -> None:
        self.port = free_port()
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        self._over.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode()
                if not await self._answer(path, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        word = path.strip("/").split("/")[-1].partition("?")[0]
        if word.isdigit():
            extra = b"x-sentinel-reason: shed\r\n" if "below" in path else b""
            writer.write(b"HTTP/1.1 %s X\r\n%scontent-length: 2\r\n\r\nok" % (word.encode(), extra))
        elif word == "hang":
            await self._over.wait()
            return False
        elif word == "close":
            return False
        elif word == "reset":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # SO_LINGER 0: RST instead of FIN
            return False
        elif word == "cut":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            await writer.drain()
            return False
        elif word == "garbage":
            writer.write(b"\x00\x01 no HTTP at all\r\n\r\n")
        elif word == "late":
            await asyncio.sleep(0.25)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        return True


class Kept(msgspec.Struct):
    """What was heard.

    Attributes:
        entries: as Envoy sent them.
        unreadable: messages that protobuf's own types refuse.
        ended: what the service made of them, in the order of their arrival.
        heard: monotonic seconds, stream and number of entries of each message.
    """

    entries: list[Any] = msgspec.field(default_factory=list)
    ended: list[Ended] = msgspec.field(default_factory=list)
    heard: list[tuple[float, str, int]] = msgspec.field(default_factory=list)
    faults: list[Exception] = msgspec.field(default_factory=list)
    unreadable: int = 0


class Witness:
    """Hands every message on to the real handler, and keeps it as Envoy's own types read it."""

    def __init__(self, handler: StreamHandler, kept: Kept) -> None:
        self._handler = handler
        self._kept = kept
        self.on_half_close = handler.on_half_close
        self.on_cancel = handler.on_cancel
        self.on_writable = handler.on_writable
        self.on_drain = handler.on_drain

    def on_message(self, data: bytes) -> None:
        try:
            message = als_pb2.StreamAccessLogsMessage.FromString(data)
            self._kept.entries += [*message.http_logs.log_entry, *message.tcp_logs.log_entry]
        except DecodeError:
            self._kept.unreadable += 1
        self._handler.on_message(data)


class Logged:
    """The service under test, mounted beside a Check of the tests' own."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.red = Red()
        self._checks = 0
        kept = self.kept
        self.logs = AccessLogs(
            kept.ended.append,
            self.red,
            kept.faults.append,
            lambda name, count: kept.heard.append((time.monotonic(), name, count)),
        )

    def methods(self) -> tuple[HotUnary | HotStream, ...]:
        (stream,) = self.logs.methods()
        opened = stream.open

        def open_stream(call: OpenStream) -> StreamHandler:
            return Witness(opened(call), self.kept)

        return HotUnary(AUTHORIZATION, "Check", self._check), msgspec.structs.replace(
            stream, open=open_stream
        )

    def _check(self, request: bytes, _call: Call) -> bytes:
        self._checks += 1
        path = external_auth_pb2.CheckRequest.FromString(request).attributes.request.http.path
        return check_response(path, self._checks)


@asynccontextmanager
async def logging_envoy(
    folder: Path,
    logged: Logged,
    upstream_port: int,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
    **environment: str,
) -> AsyncIterator[int]:
    """Run Envoy with the bootstrap that we render; `change` may edit it. Gives its port."""
    address = local()
    port, admin, path = free_port(), free_port(), folder / "envoy.json"
    variables = {
        "GRPC_ADDRESS": str(address),
        "PORT": str(port),
        "DOWNSTREAM_URL": f"http://127.0.0.1:{upstream_port}",
        "FAIL_OPEN": "false",
        **environment,
    }
    command = [sys.executable, "-m", "sentinel_ext", "envoy-config", "--format", "json"]
    command += ["--listen-address", "127.0.0.1", "--envoy-admin-address", f"127.0.0.1:{admin}"]
    command += ["--check-timeout-ms", "5000"]
    tree = json.loads(subprocess.check_output(command, env=variables, cwd=folder))
    change(tree["static_resources"])
    path.write_text(json.dumps(tree))
    envoy = EnvoyProcess(path, admin)
    async with serving(hot=logged.methods(), address=address):
        try:
            await asyncio.to_thread(envoy.start)
            yield port
        finally:
            envoy.stop()
