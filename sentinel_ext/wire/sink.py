"""What a connection tells its owner: one call per event, made after a read is parsed to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sentinel_ext.wire.stream import Stream


class Sink(Protocol):
    """The owner of a connection, usually the transport's glue. Its methods must not raise.

    Every call is made from within `feed`, `tick`, `resume` or `lost`, and may call the connection back
    (`reply`, `fail`, `send_message`, ...), but not `feed`.
    """

    def on_request(self, stream: Stream, message: bytes) -> None:
        """The whole request of a UNARY or SERVER_STREAM call is there; a slot in flight is taken."""

    def on_open(self, stream: Stream) -> None:
        """A CLIENT_STREAM or BIDI call began; a slot in flight is taken."""

    def on_message(self, stream: Stream, message: bytes) -> None:
        """The next message of such a call; answer with `consumed` once the handler took it."""

    def on_half_close(self, stream: Stream) -> None:
        """The client of such a call will send nothing more."""

    def on_cancel(self, stream: Stream, code: int) -> None:
        """A call that the sink was given ended without it; once. Its slot stays taken until `release`.

        Args:
            stream: the call.
            code: the HTTP/2 error code, the peer's or ours; any 32-bit number.
        """

    def on_writable(self, stream: Stream) -> None:
        """`send_message` said False for this call, and there is room again."""

    def on_drained(self) -> None:
        """A drain is finished, ours or one the client began: no stream is left and none will come."""

    def on_trip(self, reason: str) -> None:
        """A limit tripped or the peer broke the protocol. `reason` is one of a fixed set of words."""
