"""An OTLP receiver, over HTTP and over gRPC, that decodes what arrives; and ways for it to fail."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc
from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from support.envoy import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

PATIENCE_S = 15.0
KINDS = {1: "internal", 2: "server", 3: "client"}


@dataclass(frozen=True)
class Span:
    """A span as it arrived; ids in hexadecimal, times in nanoseconds since the epoch."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    start: int
    end: int
    state: str
    is_error: bool
    message: str
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    resource: dict[str, Any]


def _values(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        found[pair.key] = None if kind is None else getattr(pair.value, kind)
    return found


def decode(request: trace_service_pb2.ExportTraceServiceRequest) -> list[Span]:
    return [
        Span(
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            KINDS.get(span.kind, str(span.kind)),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            span.trace_state,
            span.status.code == 2,
            span.status.message,
            _values(span.attributes),
            [(event.name, _values(event.attributes)) for event in span.events],
            _values(of_resource.resource.attributes),
        )
        for of_resource in request.resource_spans
        for scope in of_resource.scope_spans
        for span in scope.spans
    ]


@dataclass
class Receiver:
    """Both protocols, each on a port of its own.

    Attributes:
        spans: all that arrived.
        status: of HTTP answers.
        gate: requests are held while it is closed.
    """

    spans: list[Span] = field(default_factory=list)
    requests: int = 0
    status: int = 200
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self.gate.set()
        self.http_port = free_port()
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/traces", self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.http_port).start()
        self._server = grpc.aio.server()
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.grpc_port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.gate.set()
        await self._server.stop(0)
        await self._runner.cleanup()

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/v1/traces"

    @property
    def grpc(self) -> str:
        return f"grpc://127.0.0.1:{self.grpc_port}"

    async def _post(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.read()
        await self.gate.wait()
        if self.status == 200:
            self.headers.append({key.lower(): value for key, value in request.headers.items()})
            self.spans += decode(trace_service_pb2.ExportTraceServiceRequest.FromString(body))
        return web.Response(status=self.status, content_type="application/x-protobuf")

    async def Export(self, request, context):  # noqa: N802  the name is generated code's
        self.requests += 1
        await self.gate.wait()
        self.headers.append(dict(context.invocation_metadata()))
        self.spans += decode(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    async def until(self, is_there: Callable[[list[Span]], bool]) -> list[Span]:
        """Wait for spans."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_there(self.spans):
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            await asyncio.sleep(0.01)
        return self.spans

    async def trace(self, trace_id: str, *names: str) -> dict[str, Span]:
        """Wait until a trace has spans of these names; return its spans by name."""

        def of_it(spans: list[Span]) -> dict[str, Span]:
            return {span.name: span for span in spans if span.trace_id == trace_id}

        await self.until(lambda spans: set(names) <= of_it(spans).keys())
        return of_it(self.spans)
