"""One connection: bytes from the transport into the wire's Connection and back, and its calls to handlers.

One read is one `feed` and at most one write; what is answered later is written once per loop turn. uvloop's
`write` is a system call each: 32 small writes cost 46 µs, one joined write 2 µs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from sentinel_ext import clock
from sentinel_ext.server import tls
from sentinel_ext.server.calls import RpcError
from sentinel_ext.wire import frames
from sentinel_ext.wire.codes import Status
from sentinel_ext.wire.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.server.calls import Live
    from sentinel_ext.server.hub import Hub
    from sentinel_ext.wire.limits import Limits
    from sentinel_ext.wire.stream import Stream

KIB: Final = 1024
MS: Final = 1_000_000
SECOND: Final = 1000 * MS

# uvloop's own low-water mark is 16 bytes: a writer would be woken only when all is out.
WRITE_HIGH: Final = 256 * KIB
WRITE_LOW: Final = 64 * KIB

# A connection's share of a turn. A read brings up to 256,000 bytes, and libuv reads up to 32 times before
# anyone else runs: 8 MB, or a quarter of a second.
SLICE: Final = 32 * KIB
MAX_TURN_STREAMS: Final = 256
MAX_TURN_NS: Final = 2 * MS

# After the client closed its direction, what runs may finish, but not for ever.
EOF_GRACE_NS: Final = 30 * SECOND
# For a peer that does not read what is left, from our last write to the abort.
CLOSE_GRACE_NS: Final = 10 * SECOND
# Connections of the same age would all be replaced in the same second.
AGE_JITTER: Final = 0.1
_PROBE: Final = frames.ping(b"are-you?", ack=False)


class Refusal(asyncio.Protocol):
    """Stands in for the connection that would be one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it at once: cheaper for both sides than to talk."""
        cast("asyncio.Transport", transport).abort()


class H2Protocol(asyncio.Protocol):
    """A connection and the sink of its wire.

    Attributes:
        connection: the wire.
        streams: calls that stream and are not over; a drain has to end them.
    """

    __slots__ = (
        "_backlog",
        "_closing_ns",
        "_eof_ns",
        "_has_turn",
        "_is_dirty",
        "_is_draining",
        "_is_reading",
        "_peer",
        "_transport",
        "connection",
        "hub",
        "streams",
    )

    def __init__(self, hub: Hub) -> None:
        """Serve the methods of `hub`."""
        self.hub = hub
        limits = _jittered(hub.limits) if hub.limits.max_age_ns else hub.limits
        self.connection = Connection(self, hub.methods, limits, hub.cache, hub.budget, hub.now_ns())
        self.streams: set[Live] = set()
        self._transport: asyncio.Transport
        self._backlog = b""
        self._has_turn = False
        self._is_dirty = False
        self._is_draining = False
        self._is_reading = True
        self._eof_ns = 0
        self._closing_ns = 0
        self._peer: tls.Peer | None = None

    @property
    def peer(self) -> tls.Peer:
        """Who is at the other end; looked up when asked for."""
        if self._peer is None:
            self._peer = tls.peer_of(self._transport)
        return self._peer

    # The transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say SETTINGS at once, before the client's preface."""
        self._transport = cast("asyncio.Transport", transport)
        if not tls.speaks_h2(transport):
            self.hub.trip("no_h2_in_alpn")
            self._transport.abort()
            return
        if len(self.hub.connections) >= self.hub.max_connections:
            # Again: asyncio's own loop accepts a backlog of them before the first is counted.
            self.hub.trip("connections")
            self._closing_ns = 1
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=WRITE_HIGH, low=WRITE_LOW)
        self.hub.opened(self)
        self.connection.start(self.hub.now_ns())
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Parse, run what can run, write once."""
        if self._closing_ns:
            return
        if len(data) > SLICE or self._backlog:
            self._backlog += data
            if not self._has_turn:
                self._take_turn()
            return
        self._is_dirty = True  # what is answered now goes out with this read's write
        self.connection.feed(data, self.hub.now_ns())
        self.flush()

    def eof_received(self) -> bool:
        """The client sends nothing more: what is whole may finish, what waits for more never will.

        A PING tells whether it still reads: if not, its system answers with a TCP RST and the transport
        reports the loss. So a call without an end does not outlive its client.
        """
        if (
            self._closing_ns
            or not self.connection.in_flight
            or self._transport.get_extra_info("ssl_object") is not None
        ):
            return False
        self._eof_ns = self.hub.now_ns()
        self._transport.write(_PROBE)
        return True

    def connection_lost(self, _error: Exception | None) -> None:
        """Cancel what runs."""
        self.hub.closed(self)
        self._backlog = b""
        self._closing_ns = self._closing_ns or 1
        self._is_dirty = True  # nothing is written from here on
        self.connection.lost(self.hub.now_ns())

    def pause_writing(self) -> None:
        """The peer reads slowly: hold back HEADERS and DATA."""
        self.connection.pause()

    def resume_writing(self) -> None:
        """It reads again."""
        self.connection.resume()
        self.touch()

    # The server.

    def touch(self) -> None:
        """There may be something to write at the end of this turn."""
        if not self._is_dirty:
            self._is_dirty = True
            self.hub.flush_soon(self)

    def flush(self) -> None:
        """Write all there is, in one go."""
        if self._closing_ns:
            return
        connection = self.connection
        if self._is_draining:
            # The last answer may have been the last thing it waited for.
            self._is_dirty = True
            connection.tick(self.hub.now_ns())
        self._is_dirty = False
        out = connection.take()
        if out:
            self._transport.write(out)
        if connection.is_over or (self._eof_ns and not connection.in_flight):
            self._close()
        elif self._backlog:
            self._read_later()
        elif self._is_reading is not connection.wants_read:
            self._switch_reading()

    def tick(self, now_ns: int) -> None:
        """Look at timeouts; called every half second."""
        if self._closing_ns:
            self._linger(now_ns - self._closing_ns)
            return
        if self._eof_ns:
            if now_ns - self._eof_ns > EOF_GRACE_NS:
                self._transport.abort()
                return
            self._transport.write(_PROBE)
        self._is_dirty = True
        self.connection.tick(now_ns)
        self.flush()

    def drain(self, reason: str) -> None:
        """Take no new calls, finish those that run, then close."""
        self._is_draining = True
        self.connection.drain(reason, self.hub.now_ns())
        self.touch()

    def abort(self) -> None:
        """Close now; what runs is cancelled."""
        self._transport.abort()

    def guarded(self, callback: Callable[[], object]) -> None:
        """Call what a handler registered; its bug must not reach the connection."""
        try:
            callback()
        except Exception as error:  # noqa: BLE001
            self.hub.failed(error, "")

    def raised(self, stream: Stream, error: Exception) -> None:
        """A handler raised before it answered."""
        if isinstance(error, RpcError):
            self.connection.fail(stream, error.status, error.text)
            return
        self.hub.failed(error, stream.head.path.decode("ascii", "replace"))
        self.connection.fail(stream, Status.UNKNOWN, "internal error")

    # The sink of the wire.

    def on_request(self, stream: Stream, message: bytes) -> None:
        """Begin a call whose request is whole."""
        self.hub.calls += 1
        cast("Any", stream.head.method).handler(self, stream, message)

    def on_open(self, stream: Stream) -> None:
        """Begin a call whose client streams."""
        self.hub.calls += 1
        cast("Any", stream.head.method).handler(self, stream, b"")

    def on_message(self, stream: Stream, message: bytes) -> None:
        """Hand on a message; a call that is over takes none, so its credit goes back at once."""
        if stream.call is None:
            self.connection.consumed(stream, len(message))
        else:
            cast("Live", stream.call).received(message)

    def on_half_close(self, stream: Stream) -> None:
        """Hand on the end of the request."""
        if stream.call is not None:
            cast("Live", stream.call).half_closed()

    def on_cancel(self, stream: Stream, _code: int) -> None:
        """Any code: Envoy resets a stream that timed out with INTERNAL_ERROR, not with CANCEL."""
        if stream.call is None:
            self.connection.release(stream)
        else:
            cast("Live", stream.call).gone()

    def on_writable(self, stream: Stream) -> None:
        """Let the call go on sending."""
        if stream.call is not None:
            cast("Live", stream.call).writable()

    def on_drained(self) -> None:
        """`is_over` says so, too; `flush` looks there."""
        self.touch()

    def on_trip(self, reason: str) -> None:
        """Count and log."""
        self.hub.trip(reason)

    # Inside.

    def _take_turn(self) -> None:
        """Feed a large read slice by slice; what exceeds this turn's share waits for the next."""
        self._has_turn = False
        if self._closing_ns:
            return
        connection, now_ns = self.connection, self.hub.now_ns
        backlog, at = self._backlog, 0
        started_ns, first_id = now_ns(), connection.last_stream_id
        self._is_dirty = True
        while at < len(backlog) and not connection.is_over:
            stamp_ns = now_ns()
            if at and (
                stamp_ns - started_ns > MAX_TURN_NS
                or connection.last_stream_id - first_id > 2 * MAX_TURN_STREAMS
                or not connection.wants_read
            ):
                break
            connection.feed(backlog[at : at + SLICE], stamp_ns)
            at += SLICE
        self._backlog = backlog[at:]
        self.flush()

    def _read_later(self) -> None:
        """The rest of a read waits for its turn, or for the peer to take what is queued for it."""
        if self._is_reading:
            self._switch_reading()
        if not self._has_turn and self.connection.wants_read:
            self._has_turn = True
            self.hub.loop.call_soon(self._take_turn)

    def _switch_reading(self) -> None:
        self._is_reading = not self._is_reading
        if not self._is_reading:
            self._transport.pause_reading()
        elif not self._eof_ns:
            self._transport.resume_reading()

    def _close(self) -> None:
        """Close our direction and discard what still comes.

        Data left unread would turn the close into a TCP reset, which takes GOAWAY and the last replies.
        """
        self._closing_ns = self.hub.now_ns()
        self._is_dirty = True
        self._backlog = b""
        if not self._is_reading:
            self._switch_reading()
        if self._eof_ns:
            self._transport.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()

    def _linger(self, waited_ns: int) -> None:
        if waited_ns > CLOSE_GRACE_NS:
            self._transport.abort()
        elif waited_ns > self.hub.limits.linger_ns:
            self._transport.close()


def _jittered(limits: Limits) -> Limits:
    factor = 1 - AGE_JITTER + 2 * AGE_JITTER * clock.random_unit()
    return msgspec.structs.replace(limits, max_age_ns=int(limits.max_age_ns * factor))
