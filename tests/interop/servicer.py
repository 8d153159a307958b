"""gRPC's interop TestService, as grpc's doc/interop-test-descriptions.md describes its server side."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from interop_pb import empty_pb2, messages_pb2, test_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    Context = grpc.aio.ServicerContext[Any, Any]

ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"
# Not of the interop suite: how many streaming handlers run here, told in EmptyCall's trailers.
RUNNING_HANDLERS = "x-running-handlers"


class TestServicer(test_pb2_grpc.TestServiceServicer):
    """Everything but UnimplementedCall, which the generated base class refuses."""

    def __init__(self) -> None:
        self._running = 0

    async def EmptyCall(self, _request: empty_pb2.Empty, context: Context) -> empty_pb2.Empty:  # noqa: N802
        context.set_trailing_metadata(((RUNNING_HANDLERS, str(self._running)),))
        return empty_pb2.Empty()

    async def UnaryCall(  # noqa: N802
        self, request: messages_pb2.SimpleRequest, context: Context
    ) -> messages_pb2.SimpleResponse:
        if request.HasField("response_compressed"):
            context.set_compression(grpc.Compression.Gzip)
            if not request.response_compressed.value:
                context.disable_next_message_compression()
        await _echo_metadata(context)
        await _end_as_asked(request.response_status, context)
        return messages_pb2.SimpleResponse(payload=_payload(request.response_size))

    async def StreamingOutputCall(  # noqa: N802
        self, request: messages_pb2.StreamingOutputCallRequest, context: Context
    ) -> AsyncIterator[messages_pb2.StreamingOutputCallResponse]:
        if any(parameters.HasField("compressed") for parameters in request.response_parameters):
            context.set_compression(grpc.Compression.Gzip)
        await _echo_metadata(context)
        async for response in self._responses(request, context):
            yield response

    async def StreamingInputCall(  # noqa: N802
        self, requests: AsyncIterator[messages_pb2.StreamingInputCallRequest], _context: Context
    ) -> messages_pb2.StreamingInputCallResponse:
        total = 0
        with self._counted():
            async for request in requests:
                total += len(request.payload.body)
        return messages_pb2.StreamingInputCallResponse(aggregated_payload_size=total)

    async def FullDuplexCall(  # noqa: N802
        self, requests: AsyncIterator[messages_pb2.StreamingOutputCallRequest], context: Context
    ) -> AsyncIterator[messages_pb2.StreamingOutputCallResponse]:
        await _echo_metadata(context)
        with self._counted():
            async for request in requests:
                await _end_as_asked(request.response_status, context)
                async for response in self._responses(request, context):
                    yield response

    async def HalfDuplexCall(  # noqa: N802
        self, requests: AsyncIterator[messages_pb2.StreamingOutputCallRequest], context: Context
    ) -> AsyncIterator[messages_pb2.StreamingOutputCallResponse]:
        for request in [request async for request in requests]:
            async for response in self._responses(request, context):
                yield response

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def _responses(
        self, request: messages_pb2.StreamingOutputCallRequest, context: Context
    ) -> AsyncIterator[messages_pb2.StreamingOutputCallResponse]:
        for parameters in request.response_parameters:
            if parameters.interval_us:
                await asyncio.sleep(parameters.interval_us / 1e6)
            if parameters.HasField("compressed") and not parameters.compressed.value:
                context.disable_next_message_compression()
            yield messages_pb2.StreamingOutputCallResponse(payload=_payload(parameters.size))


async def _echo_metadata(context: Context) -> None:
    received = dict(context.invocation_metadata() or ())
    if ECHO_TRAILING in received:
        context.set_trailing_metadata(((ECHO_TRAILING, received[ECHO_TRAILING]),))
    if ECHO_INITIAL in received:
        await context.send_initial_metadata(((ECHO_INITIAL, received[ECHO_INITIAL]),))


async def _end_as_asked(status: messages_pb2.EchoStatus, context: Context) -> None:
    if status.code:
        code = next(each for each in grpc.StatusCode if each.value[0] == status.code)
        await context.abort(code, status.message)


def _payload(size: int) -> messages_pb2.Payload:
    return messages_pb2.Payload(body=bytes(size))
