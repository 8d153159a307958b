"""The services on grpcio's asyncio server, with health and reflection beside them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from sentinel_ext.core.tracecontext import HEADERS as TRACE_HEADERS
from sentinel_ext.errors import StartError
from sentinel_ext.server import listen
from sentinel_ext.server.grpcio_streams import GrpcioStreams
from sentinel_ext.services.registry import PEER, Answer, HotStream, Refusal, RequestError, Unary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sentinel_ext.address import Address

# A CheckRequest with headers is about 1 KB, with a request body what Envoy buffers (8 KB in our examples).
MAX_REQUEST_BYTES = 4 * 1024 * 1024
MAX_STREAMS_PER_CONNECTION = 1_000
# Metadata of a Check is Envoy's own; the caller's headers travel in the message.
MAX_METADATA_BYTES = 16 * 1024
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
HEALTH = "grpc.health.v1.Health"
LIVENESS = "liveness"
_CODES = {code.value[0]: code for code in grpc.StatusCode}

_OPTIONS = (
    # With SO_REUSEPORT a second server on the same port would silently take half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    # Envoy's connection_keepalive pings more often than gRPC's default policy of 5 minutes bears.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class GrpcioServer:
    """Carries `methods`; knows nothing of what they do."""

    def __init__(
        self,
        address: Address,
        methods: Sequence[Unary | HotStream],
        variable: str = "GRPC_ADDRESS",
        interceptors: Sequence[grpc.aio.ServerInterceptor[Any, Any]] = (),
    ) -> None:
        """Listen on `address` once started; `variable` is the setting's name for messages."""
        self._interceptors = interceptors
        self._address = address
        self._variable = variable
        self._methods = methods
        self._health = HealthServicer()
        self._streams = GrpcioStreams()
        self._names = [*dict.fromkeys(method.service for method in methods)]

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            AddressInUseError, StartError: the address cannot be had.
        """
        listen.ensure_free(self._address, self._variable)
        self._server = grpc.aio.server(options=_OPTIONS, interceptors=self._interceptors)
        self._server.add_generic_rpc_handlers(_handlers(self._methods, self._streams))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._add_reflection()
        target = f"unix:{self._address.path}" if self._address.is_unix else str(self._address)
        try:
            self._server.add_insecure_port(target)
        except RuntimeError as error:
            raise StartError(f"{self._variable}: cannot listen on {self._address}") from error
        await self._server.start()
        listen.allow_group(self._address)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)

    async def refuse_new(self) -> None:
        """Say NOT_SERVING, so that proxies stop choosing this instance; go on answering."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Send GOAWAY, let calls finish for `grace_s` seconds, then end them; streams are told first."""
        self._streams.drain()
        await self._server.stop(grace_s)
        listen.remove_socket(self._address)

    async def _set_health(self, status: Any) -> None:  # noqa: ANN401  an enum of generated code
        for name in ("", *self._names):
            await self._health.set(name, status)

    def _add_reflection(self) -> None:
        names = [
            *self._names,
            HEALTH,
            REFLECTION_V1ALPHA,
            REFLECTION_V1,
        ]
        servicer = ReflectionServicer(names)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, self._server)
        # The package carries v1alpha only. v1 has the same messages under another name, and newer clients
        # (grpcurl, Postman) ask for it first.
        handler = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(REFLECTION_V1, {"ServerReflectionInfo": handler}),)
        )


def _handlers(
    methods: Sequence[Unary | HotStream], streams: GrpcioStreams
) -> tuple[grpc.GenericRpcHandler[bytes, bytes], ...]:
    by_service: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = defaultdict(dict)
    for method in methods:
        # Bytes in, bytes out: decoding inside the handler turns garbage into a status, not into a traceback.
        by_service[method.service][method.name] = (
            streams.handler(method)
            if isinstance(method, HotStream)
            else grpc.unary_unary_rpc_method_handler(_unary(method))
        )
    return tuple(
        grpc.method_handlers_generic_handler(name, handlers) for name, handlers in by_service.items()
    )


def _unary(method: Unary) -> Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[bytes]]:
    async def call(data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        PEER.set(context.peer)
        try:
            request = method.decode(data)
        except RequestError as error:
            await context.abort(grpc.StatusCode.INTERNAL, str(error))
        later: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def reply(answer: Answer) -> bool:
            if later.done():
                return False
            later.set_result(answer)
            return True

        if method.handle_carried is None:
            outcome = method.handle(request, reply)
        else:
            outcome = method.handle_carried(request, reply, _carried(context))
        if not isinstance(outcome, (bytes, Refusal)):
            try:
                outcome = await later
            except asyncio.CancelledError:
                outcome.cancel()  # type: ignore[union-attr]  # it was not an answer
                raise
        if isinstance(outcome, Refusal):
            await context.abort(_CODES[outcome.code], outcome.text)
        return outcome

    return call


def _carried(context: grpc.aio.ServicerContext[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """What the call's metadata says of traces."""
    return [
        (key.encode(), value.encode("latin-1", "replace"))
        for key, value in context.invocation_metadata() or ()
        if key in TRACE_HEADERS and isinstance(value, str)
    ]
