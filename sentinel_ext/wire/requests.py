"""What HEADERS and DATA mean: streams open, messages gather, requests end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentinel_ext.wire import faults, frames
from sentinel_ext.wire.calls import NOT_ONE_MESSAGE, Event
from sentinel_ext.wire.codes import ErrorCode, Status
from sentinel_ext.wire.head import MALFORMED, Refusal
from sentinel_ext.wire.hpack import HpackError
from sentinel_ext.wire.limits import MAX_WINDOW
from sentinel_ext.wire.methods import Kind
from sentinel_ext.wire.stream import Stream
from sentinel_ext.wire.table import Fate
from sentinel_ext.wire.windows import StreamInflow

if TYPE_CHECKING:
    from sentinel_ext.wire.calls import Calls
    from sentinel_ext.wire.faults import Fault
    from sentinel_ext.wire.guards import Guards
    from sentinel_ext.wire.hpack import HeaderDecoder
    from sentinel_ext.wire.limits import Limits
    from sentinel_ext.wire.sending import Sender
    from sentinel_ext.wire.table import StreamTable


# The members as plain names: an attribute of an enum class costs 0.03 µs more, twice per request.
_REQUEST: Final = Event.REQUEST
_CLIENT_STREAM: Final = Kind.CLIENT_STREAM
_BIDI: Final = Kind.BIDI
_PREFIX_SIZE: Final = frames.PREFIX.size
_unpack_prefix = frames.PREFIX.unpack_from

_CUT_MESSAGE = Refusal(http_status=200, grpc_status=Status.INTERNAL, message="request ended inside a message")


class Requests:
    """The receiving half of a connection, above the frames.

    Attributes:
        accept_below: ids above it are ignored: our last GOAWAY promised so.
        is_refusing: the client said GOAWAY: no new streams.
        is_known: the peer acknowledged our SETTINGS, so it knows how many streams it may open.
        ids_run_out: the client has used so many ids that the connection should be replaced.
    """

    __slots__ = (
        "_calls",
        "_decoder",
        "_guards",
        "_limits",
        "_sender",
        "_table",
        "accept_below",
        "ids_run_out",
        "is_known",
        "is_refusing",
    )

    def __init__(
        self,
        table: StreamTable,
        sender: Sender,
        calls: Calls,
        decoder: HeaderDecoder,
        guards: Guards,
        limits: Limits,
    ) -> None:
        self._table = table
        self._sender = sender
        self._calls = calls
        self._decoder = decoder
        self._guards = guards
        self._limits = limits
        self.accept_below = MAX_WINDOW
        self.is_refusing = False
        self.is_known = False
        self.ids_run_out = False

    # HEADERS.

    def headers(self, stream_id: int, flags: int, block: bytes, now_ns: int) -> Fault | None:
        """A whole header block: a new call, or a request's trailers."""
        table = self._table
        if stream_id <= table.last_id or not stream_id & 1:
            return self._headers_again(stream_id, flags, block)
        table.last_id = stream_id
        table.opened += 1
        try:
            head = self._decoder.decode(block)
        except HpackError:
            return faults.COMPRESSION
        timeout = head.timeout_ns
        method = head.method
        stream = Stream(
            stream_id,
            head,
            self._sender.initial_window,
            now_ns,
            0 if timeout is None else now_ns + timeout,
            head.content_length,
        )
        if (
            head.refusal is not None
            or method is None
            or flags & frames.END_STREAM
            or len(table.open) >= self._limits.max_concurrent_streams
            or stream_id > self._limits.max_stream_id
            or stream_id > self.accept_below
            or self.is_refusing
        ):
            return self._headers_rare(stream, flags)
        table.open[stream_id] = stream
        kind = method.kind
        if kind is _CLIENT_STREAM or kind is _BIDI:
            stream.is_streaming = True
            self._calls.events.append((Event.OPEN, stream, b"", 0))
        return None

    def _headers_rare(self, stream: Stream, flags: int) -> Fault | None:
        """A new stream that is refused, has no body, or comes at the wrong time. wire rules, in order."""
        stream_id, head, table = stream.id, stream.head, self._table
        if stream_id > self._limits.max_stream_id:
            self.ids_run_out = True
        if head.is_oversized:
            return faults.HEADER_LIST
        if stream_id > self.accept_below:
            table.close(stream_id, by_us=True)
            return None
        if head.refusal is MALFORMED:
            return self._malformed(stream)
        if self.is_refusing or len(table.open) >= self._limits.max_concurrent_streams:
            self._calls.on_trip("refused_stream")
            self._sender.reset(stream_id, ErrorCode.REFUSED_STREAM)
            # Before it knows our limit a client can pass it in good faith.
            refused = not self.is_known or self.is_refusing or self._guards.local_reset()
            return None if refused else faults.STREAM_ERRORS
        table.open[stream_id] = stream
        stream.is_plain = bool(self._limits.test_route) and head.path == self._limits.test_route
        if head.refusal is not None and not stream.is_plain:
            stream.is_half_closed = bool(flags & frames.END_STREAM)
            self._calls.refuse(stream, head.refusal)
            return None
        method = head.method
        if method is not None and method.kind in {_CLIENT_STREAM, _BIDI}:
            stream.is_streaming = True
            self._calls.events.append((Event.OPEN, stream, b"", 0))
        return self._end(stream) if flags & frames.END_STREAM else None

    def _headers_again(self, stream_id: int, flags: int, block: bytes) -> Fault | None:
        """HEADERS on an id that is not new. Decoded even if ignored, or HPACK would lose step."""
        stream = self._table.open.get(stream_id)
        fault = self._misplaced(stream_id, stream, flags)
        if fault is not None:
            return fault
        try:
            trailers = self._decoder.decode_trailers(block)
        except HpackError:
            return faults.COMPRESSION
        if trailers.is_oversized:
            return faults.HEADER_LIST
        if stream is None:
            return None
        return self._malformed(stream) if trailers.refusal is not None else self._end(stream)

    def _misplaced(self, stream_id: int, stream: Stream | None, flags: int) -> Fault | None:
        """HEADERS are trailers on an open stream, a straggler on one we reset, else wrong (§5.1)."""
        if stream is not None:
            if stream.is_half_closed:
                return faults.STREAM_CLOSED
            return None if flags & frames.END_STREAM else faults.TRAILERS_WITHOUT_END
        fate = self._table.fate(stream_id)
        if fate is Fate.ENDED:
            return faults.STREAM_CLOSED
        return None if fate is Fate.RESET else faults.BAD_STREAM_ID

    # DATA.

    def whole(self, stream_id: int, buffer: bytes, start: int, stop: int) -> Fault | None:
        """Unpadded DATA with END_STREAM: most often one whole message, which needs no Assembler."""
        stream = self._table.open.get(stream_id)
        size = stop - start
        if (
            stream is None
            or size < _PREFIX_SIZE
            or _unpack_prefix(buffer, start) != (0, size - _PREFIX_SIZE)
            or stream.is_streaming
            or stream.is_half_closed
            or stream.is_ended
            or stream.is_plain
            or stream.inflow is not None
            or stream.body_left >= 0
            or size > self._calls.stream_window
            or size - _PREFIX_SIZE > self._limits.max_message
        ):
            return self.data(stream_id, frames.END_STREAM, buffer[start:stop])
        inflow = self._calls.inflow
        inflow.left -= size
        if inflow.left < 0:
            return faults.WINDOW_OVERRUN
        stream.is_half_closed = True
        self._calls.events.append((_REQUEST, stream, buffer[start + _PREFIX_SIZE : stop], 0))
        return None

    def data(self, stream_id: int, flags: int, payload: bytes) -> Fault | None:
        """One DATA frame. The connection's window counts it whatever becomes of it (§6.9)."""
        inflow = self._calls.inflow
        inflow.left -= len(payload)
        if inflow.left < 0:
            return faults.WINDOW_OVERRUN
        body = frames.unpad(payload, flags)
        if body is None:
            return faults.BAD_PADDING
        ends = flags & frames.END_STREAM
        if body:
            self._calls.useful += 1
        elif not ends and not self._guards.useless(self._table.last_id, self._calls.useful):
            return faults.USELESS_FRAMES
        stream = self._table.open.get(stream_id)
        if stream is not None:
            return self._body(stream, len(payload), body, ends)
        fate = self._table.fate(stream_id)
        if fate is Fate.IDLE:
            return faults.IDLE_STREAM
        return faults.STREAM_CLOSED if fate is Fate.ENDED else None

    def _body(self, stream: Stream, size: int, body: bytes, ends: int) -> Fault | None:
        """A piece of a request's body; `size` is what it was on the wire."""
        if stream.is_half_closed:
            return faults.STREAM_CLOSED
        inflow = stream.inflow
        if inflow is None:
            inflow = stream.inflow = StreamInflow(self._calls.stream_window)
        if not inflow.received(size):
            return faults.WINDOW_OVERRUN
        if stream.body_left >= 0:
            stream.body_left -= len(body)
            if stream.body_left < 0:
                return self._malformed(stream)
        stream.is_half_closed = bool(ends)  # before anything answers: then no RST_STREAM is needed after it
        if body and not stream.is_ended:
            self._calls.gather(stream, inflow, body)
        if ends:
            return self._end(stream)
        if not stream.is_ended:
            self._calls.credit(stream)
        return None

    def _end(self, stream: Stream) -> Fault | None:
        """The client sent END_STREAM."""
        stream.is_half_closed = True
        if stream.body_left > 0:
            return self._malformed(stream)
        if stream.is_ended:
            return None
        if stream.assembler is not None and stream.assembler.buffered:
            self._calls.refuse(stream, _CUT_MESSAGE)
        elif stream.is_plain:
            self._calls.answer_plainly(stream)
        elif stream.is_streaming:
            self._calls.events.append((Event.HALF_CLOSE, stream, b"", 0))
        elif stream.message is None:
            self._calls.refuse(stream, NOT_ONE_MESSAGE)
        else:
            self._calls.events.append((Event.REQUEST, stream, stream.message, 0))
            stream.message = None
        return None

    def _malformed(self, stream: Stream) -> Fault | None:
        """RST_STREAM PROTOCOL_ERROR (§8.1.1), so many times and no more."""
        self._calls.reset(stream, ErrorCode.PROTOCOL_ERROR)
        return None if self._guards.local_reset() else faults.STREAM_ERRORS

    def settings_acked(self) -> None:
        """The peer knows our SETTINGS, its first acknowledgement says."""
        if not self.is_known:
            self.is_known = True
            if not self._limits.header_table_size:
                self._decoder.settings_acked()
            self._calls.narrow()
