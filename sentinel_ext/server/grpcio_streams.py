"""Hot streams on grpcio: the same handlers as on the lean server, driven by one coroutine per stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.services.registry import HotStream, StreamHandler

# Messages of ours that wait for a slow client before `send` says to hold the next one.
MAX_WAITING_MESSAGES: Final = 64

# The stubs do not know it.
_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcioStream:
    """One open stream as a handler sees it (services.registry.OpenStream)."""

    def __init__(self, context: Any) -> None:  # noqa: ANN401  the stubs' context is not what grpc.aio gives
        """Made by the server."""
        self._context = context
        self._waiting: list[bytes] = []
        self._wake = asyncio.Event()
        self.is_done = False
        self.status = 0
        self.text = ""

    @property
    def peer(self) -> str:
        """Where the client is, in grpc's words."""
        return str(self._context.peer())

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What the client sent along."""
        return tuple((str(name), value) for name, value in self._context.invocation_metadata() or ())

    def send(self, message: bytes) -> bool:
        """Send a message. False: hold the next one until `on_writable`, or the stream is over."""
        if self.is_done:
            return False
        self._waiting.append(message)
        self._wake.set()
        return len(self._waiting) < MAX_WAITING_MESSAGES

    def finish(self, status: int = 0, text: str = "") -> bool:
        """End the stream with a gRPC status after what was sent. False: it was over already."""
        if self.is_done:
            return False
        self.is_done, self.status, self.text = True, status, text
        self._wake.set()
        return True

    def over(self) -> bool:
        """End it without a status: the client is gone. False: it was over already."""
        was_open, self.is_done = not self.is_done, True
        return was_open

    async def write(self, writable: Callable[[], None]) -> None:
        """Write what is sent until the stream is finished."""
        while self._waiting or not self.is_done:
            was_full = len(self._waiting) >= MAX_WAITING_MESSAGES
            messages, self._waiting = self._waiting, []
            for message in messages:
                await self._context.write(message)
            if was_full and not self.is_done:
                writable()
            if not self._waiting and not self.is_done:
                self._wake.clear()
                await self._wake.wait()


class GrpcioStreams:
    """Runs the streams of every HotStream; knows the open ones, so that a drain reaches them."""

    def __init__(self) -> None:
        """Start with none open."""
        self._open: dict[GrpcioStream, StreamHandler] = {}

    def handler(self, method: HotStream) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Return what grpcio registers; one answer or many are the same on the wire."""

        async def call(_requests: object, context: Any) -> None:  # noqa: ANN401  as above
            stream = GrpcioStream(context)
            handler = method.open(stream)
            self._open[stream] = handler
            try:
                await _run(stream, handler, context)
            finally:
                del self._open[stream]
                if stream.over():
                    handler.on_cancel()

        return grpc.stream_stream_rpc_method_handler(call)

    def drain(self) -> None:
        """Tell every open stream that the end is near."""
        for handler in tuple(self._open.values()):
            handler.on_drain()


async def _run(stream: GrpcioStream, handler: StreamHandler, context: Any) -> None:  # noqa: ANN401  as above
    """Read and write at once; whoever ends first ends both."""
    reading = asyncio.ensure_future(_read(stream, handler, context))
    writing = asyncio.ensure_future(stream.write(handler.on_writable))
    try:
        await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()  # a bug of the handler ends its stream: UNKNOWN
            await writing
        writing.result()
    finally:
        await _end(reading)
        await _end(writing)
    if stream.status:
        await context.abort(_CODES.get(stream.status, grpc.StatusCode.UNKNOWN), stream.text)


async def _read(stream: GrpcioStream, handler: StreamHandler, context: Any) -> None:  # noqa: ANN401  as above
    while not stream.is_done:
        message = await context.read()
        if message is _EOF:
            # grpcio says the same of a client that is gone; a handler that finishes then is not told again.
            handler.on_half_close()
            return
        handler.on_message(message)


async def _end(task: asyncio.Task[None]) -> None:
    if not task.done():
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
