"""What happens to a call once it exists: what is held for it, what it may still send, how it ends.

Events gather in `events` and are handed to the sink after the whole read is parsed: a client that opens and
resets streams in one segment never starts a handler (rapid reset, CVE-2023-44487).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from sentinel_ext.wire import frames
from sentinel_ext.wire.codes import ErrorCode, Status
from sentinel_ext.wire.head import Refusal
from sentinel_ext.wire.limits import DEFAULT_WINDOW
from sentinel_ext.wire.messages import BOMB, Assembler
from sentinel_ext.wire.status import RESPONSE_HEADERS, TRAILERS_OK, refusal_block, trailers_of
from sentinel_ext.wire.windows import ConnectionInflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.wire.limits import Limits, ProcessBudget
    from sentinel_ext.wire.sending import Sender
    from sentinel_ext.wire.stream import Stream
    from sentinel_ext.wire.table import StreamTable
    from sentinel_ext.wire.windows import StreamInflow

NOT_ONE_MESSAGE = Refusal(
    http_status=200, grpc_status=Status.UNIMPLEMENTED, message="one request message expected"
)
_MEMORY = Refusal(http_status=200, grpc_status=Status.RESOURCE_EXHAUSTED, message="too much buffered")


class Event(IntEnum):
    """What the sink is to hear."""

    REQUEST = 0
    OPEN = 1
    MESSAGE = 2
    HALF_CLOSE = 3
    CANCEL = 4


class Calls:
    """The calls of one connection.

    Attributes:
        events: (what, stream, message, error code) for the sink, in order.
        inflow: the connection's receive window.
        stream_window: what a new stream's receive window is.
        useful: DATA frames that carried something, a counter.
        on_trip: hears the name of every limit that tripped.
    """

    __slots__ = (
        "_budget",
        "_buffered",
        "_limits",
        "_sender",
        "_table",
        "events",
        "inflow",
        "on_trip",
        "stream_window",
        "useful",
    )

    def __init__(
        self,
        table: StreamTable,
        sender: Sender,
        limits: Limits,
        budget: ProcessBudget,
        on_trip: Callable[[str], None],
    ) -> None:
        self._table = table
        self._sender = sender
        self._limits = limits
        self._budget = budget
        self._buffered = 0
        self.useful = 0
        self.on_trip = on_trip
        self.events: list[tuple[Event, Stream, bytes, int]] = []
        self.inflow = ConnectionInflow(limits.connection_window)
        # A peer may use the default window until it has acknowledged a smaller one (RFC 9113 §6.9.2).
        self.stream_window = max(limits.stream_window, DEFAULT_WINDOW)

    # How a call ends without its handler.

    def refuse(self, stream: Stream, refusal: Refusal) -> None:
        """Answer with a status of ours. A handler that runs is told to stop."""
        self._cancel(stream, ErrorCode.CANCEL)
        block = trailers_of(refusal) if stream.has_headers else refusal_block(refusal)
        self._sender.submit(stream, closing=block)
        self.forget(stream)

    def answer_plainly(self, stream: Stream) -> None:
        """The test route: what h2spec wants to see."""
        # Long enough for its tests of small windows; shorter, it skips one.
        self._sender.submit(stream, RESPONSE_HEADERS, b"the test route", TRAILERS_OK)

    def reset(self, stream: Stream, code: int) -> None:
        """End it by RST_STREAM from us."""
        self._cancel(stream, code)
        self._sender.reset(stream.id, code)
        self.forget(stream)

    def cancelled(self, stream: Stream, code: int) -> None:
        """It is over by RST_STREAM from the peer, or with its connection."""
        self._cancel(stream, code)
        self._sender.drop(stream)
        self._table.close(stream.id, by_us=False)
        self.forget(stream)

    def _cancel(self, stream: Stream, code: int) -> None:
        if stream.is_ended:
            return
        stream.is_cancelled = True
        if stream.has_slot:
            self.events.append((Event.CANCEL, stream, b"", code))

    # Memory and windows.

    def gather(self, stream: Stream, inflow: StreamInflow, body: bytes) -> None:
        """Cut the body into messages; what is wrong with one ends the call, not the connection."""
        if stream.is_plain:
            return
        assembler = stream.assembler
        if assembler is None:
            assembler = Assembler(stream.head.encoding, self._limits)
            stream.assembler = assembler
        before = assembler.buffered
        messages = assembler.feed(body)
        if isinstance(messages, Refusal):
            if messages is BOMB:
                self.on_trip("gzip_bomb")
            self.refuse(stream, messages)
            return
        left = assembler.buffered
        charge = left - before
        if messages and stream.is_streaming:
            inflow.hold(len(messages), before + len(body) - left)
        for message in messages:
            charge += len(message)
            if stream.is_streaming:
                self.events.append((Event.MESSAGE, stream, message, 0))
            elif stream.message is None:
                stream.message = message
            else:
                self.refuse(stream, NOT_ONE_MESSAGE)
                return
        if not self.charge(stream, charge):
            self.on_trip("reassembly")
            self.refuse(stream, _MEMORY)

    def charge(self, stream: Stream, size: int) -> bool:
        """Count bytes held for a stream; False if there are too many here or in the process."""
        stream.buffered += size
        self._buffered += size
        self._budget.reassembly += size
        if size <= 0:
            return True
        within = self._buffered <= self._limits.max_reassembly
        return within and self._budget.reassembly <= self._budget.max_reassembly

    def forget(self, stream: Stream) -> None:
        """Free what is held for a stream."""
        if stream.buffered:
            self.charge(stream, -stream.buffered)
        stream.assembler = None
        stream.message = None

    def taken(self, stream: Stream, size: int) -> None:
        """A handler took a message of `size` bytes."""
        if stream.inflow is None or stream.is_ended:
            return
        self.charge(stream, -min(size, stream.buffered))
        stream.inflow.consumed(size + frames.PREFIX.size)
        self.credit(stream)

    def credit(self, stream: Stream) -> None:
        """Give stream window back, if it is worth a frame."""
        if stream.inflow is None or stream.is_half_closed:
            return
        increment = stream.inflow.credit()
        if increment:
            self._sender.out.append(frames.window_update(stream.id, increment))

    def credit_connection(self) -> None:
        """Give connection window back, once per read."""
        increment = self.inflow.credit()
        if increment:
            self._sender.out.append(frames.window_update(0, increment))

    def narrow(self) -> None:
        """The peer acknowledged our SETTINGS: a stream window below the default binds it from now on."""
        difference = self._limits.stream_window - self.stream_window
        self.stream_window = self._limits.stream_window
        if difference:
            for stream in self._table.open.values():
                if stream.inflow is not None:
                    stream.inflow.left += difference
