"""The frames that carry no call: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, RST_STREAM, PRIORITY."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.wire import faults, frames
from sentinel_ext.wire.codes import ErrorCode
from sentinel_ext.wire.limits import DEFAULT_FRAME_SIZE, DEFAULT_TABLE_SIZE, MAX_WINDOW
from sentinel_ext.wire.table import Fate
from sentinel_ext.wire.windows import widened

if TYPE_CHECKING:
    from sentinel_ext.wire.calls import Calls
    from sentinel_ext.wire.faults import Fault
    from sentinel_ext.wire.guards import Guards
    from sentinel_ext.wire.limits import Limits
    from sentinel_ext.wire.requests import Requests
    from sentinel_ext.wire.sending import Sender
    from sentinel_ext.wire.stream import Stream
    from sentinel_ext.wire.table import StreamTable


class Control:
    """Each method takes one frame (flags, stream id, payload) and returns the fault in it, or None.

    Attributes:
        now_ns: time of the read.
        pongs: payloads of PING acknowledgements of this read, for who sent the PINGs.
        max_header_list: the peer's SETTINGS_MAX_HEADER_LIST_SIZE.
        needs_flush: a window grew.
    """

    __slots__ = (
        "_calls",
        "_guards",
        "_limits",
        "_requests",
        "_sender",
        "_table",
        "_table_size",
        "max_header_list",
        "needs_flush",
        "now_ns",
        "pongs",
    )

    def __init__(
        self,
        table: StreamTable,
        sender: Sender,
        calls: Calls,
        requests: Requests,
        guards: Guards,
        limits: Limits,
    ) -> None:
        self._table = table
        self._sender = sender
        self._calls = calls
        self._requests = requests
        self._guards = guards
        self._limits = limits
        self._table_size = DEFAULT_TABLE_SIZE
        self.now_ns = 0
        self.pongs: list[bytes] = []
        self.max_header_list = frames.ERROR_CODES
        self.needs_flush = False

    def settings(self, flags: int, stream_id: int, payload: bytes) -> Fault | None:
        """SETTINGS (§6.5): entries in order, then the acknowledgement, before anything that uses them."""
        if stream_id:
            return faults.WRONG_STREAM_ZERO
        if len(payload) % frames.SETTING.size or (flags & frames.ACK and payload):
            return faults.FRAME_SIZE
        if flags & frames.ACK:
            self._requests.settings_acked()
            return None
        too_many = len(payload) // frames.SETTING.size > self._limits.max_settings_entries
        if too_many or not self._guards.settings(self.now_ns):
            return faults.SETTINGS_FLOOD
        for identifier, value in frames.SETTING.iter_unpack(payload):
            fault = self._apply(identifier, value)
            if fault is not None:
                return fault
        return self._answer(frames.SETTINGS_ACK)

    def _apply(self, identifier: int, value: int) -> Fault | None:
        match identifier:
            case frames.HEADER_TABLE_SIZE:
                if value < self._table_size:
                    self._sender.table_lowered()
                self._table_size = value
            case frames.ENABLE_PUSH | frames.ENABLE_CONNECT_PROTOCOL:
                return faults.BAD_SETTING if value > 1 else None
            case frames.INITIAL_WINDOW_SIZE:
                return self._initial_window(value)
            case frames.MAX_FRAME_SIZE:
                if not DEFAULT_FRAME_SIZE <= value < 2**24:
                    return faults.BAD_SETTING
                self._sender.max_frame = value
            case frames.MAX_HEADER_LIST_SIZE:
                self.max_header_list = value
        return None

    def _initial_window(self, value: int) -> Fault | None:
        """Every open stream's send window moves by the difference, below zero too (§6.9.2)."""
        if value > MAX_WINDOW:
            return faults.BAD_INITIAL_WINDOW
        difference = value - self._sender.initial_window
        self._sender.initial_window = value
        for stream in self._table.open.values():
            window = widened(stream.send_window, difference)
            if window is None:
                return faults.WINDOW_OVERFLOW
            stream.send_window = window
            self._sender.stream_widened(stream)
        self.needs_flush = True
        return None

    def ping(self, flags: int, stream_id: int, payload: bytes) -> Fault | None:
        """PING (§6.7)."""
        if stream_id:
            return faults.WRONG_STREAM_ZERO
        if len(payload) != 8:
            return faults.FRAME_SIZE
        if flags & frames.ACK:
            if len(self.pongs) < 2:  # we have at most two under way
                self.pongs.append(payload)
            return None
        if not self._guards.ping(self._sender.sent, self.now_ns):
            return faults.PING_FLOOD
        return self._answer(frames.ping(payload, ack=True))

    def goaway(self, _flags: int, stream_id: int, payload: bytes) -> Fault | None:
        """GOAWAY (§6.8): the client opens no more streams; what runs goes on."""
        if stream_id:
            return faults.WRONG_STREAM_ZERO
        if len(payload) < 8:
            return faults.FRAME_SIZE
        self._requests.is_refusing = True
        return None

    def window_update(self, _flags: int, stream_id: int, payload: bytes) -> Fault | None:
        """WINDOW_UPDATE (§6.9). Both errors end the connection, on a stream too: CVE-2025-8671."""
        if len(payload) != 4:
            return faults.FRAME_SIZE
        stream = self._table.open.get(stream_id)
        if stream is None and stream_id and self._table.fate(stream_id) is Fate.IDLE:
            return faults.IDLE_STREAM
        increment = frames.U32.unpack(payload)[0] & MAX_WINDOW
        if not increment:
            return faults.ZERO_INCREMENT
        if not self._guards.window_update(self._table.opened, self._sender.sent):
            return faults.WINDOW_UPDATES
        self.needs_flush = True
        return self._widen(stream_id, stream, increment)

    def _widen(self, stream_id: int, stream: Stream | None, increment: int) -> Fault | None:
        """Widen the stream's send window or the connection's; on a closed stream, nothing."""
        sender = self._sender
        if stream is not None:
            window = widened(stream.send_window, increment)
            if window is None:
                # The stream error that §6.9.1 asks for goes first, for clients that look for it (h2spec).
                sender.out.append(frames.rst_stream(stream_id, ErrorCode.FLOW_CONTROL_ERROR))
                return faults.WINDOW_OVERFLOW
            stream.send_window = window
            sender.stream_widened(stream)
        elif not stream_id:
            window = widened(sender.window, increment)
            if window is None:
                return faults.WINDOW_OVERFLOW
            sender.window = window
        return None

    def rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> Fault | None:
        """RST_STREAM (§6.4): any code cancels. Envoy's timeouts send INTERNAL_ERROR, not CANCEL."""
        if not stream_id:
            return faults.WRONG_STREAM_ZERO
        if len(payload) != 4:
            return faults.FRAME_SIZE
        stream = self._table.open.get(stream_id)
        if stream is None:
            return faults.IDLE_STREAM if self._table.fate(stream_id) is Fate.IDLE else None
        self._calls.cancelled(stream, frames.U32.unpack(payload)[0])
        if not self._guards.peer_reset(self._table.opened, self.now_ns - stream.opened_ns):
            return faults.RAPID_RESET
        return None

    def priority(self, _flags: int, stream_id: int, payload: bytes) -> Fault | None:
        """PRIORITY: read for its form only (RFC 9113 §5.3.2), on idle streams too."""
        if not stream_id:
            return faults.WRONG_STREAM_ZERO
        if len(payload) != 5:
            return faults.FRAME_SIZE
        if frames.U32.unpack_from(payload)[0] & frames.STREAM_ID == stream_id:
            return faults.SELF_DEPENDENCY
        return self.useless()

    def push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> Fault | None:
        """PUSH_PROMISE: never from a client (§8.4)."""
        return faults.PUSH_PROMISE

    def useless(self) -> Fault | None:
        """A frame that does nothing; a few are allowed."""
        if self._guards.useless(self._table.last_id, self._calls.useful):
            return None
        return faults.USELESS_FRAMES

    def _answer(self, answer: bytes) -> Fault | None:
        """Queue an answer to a control frame; a peer that does not read them is cut off (CVE-2019-9512)."""
        self._sender.out.append(answer)
        return None if self._guards.answer() else faults.CONTROL_QUEUE
