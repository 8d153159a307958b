"""One server connection: bytes in, calls on a sink and bytes out. No I/O, no clock.

    shell ── feed ──> Receiver ──> Requests (HEADERS, DATA) ──> events ──> Sink
                              └──> Control (all other frames)               │
    shell <── take ── Sender <──────────── reply, fail, send_message ───────┘

`Lifecycle` has the times. A fault that ends the connection is a value (faults.py), never an exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.wire import frames
from sentinel_ext.wire.answers import Answering
from sentinel_ext.wire.calls import Calls, Event
from sentinel_ext.wire.codes import ErrorCode, Status
from sentinel_ext.wire.control import Control
from sentinel_ext.wire.guards import Guards
from sentinel_ext.wire.hpack import HeaderDecoder
from sentinel_ext.wire.lifecycle import Lifecycle, Phase
from sentinel_ext.wire.receiving import Receiver
from sentinel_ext.wire.requests import Requests
from sentinel_ext.wire.sending import Sender
from sentinel_ext.wire.table import StreamTable

if TYPE_CHECKING:
    from sentinel_ext.wire.faults import Fault
    from sentinel_ext.wire.hpack import BlockCache
    from sentinel_ext.wire.limits import Limits, ProcessBudget
    from sentinel_ext.wire.methods import MethodTable
    from sentinel_ext.wire.sink import Sink


class Connection(Answering):
    """The server side of one HTTP/2 connection that carries gRPC calls. One event loop owns it.

    Attributes:
        is_over: nothing more will happen: write what `take` gives, then close the transport. After an error
            go on reading and discarding for `Limits.linger_ns`, or a TCP reset may eat the GOAWAY.
        counters: how often each limit tripped, by reason.
    """

    __slots__ = (
        "_guards",
        "_lifecycle",
        "_limits",
        "_now_ns",
        "_receiver",
        "_requests",
        "_sink",
        "_table",
        "counters",
        "is_over",
    )

    def __init__(
        self,
        sink: Sink,
        methods: MethodTable,
        limits: Limits,
        cache: BlockCache | None,
        budget: ProcessBudget,
        now_ns: int,
    ) -> None:
        """Build it at rest; `start` queues its first bytes.

        Args:
            sink: hears every event.
            methods: what can be called.
            limits: every number.
            cache: header blocks seen, shared by all connections of the process; None decodes every block.
            budget: what the connections of the process share.
            now_ns: monotonic time, nanoseconds.
        """
        table = StreamTable(limits.closed_streams)
        guards = Guards(limits, now_ns)
        sender = Sender(table, guards, limits)
        calls = Calls(table, sender, limits, budget, self._trip)
        requests = Requests(table, sender, calls, HeaderDecoder(cache, methods, limits), guards, limits)
        control = Control(table, sender, calls, requests, guards, limits)
        super().__init__(sender, calls, control, budget)
        self._sink = sink
        self._limits = limits
        self._table = table
        self._guards = guards
        self._requests = requests
        self._receiver = Receiver(control, requests, limits)
        self._lifecycle = Lifecycle(table, sender, calls, control, self._receiver, limits)
        self._now_ns = now_ns
        self.is_over = False
        self.counters: dict[str, int] = {}

    # The transport's side.

    def start(self, now_ns: int) -> None:
        """Queue SETTINGS and the connection's window: write them before the client's first byte."""
        self._lifecycle.start(now_ns)

    def feed(self, data: bytes, now_ns: int) -> None:
        """Take bytes as they were read, cut anywhere. Parses all of them, then calls the sink."""
        if self.is_over:
            return
        self._now_ns = self._lifecycle.read_ns = now_ns
        fault = self._receiver.receive(data, now_ns)
        if fault is None:
            self._settle(now_ns)
        else:
            self._end(fault)

    def take(self) -> bytes:
        """All output, joined: one write for one read. Empty if there is none."""
        sender = self._sender
        if not sender.out:
            return b""
        data = b"".join(sender.out)
        sender.out.clear()
        if not sender.is_paused:
            self._guards.control = 0
        return data

    @property
    def has_output(self) -> bool:
        """`take` has something to give."""
        return bool(self._sender.out)

    @property
    def wants_read(self) -> bool:
        """The shell may go on reading.

        Only a full transport stops reading. A closed flow window must not: the WINDOW_UPDATE that opens it
        is something to read. Then new calls are refused instead, while too much is queued.
        """
        return not (self._sender.is_paused and self._sender.queued > self._limits.max_output)

    def pause(self) -> None:
        """The transport's buffer is full: hold HEADERS and DATA back."""
        self._sender.pause()

    def resume(self) -> None:
        """The transport's buffer has room again."""
        self._sender.resume()
        if not self.is_over:
            self._settle(self._now_ns)

    def tick(self, now_ns: int) -> None:
        """Timeouts, keepalive, ages, the steps of a drain; once a second or so."""
        if self.is_over:
            return
        self._now_ns = now_ns
        fault = self._lifecycle.tick(now_ns)
        if fault is None:
            self._settle(now_ns)
        else:
            self._end(fault)

    def drain(self, reason: str, now_ns: int) -> None:
        """End in good order: GOAWAY twice, then `on_drained` once no stream is left.

        Args:
            reason: short ASCII text for GOAWAY, such as "shutdown" or "max_age".
            now_ns: monotonic time, nanoseconds.
        """
        if not self.is_over:
            self._lifecycle.drain(reason, now_ns)

    def lost(self, now_ns: int) -> None:
        """The transport is gone: every call is cancelled, once. Slots stay until `release`."""
        self._now_ns = now_ns
        self._cancel_all(ErrorCode.CANCEL)
        self._sender.out.clear()

    @property
    def last_stream_id(self) -> int:
        """The highest id the client used."""
        return self._table.last_id

    @property
    def open_streams(self) -> int:
        """Streams that are not closed."""
        return len(self._table.open)

    # Inside.

    def _settle(self, now_ns: int) -> None:
        """What follows a read that was parsed to its end."""
        if self._control.needs_flush:
            self._control.needs_flush = False
            self._sender.flush()
        if self._calls.events:
            self._dispatch()
        while self._sender.writable:
            stream = self._sender.writable.pop(0)
            if not stream.is_ended:
                self._sink.on_writable(stream)
        self._calls.credit_connection()
        if self._sender.fault is not None:
            self._end(self._sender.fault)
            return
        self._lifecycle.after_read(now_ns)
        if self._lifecycle.phase is Phase.DONE and not self.is_over:
            self.is_over = True
            self._sink.on_drained()

    def _dispatch(self) -> None:
        """Tell the sink. A callback may bring about more events, so until there are none."""
        sink, calls = self._sink, self._calls
        while calls.events:
            events, calls.events = calls.events, []
            for what, stream, message, code in events:
                if what is Event.CANCEL:
                    sink.on_cancel(stream, code)
                elif stream.is_ended:
                    continue
                elif what is Event.MESSAGE:
                    sink.on_message(stream, message)
                elif what is Event.HALF_CLOSE:
                    sink.on_half_close(stream)
                elif full := self._full():
                    self.fail(stream, Status.RESOURCE_EXHAUSTED, full)
                else:
                    stream.has_slot = True
                    self.in_flight += 1
                    self._budget.in_flight += 1
                    if what is Event.OPEN:
                        sink.on_open(stream)
                    else:
                        calls.forget(stream)
                        sink.on_request(stream, message)

    def _full(self) -> str:
        """Why no call may begin; "" if one may. Handlers that were cancelled and still run count.

        That count is the defence against rapid reset (CVE-2023-44487).
        """
        if self.in_flight >= self._limits.max_in_flight:
            self._trip("in_flight")
        elif self._budget.in_flight >= self._budget.max_in_flight:
            self._trip("in_flight_process")
        elif self._sender.queued > self._limits.max_output_hard:
            self._trip("output_queue")
            return "too much output queued"
        else:
            return ""
        return "too many calls in flight"

    def _end(self, fault: Fault) -> None:
        """End by error: one GOAWAY with the true last id, and every call is cancelled (§5.4.1)."""
        if self.is_over:
            return
        last_id = min(self._table.last_id, self._requests.accept_below)
        self._sender.out.append(frames.goaway(last_id, fault.code, fault.reason))
        self._cancel_all(fault.code)
        self._trip(fault.reason)

    def _cancel_all(self, code: int) -> None:
        self.is_over = True
        for stream in list(self._table.open.values()):
            self._calls.cancelled(stream, code)
        self._dispatch()

    def _trip(self, reason: str) -> None:
        self.counters[reason] = self.counters.get(reason, 0) + 1
        self._sink.on_trip(reason)
