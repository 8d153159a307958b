"""One call of a generated servicer: what its context and its handler's runner share. No grpc types here."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from sentinel_ext.server.deadlines import SECOND
from sentinel_ext.wire import metadata
from sentinel_ext.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentinel_ext.server.mount import Route
    from sentinel_ext.server.protocol import H2Protocol
    from sentinel_ext.wire.stream import Stream

    Metadata = Sequence[tuple[str, str | bytes]]

INTERNAL_ERROR: Final = "internal error"
# google.rpc.Status, serialised: grpcio's handlers put it among the trailers, the wire takes it by itself.
_STATUS_DETAILS: Final = "grpc-status-details-bin"


class RpcEndedError(Exception):
    """The call is over: nothing can be read or written any more."""

    def __init__(self) -> None:
        super().__init__("the call is over")


class Rpc:
    """A call's state. Belongs to the event loop; a blocking handler reaches it through its context.

    Attributes:
        status: what the handler set; final once `is_aborted`.
        trailers: what the handler set.
        compresses: messages go out as gzip if the client takes that.
        skips_once: the next one does not.
        is_cancelled: the client is gone or the deadline passed.
        is_done: nothing more is sent.
        task: runs the handler.
    """

    __slots__ = (
        "_callbacks",
        "_changed",
        "_has_room",
        "_inbox",
        "_is_half_closed",
        "_protocol",
        "_slot",
        "_stream",
        "compresses",
        "has_headers",
        "is_aborted",
        "is_cancelled",
        "is_done",
        "path",
        "route",
        "skips_once",
        "status",
        "status_details",
        "task",
        "text",
        "trailers",
    )

    def __init__(self, protocol: H2Protocol, stream: Stream, route: Route) -> None:
        """Begin: from here on `stream.call` is this."""
        self._protocol = protocol
        self._stream = stream
        self.route = route
        self._inbox: deque[bytes] = deque()  # bounded by the stream's receive window
        self._is_half_closed = False
        self._has_room = True
        self._changed: asyncio.Event | None = None
        self._callbacks: list[Callable[[], object]] = []
        self.status = Status.OK
        self.text = ""
        self.trailers: Metadata = ()
        self.status_details = b""
        self.compresses = False
        self.skips_once = False
        self.has_headers = False
        self.is_aborted = False
        self.is_cancelled = False
        self.is_done = False
        self.task: asyncio.Task[None] | None = None
        stream.call = self
        self._slot = protocol.hub.deadlines.add(self) if stream.deadline_ns else 0
        if route.streams:
            protocol.streams.add(self)

    # What the context shows.

    @property
    def protocol(self) -> H2Protocol:
        """The connection."""
        return self._protocol

    @property
    def metadata(self) -> Metadata:
        """What the client sent."""
        return self._stream.head.metadata

    @property
    def deadline_ns(self) -> int:
        """Monotonic nanoseconds; 0 is never."""
        return self._stream.deadline_ns

    @property
    def seconds_left(self) -> float | None:
        """Until the deadline, not below 0; None without one."""
        deadline_ns = self._stream.deadline_ns
        return max(0.0, (deadline_ns - self._protocol.hub.now_ns()) / SECOND) if deadline_ns else None

    def on_done(self, callback: Callable[[], object]) -> bool:
        """Call `callback` once when the call ends, however it does. False: it has, nothing is called."""
        if self.is_done:
            return False
        self._callbacks.append(callback)
        return True

    # Reading and writing.

    async def next_message(self) -> bytes | None:
        """Wait for the next request message; None at the end of the request.

        Raises:
            RpcEndedError: the call ended first.
        """
        while not self._inbox:
            if self.is_done:
                raise RpcEndedError
            if self._is_half_closed:
                return None
            await self._change()
        message = self._inbox.popleft()
        self._protocol.connection.consumed(self._stream, len(message))
        self._protocol.touch()
        return message

    def send_headers(self, pairs: Metadata = ()) -> None:
        """Send the initial metadata, once, before any message.

        Raises:
            RpcEndedError: the call has ended.
            ValueError: a name or value cannot be sent.
        """
        if self.is_done:
            raise RpcEndedError
        self._protocol.connection.send_headers(self._stream, pairs, compress=self.compresses)
        self.has_headers = True
        self._protocol.touch()

    async def send(self, message: bytes) -> None:
        """Send a message, then wait until there is room for another.

        Raises:
            RpcEndedError: the call ended before that.
        """
        if self.is_done:
            raise RpcEndedError
        if not self.has_headers:
            self.send_headers()
        compress = self._take_compress()
        self._has_room = self._protocol.connection.send_message(self._stream, message, compress=compress)
        self._protocol.touch()
        while not self._has_room:
            await self._change()
            if self.is_done:
                raise RpcEndedError

    # The end.

    def respond(self, message: bytes) -> None:
        """End a call of one response. With a status set, the message is not sent."""
        if self.is_done:
            return
        connection, stream = self._protocol.connection, self._stream
        if self.is_aborted or self.status is not Status.OK:
            self.finish()
            return
        if self.has_headers or self.trailers or self.compresses:
            if not self.has_headers:
                self.send_headers()
            connection.send_message(stream, message, compress=self._take_compress())
            connection.finish(stream, self.status, self.text, self.trailers)
        else:
            connection.reply(stream, message)
        self._end()

    def finish(self) -> None:
        """End the call with what status, text and trailers say."""
        if self.is_done:
            return
        connection, stream = self._protocol.connection, self._stream
        if self.status is Status.OK:
            connection.finish(stream, self.status, self.text, self.trailers)
        else:
            connection.fail(
                stream, self.status, self.text, self.trailers, self.status_details, is_running=True
            )
        self._end()

    def set_trailers(self, trailers: Metadata) -> None:
        """Send these with the status.

        Raises:
            ValueError: a name or value cannot be sent.
        """
        plain = tuple(pair for pair in trailers if pair[0] != _STATUS_DETAILS)
        metadata.encode(plain)
        self.trailers = plain
        for name, value in trailers:
            if name == _STATUS_DETAILS:
                self.status_details = value if isinstance(value, bytes) else value.encode()

    def set_error(self, status: Status, text: str) -> None:
        """Let the call end with this, unless the handler aborted with something else."""
        if not self.is_aborted:
            self.status, self.text = status, text

    def raised(self, error: BaseException) -> None:
        """The handler raised: the status it set counts, the exception's text stays here."""
        if self.status is Status.OK:
            self._protocol.hub.failed(error, self.route.path)
            self.set_error(Status.UNKNOWN, INTERNAL_ERROR)
        self.finish()

    def returned(self) -> None:
        """The handler has truly returned: what it took of the connection's bounds is free again."""
        self.task = None
        self.finish()
        self._protocol.connection.release(self._stream)

    # Live: driven by the connection.

    def received(self, message: bytes) -> None:
        """Take the next request message."""
        self._inbox.append(message)
        self._wake()

    def half_closed(self) -> None:
        """No request message follows."""
        self._is_half_closed = True
        self._wake()

    def gone(self) -> None:
        """The client is gone."""
        self._cancel()

    def writable(self) -> None:
        """There is room again."""
        self._has_room = True
        self._wake()

    def draining(self) -> None:
        """A servicer learns of the end when it is ended."""

    def expire(self) -> None:
        """The deadline passed."""
        self.end(Status.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def end(self, status: Status, text: str) -> None:
        """End it in the handler's place."""
        if not self.is_done:
            self.status, self.text, self.trailers, self.status_details = status, text, (), b""
            self.is_aborted = self.is_cancelled = True
            self.finish()
            self._cancel()

    # Inside.

    def _cancel(self) -> None:
        self.is_cancelled = True
        self._end()
        if self.task is not None:
            self.task.cancel()

    def _end(self) -> None:
        if self.is_done:
            return
        self.is_done = True
        self._stream.call = None
        self._protocol.streams.discard(self)
        self._inbox.clear()
        if self._slot:
            self._protocol.hub.deadlines.discard(self, self._slot)
        self._wake()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._protocol.guarded(callback)
        self._protocol.touch()

    def _take_compress(self) -> bool:
        compress = self.compresses and not self.skips_once
        self.skips_once = False
        return compress

    async def _change(self) -> None:
        """Wait for a message, for room, or for the end."""
        if self._changed is None:
            self._changed = asyncio.Event()
        self._changed.clear()
        await self._changed.wait()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
