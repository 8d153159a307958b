"""How a connection begins, is kept alive, and ends in good order. All time comes in by `tick` and reads."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from sentinel_ext.wire import faults, frames
from sentinel_ext.wire.codes import ErrorCode, Status
from sentinel_ext.wire.head import Refusal
from sentinel_ext.wire.limits import DEFAULT_FRAME_SIZE, DEFAULT_WINDOW, MAX_WINDOW

if TYPE_CHECKING:
    from sentinel_ext.wire.calls import Calls
    from sentinel_ext.wire.control import Control
    from sentinel_ext.wire.faults import Fault
    from sentinel_ext.wire.limits import Limits
    from sentinel_ext.wire.receiving import Receiver
    from sentinel_ext.wire.sending import Sender
    from sentinel_ext.wire.table import StreamTable

# When its acknowledgement is here, so is every stream opened before the client saw the first GOAWAY. The
# payload is the one grpc-go uses, which its tools know.
_DRAIN_PING = b"\x01\x06\x01\x08\x00\x03\x03\x09"
_KEEPALIVE_PING = b"keepaliv"

_DRAINING = Refusal(http_status=200, grpc_status=Status.UNAVAILABLE, message="server is draining")


class Phase(IntEnum):
    """Steps of a drain (RFC 9113 §6.8)."""

    SERVING = 0
    ANNOUNCED = 1  # first GOAWAY, with the highest id there is
    CLOSING = 2  # second GOAWAY, with the true last id: new streams are ignored
    DONE = 3  # no stream is left


class Lifecycle:
    """The times of a connection.

    Attributes:
        phase: how far a drain is.
        read_ns: when bytes last came.
    """

    __slots__ = (
        "_calls",
        "_closing_ns",
        "_control",
        "_idle_mark",
        "_idle_ns",
        "_is_halfway",
        "_limits",
        "_moved",
        "_moved_ns",
        "_ping_ns",
        "_reason",
        "_receiver",
        "_requests",
        "_sender",
        "_started_ns",
        "_table",
        "phase",
        "read_ns",
    )

    def __init__(
        self,
        table: StreamTable,
        sender: Sender,
        calls: Calls,
        control: Control,
        receiver: Receiver,
        limits: Limits,
    ) -> None:
        self._table = table
        self._sender = sender
        self._calls = calls
        self._requests = receiver.requests
        self._control = control
        self._receiver = receiver
        self._limits = limits
        self.phase = Phase.SERVING
        self.read_ns = 0
        self._reason = ""
        self._started_ns = 0
        self._closing_ns = 0
        self._is_halfway = False
        self._ping_ns = 0
        self._moved = 0
        self._moved_ns = 0
        self._idle_mark = 0
        self._idle_ns = 0

    def start(self, now_ns: int) -> None:
        """SETTINGS and the connection's window, before the client said anything.

        The earlier the client reads HEADER_TABLE_SIZE 0, the fewer of its blocks need the slow decoder.
        """
        limits = self._limits
        self._started_ns = self.read_ns = self._moved_ns = self._idle_ns = now_ns
        entries = [
            (frames.HEADER_TABLE_SIZE, limits.header_table_size),
            (frames.MAX_CONCURRENT_STREAMS, limits.max_concurrent_streams),
            (frames.INITIAL_WINDOW_SIZE, limits.stream_window),
            (frames.MAX_HEADER_LIST_SIZE, limits.max_header_list),
            (frames.NO_RFC7540_PRIORITIES, 1),
        ]
        if limits.max_frame_size != DEFAULT_FRAME_SIZE:
            entries.append((frames.MAX_FRAME_SIZE, limits.max_frame_size))
        self._sender.out.append(frames.settings(entries))
        if limits.connection_window > DEFAULT_WINDOW:
            self._sender.out.append(frames.window_update(0, limits.connection_window - DEFAULT_WINDOW))

    def drain(self, reason: str, now_ns: int) -> None:
        """First GOAWAY: the client stops opening streams, and loses none that is under way."""
        if self.phase is not Phase.SERVING:
            return
        self.phase = Phase.ANNOUNCED
        self._reason = reason
        self._closing_ns = now_ns
        self._sender.out.append(frames.goaway(MAX_WINDOW, ErrorCode.NO_ERROR, reason))
        self._sender.out.append(frames.ping(_DRAIN_PING, ack=False))

    def after_read(self, now_ns: int) -> None:
        """What a read may have brought about."""
        control = self._control
        if control.pongs:
            if _DRAIN_PING in control.pongs and self.phase is Phase.ANNOUNCED:
                self._close(now_ns)
            control.pongs.clear()
        if self._requests.ids_run_out:
            self.drain("stream_ids", now_ns)
        if self._requests.is_refusing and self.phase < Phase.CLOSING:
            self._reason = self._reason or "client_goaway"
            self._close(now_ns)
        if self.phase is Phase.CLOSING and not self._table.open:
            self.phase = Phase.DONE

    def tick(self, now_ns: int) -> Fault | None:
        """Everything that time alone brings about."""
        fault = self._late_peer(now_ns) or self._slow_reader(now_ns) or self._silence(now_ns)
        if fault is not None:
            return fault
        self._ages(now_ns)
        self._drain_times(now_ns)
        self.after_read(now_ns)
        return None

    def _late_peer(self, now_ns: int) -> Fault | None:
        limits, age = self._limits, now_ns - self._started_ns
        block = self._receiver.block
        if not self._receiver.is_open and _is_over(age, limits.preface_timeout_ns):
            return faults.PREFACE_TIMEOUT
        if not self._requests.is_known and _is_over(age, limits.settings_timeout_ns):
            return faults.SETTINGS_TIMEOUT
        if block is not None and _is_over(now_ns - block.started_ns, limits.header_block_timeout_ns):
            return faults.HEADER_BLOCK_TIMEOUT
        return None

    def _slow_reader(self, now_ns: int) -> Fault | None:
        """Output that nobody takes (CVE-2019-9511, -9517, slow read)."""
        sender, limits = self._sender, self._limits
        if sender.sent != self._moved or not (sender.queued or sender.is_paused):
            self._moved = sender.sent
            self._moved_ns = now_ns
        elif _is_over(now_ns - self._moved_ns, limits.progress_timeout_ns):
            return faults.SLOW_READER
        for stream in sender.stalled() if sender.queued else ():
            if not stream.is_ended:
                continue  # its handler waits, and has a deadline if it wants one
            if not stream.blocked_ns:
                stream.blocked_ns = now_ns
            elif _is_over(now_ns - stream.blocked_ns, limits.stream_flush_timeout_ns):
                sender.reset(stream.id, ErrorCode.CANCEL)
        return None

    def _silence(self, now_ns: int) -> Fault | None:
        """Keepalive: any byte read is a sign of life."""
        limits = self._limits
        if self._ping_ns and self.read_ns >= self._ping_ns:
            self._ping_ns = 0
        if self._ping_ns:
            over = _is_over(now_ns - self._ping_ns, limits.keepalive_timeout_ns)
            return faults.KEEPALIVE_TIMEOUT if over else None
        if _is_over(now_ns - self.read_ns, limits.keepalive_after_ns):
            self._ping_ns = now_ns
            self._sender.out.append(frames.ping(_KEEPALIVE_PING, ack=False))
        return None

    def _ages(self, now_ns: int) -> None:
        limits, table = self._limits, self._table
        if table.open or table.opened != self._idle_mark:
            self._idle_mark = table.opened
            self._idle_ns = now_ns
        elif _is_over(now_ns - self._idle_ns, limits.max_idle_ns):
            self.drain("max_idle", now_ns)
        if _is_over(now_ns - self._started_ns, limits.max_age_ns):
            self.drain("max_age", now_ns)

    def _drain_times(self, now_ns: int) -> None:
        limits, waited = self._limits, now_ns - self._closing_ns
        if self.phase is Phase.ANNOUNCED and waited >= limits.goaway_pause_ns:
            self._close(now_ns)
        elif self.phase is Phase.CLOSING:
            if not self._is_halfway and waited >= limits.drain_grace_ns // 2:
                self._is_halfway = True
                self._end_streaming()
            if waited >= limits.drain_grace_ns:
                for stream in list(self._table.open.values()):
                    self._calls.reset(stream, ErrorCode.CANCEL)

    def _close(self, now_ns: int) -> None:
        """Second GOAWAY: what came until now is served, what comes is ignored."""
        self.phase = Phase.CLOSING
        self._closing_ns = now_ns
        self._requests.accept_below = self._table.last_id
        self._sender.out.append(frames.goaway(self._table.last_id, ErrorCode.NO_ERROR, self._reason))

    def _end_streaming(self) -> None:
        """Access logs and quota streams never end by themselves."""
        for stream in list(self._table.open.values()):
            if stream.is_streaming and not stream.is_ended:
                self._calls.refuse(stream, _DRAINING)


def _is_over(elapsed_ns: int, limit_ns: int) -> bool:
    """A limit of 0 is off."""
    return 0 < limit_ns <= elapsed_ns
