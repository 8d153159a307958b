"""Hot streams: an object that takes each message as bytes. For streams that live as long as a connection.

An access log of a million entries is a million plain calls: no queue, no coroutine, no task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.server.calls import Start
    from sentinel_ext.server.protocol import H2Protocol
    from sentinel_ext.services.registry import HotStream, OpenStream, StreamHandler
    from sentinel_ext.wire.stream import Stream


class StreamCall:
    """One open hot stream."""

    __slots__ = ("_handler", "_protocol", "_slot", "_stream", "is_done")

    def __init__(self, protocol: H2Protocol, stream: Stream) -> None:
        """Made by the server."""
        self._protocol = protocol
        self._stream = stream
        self._handler: StreamHandler | None = None
        self._slot = 0
        self.is_done = False

    # For the handler.

    @property
    def deadline_ns(self) -> int:
        """Monotonic nanoseconds at which it must be over; 0 is never."""
        return self._stream.deadline_ns

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What the client sent; parsed when asked for."""
        return self._stream.head.metadata

    @property
    def peer(self) -> str:
        """Where the client is, in grpc's words."""
        return self._protocol.peer.address

    def send(self, message: bytes) -> bool:
        """Send a message. False: hold the next one until `on_writable`, or the stream is over."""
        if self.is_done:
            return False
        has_room = self._protocol.connection.send_message(self._stream, message)
        self._protocol.touch()
        return has_room

    def finish(self, status: int = Status.OK, text: str = "") -> bool:
        """End the stream after what was sent. False: it was over already."""
        if self.is_done:
            return False
        sent = self._protocol.connection.finish(self._stream, status, text)
        self._end()
        return sent

    # For the server.

    def begin(self, make: Callable[[OpenStream], StreamHandler]) -> None:
        """Make the handler."""
        self._stream.call = self
        self._protocol.streams.add(self)
        if self._stream.deadline_ns:
            self._slot = self._protocol.hub.deadlines.add(self)
        try:
            self._handler = make(self)
        except Exception as error:  # noqa: BLE001  the handler's bug ends its stream alone
            self._fault(error)

    def received(self, message: bytes) -> None:
        """Hand on a message and give its credit back."""
        handler = self._handler
        if handler is None:
            return
        try:
            handler.on_message(message)
        except Exception as error:  # noqa: BLE001  as above
            self._fault(error)
        self._protocol.connection.consumed(self._stream, len(message))

    def half_closed(self) -> None:
        """Hand on the end of the request."""
        if self._handler is not None:
            self._tell(self._handler.on_half_close)

    def writable(self) -> None:
        """Hand on that there is room."""
        if self._handler is not None:
            self._tell(self._handler.on_writable)

    def draining(self) -> None:
        """Hand on that the end is near."""
        if self._handler is not None:
            self._tell(self._handler.on_drain)

    def gone(self) -> None:
        """The client is gone."""
        self._cancel()
        self._protocol.connection.release(self._stream)

    def expire(self) -> None:
        """The deadline passed."""
        self.end(Status.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def end(self, status: Status, text: str) -> None:
        """End it in the handler's place."""
        if not self.is_done:
            self._protocol.connection.fail(self._stream, status, text)
            self._cancel()

    def _tell(self, event: Callable[[], None]) -> None:
        try:
            event()
        except Exception as error:  # noqa: BLE001  as above
            self._fault(error)

    def _fault(self, error: Exception) -> None:
        if self.is_done:
            self._protocol.hub.failed(error, "")
            return
        self._protocol.raised(self._stream, error)
        self._cancel()

    def _cancel(self) -> None:
        handler = self._handler
        self._end()
        if handler is not None:
            self._protocol.guarded(handler.on_cancel)

    def _end(self) -> None:
        if self.is_done:
            return
        self.is_done = True
        self._handler = None
        self._stream.call = None
        self._protocol.streams.discard(self)
        if self._slot:
            self._protocol.hub.deadlines.discard(self, self._slot)
        self._protocol.touch()


def stream(method: HotStream) -> Start:
    """Begin calls of a HotStream."""
    make = method.open

    def start(protocol: H2Protocol, opened: Stream, _message: bytes) -> None:
        StreamCall(protocol, opened).begin(make)

    return start
