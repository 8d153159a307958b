"""Spans of opentelemetry-instrumentation-grpc: our servers for people, and our clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from support.build import free_tcp_port
from support.otlp import Receiver
from support.traced import tracing_to

from sentinel_ext.address import Address
from sentinel_ext.server.grpcio import GrpcioServer
from sentinel_ext.services.registry import HotStream, StreamKind, Unary
from sentinel_ext.settings import Settings
from sentinel_ext.telemetry.metrics import Metrics
from sentinel_ext.telemetry.tracing.client import client_tracing
from sentinel_ext.tracing import Tracing, make_tracing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sentinel_ext.services.registry import OpenStream


@pytest.fixture(scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


SECRET = "hunter2zz"


def echo() -> Unary:
    def handle(message: Any, _reply: Any) -> bytes:
        if message == b"fail":
            raise ValueError(f"{{'authorization': ['Bearer {SECRET}']}} of acme at redis://u:{SECRET}@h")
        return b"echo " + message

    return Unary("sentinel.test.Echo", "Say", bytes, handle)


class OneMessage:
    """A stream that says one thing and ends."""

    def __init__(self, stream: OpenStream) -> None:
        self._stream = stream

    def on_message(self, message: bytes) -> None:
        self._stream.send(b"echo " + message)

    def on_half_close(self) -> None:
        self._stream.finish()

    def on_cancel(self) -> None:
        pass

    on_writable = on_drain = on_cancel


async def test_our_grpc_servers_and_clients_are_instrumented(receiver):
    hidden = {"LOG_REDACT": "rpc.grpc.status_code,tenant=acme"}
    settings = Settings.load({"REDIS_URL": "memory://", **hidden, **tracing_to(receiver.http)}, None)
    tracing = make_tracing(settings, Metrics("1"), 0)
    assert isinstance(tracing, Tracing)
    await tracing.start()
    port = free_tcp_port()
    server = GrpcioServer(
        Address("127.0.0.1", port),
        [echo(), HotStream("sentinel.test.Echo", "Stream", StreamKind.BIDI, OneMessage)],
        interceptors=tracing.interceptors,
    )
    await server.start()
    seen = len(receiver.spans)

    def ask() -> list[bytes]:
        """As a command does, which knows no event loop."""
        redact = settings.log_redact or ()
        with (
            client_tracing(settings.tracing, redact) as wrapped,
            grpc.insecure_channel(f"127.0.0.1:{port}") as bare,
        ):
            channel = wrapped(bare)
            said = channel.unary_unary("/sentinel.test.Echo/Say")(b"hi", timeout=10)
            with pytest.raises(grpc.RpcError, match=SECRET):
                channel.unary_unary("/sentinel.test.Echo/Say")(b"fail", timeout=10)
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
            stream = bare.stream_stream("/sentinel.test.Echo/Stream")(iter([b"s"]), timeout=10)
            return [said, *stream]

    assert [b"echo hi", b"echo s"] == await asyncio.to_thread(ask)
    await server.stop(0)
    await tracing.close()
    spans = [span for span in receiver.spans[seen:] if span.name.endswith("Echo/Say")]

    servers = {bool(span.events): span for span in spans if span.kind == "server"}
    clients = {span.trace_id: span for span in spans if span.kind == "client"}
    assert (4, 2, 2) == (len(spans), len(servers), len(clients))
    assert all(clients[span.trace_id].span_id == span.parent_id for span in servers.values())
    assert "ValueError" == servers[True].events[0][1]["exception.type"]
    shown = str(receiver.spans[seen:])
    assert SECRET not in shown
    assert "acme" not in shown
    assert {"***"} == {span.attributes["rpc.grpc.status_code"] for span in spans}
    assert not any("Health" in span.name and span.kind == "server" for span in receiver.spans[seen:])


def test_a_client_without_tracing_keeps_its_channel():
    with client_tracing(None) as wrapped:
        assert "as it is" == wrapped("as it is")
