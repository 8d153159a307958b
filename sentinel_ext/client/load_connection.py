"""The client's half of HTTP/2 over prepared frames, for `load`. It trusts the server that it measures."""

from __future__ import annotations

import asyncio
import struct
from array import array
from collections import Counter
from typing import TYPE_CHECKING, Final, cast

import hpack
import msgspec

from sentinel_ext.client import hpack_lite, http2
from sentinel_ext.clock import monotonic_ns, random_unit
from sentinel_ext.errors import SentinelError
from sentinel_ext.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable

# Our window is given back when half of it is used, which a run of seconds hardly reaches.
CREDIT_AT: Final = 2**30
SAMPLES: Final = 200
SAMPLE_EVERY: Final = 64
# What a plan's block or body may hold, to be replaced by the tenant's own name of equal length.
TENANT: Final = "t0000000"

NO_HTTP2: Final = "the server does not speak HTTP/2 as gRPC does: is it the gRPC port?"
# A prime, so that every tenant has its turn whatever their number. Each run starts elsewhere: of a million
# tenants a run of seconds does not reach them all.
_STRIDE = 7_368_787
_PREFIX_BYTES = http2.PREFIX.size


class LoadError(SentinelError):
    """The run is void: the server closed a connection, or spoke in a way this client does not know."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        target: `host:port` or `unix:PATH`.
        more_targets: connections take turns between all of them.
        headers: the request's fields, pseudo-header fields first.
        message: a gRPC request without its prefix; None sends no body and reads plain HTTP answers.
        tenants: how many names take turns in place of TENANT.
        warm_s, measured_s: seconds before measuring, and of measuring.
    """

    target: str
    headers: list[tuple[str, str]]
    message: bytes | None = None
    tenants: int = 1
    connections: int = 4
    streams: int = 25
    warm_s: float = 0.5
    measured_s: float = 3.0
    more_targets: tuple[str, ...] = ()


class Requests:
    """Makes the frames of the next request; tenants take turns over all connections."""

    def __init__(self, plan: Load) -> None:
        block, message = hpack_lite.encode(plan.headers), plan.message
        marker = TENANT.encode()
        self.is_grpc = message is not None
        self._flags = http2.END_HEADERS if self.is_grpc else http2.END_HEADERS | http2.END_STREAM
        head = http2.frame_start(len(block), http2.HEADERS, self._flags)
        body = b"" if message is None else http2.PREFIX.pack(0, len(message)) + message
        self.size = len(body)
        if max(self.size, len(block) + len(http2.TABLE_SIZE_0)) > http2.MAX_FRAME:
            raise LoadError("a request must fit one frame of 16,384 bytes")
        self._head = head
        self._middle = block
        self._tail = http2.frame_start(self.size, http2.DATA, http2.END_STREAM)
        self._body = body
        self._tenants = plan.tenants
        self._number = int(random_unit() * plan.tenants)
        self._in_block, self._in_body = block.split(marker), body.split(marker)
        self._varies = plan.tenants > 1
        if self._varies and len(self._in_block) + len(self._in_body) == 2:
            raise LoadError(f"nothing in the request says {TENANT}, so tenants cannot take turns")

    def make(self, stream_id: int) -> bytes:
        """Return HEADERS, and DATA for gRPC."""
        number = http2.U32.pack(stream_id)
        head, block, body = self._head, self._middle, self._body
        if self._varies:
            name = b"t%07d" % self._number
            self._number = (self._number + _STRIDE) % self._tenants
            block, body = name.join(self._in_block), name.join(self._in_body)
        if stream_id == 1:
            # A server that lowers the table's size must see the change at the start of the first block
            # (RFC 9113 §4.3.1), and any server may.
            block = http2.TABLE_SIZE_0 + block
            head = http2.frame_start(len(block), http2.HEADERS, self._flags)
        if not self.is_grpc:
            return head + number + block
        return b"".join((head, number, block, self._tail, number, body))


class Meter:
    """Counts while it is on.

    Attributes:
        outcomes: answers by how the call ended.
        words: answered messages by what `read` says of them.
        latencies: of each answer, nanoseconds.
    """

    def __init__(self, read: Callable[[bytes], str] | None = None) -> None:
        """Count messages by what `read` makes of one (without its prefix), too."""
        self.on = False
        self.outcomes: Counter[str] = Counter()
        self.words: Counter[str] = Counter()
        # 8 bytes each: a long run of a fast server would else hold gigabytes of numbers.
        self.latencies = array("q")
        self.samples: list[bytes] = []
        self._seen = 0
        self._read = read

    def answered(self, outcome: str, latency_ns: int) -> None:
        """Count one answer."""
        if self.on:
            self.outcomes[outcome] += 1
            self.latencies.append(latency_ns)

    def message(self, data: bytes, start: int, end: int) -> None:
        """Read the message, and keep one in SAMPLE_EVERY."""
        self._seen += 1
        if self.on and self._read is not None and end - start > _PREFIX_BYTES:
            self.words[self._read(data[start + _PREFIX_BYTES : end])] += 1
        if self.on and self._seen % SAMPLE_EVERY == 0 and len(self.samples) < SAMPLES:
            self.samples.append(data[start:end])


class Connection(asyncio.Protocol):
    """One HTTP/2 connection that keeps `streams` requests open."""

    def __init__(self, requests: Requests, meter: Meter, streams: int, failed: Callable[[str], None]) -> None:
        self._requests, self._meter, self._failed = requests, meter, failed
        self._status = hpack_lite.StatusReader()
        self._free = streams
        self._buffer = b""
        self._next_id = 1
        self._window = http2.DEFAULT_WINDOW
        self._taken = 0
        self._sent_ns: dict[int, int] = {}
        self._early: dict[int, str] = {}
        self._out: list[bytes] = []
        self._is_started = False
        self.is_closing = False
        self._handlers: dict[int, Callable[[bytes, int, int, int], None]] = {
            http2.RST_STREAM: self._reset,
            http2.SETTINGS: self._settings,
            http2.PING: self._ping,
            http2.GOAWAY: self._goaway,
            http2.WINDOW_UPDATE: self._credit,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the preface; requests follow once the server's SETTINGS are there."""
        # uvloop's transports are not instances of asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)
        # No header table (see hpack_lite), and windows that never hold the server back.
        self._transport.write(
            http2.PREFACE
            + http2.settings(
                (http2.HEADER_TABLE_SIZE, 0),
                (http2.ENABLE_PUSH, 0),
                (http2.INITIAL_WINDOW_SIZE, http2.MAX_WINDOW),
            )
            + http2.window_update(http2.MAX_WINDOW - http2.DEFAULT_WINDOW)
        )

    def connection_lost(self, error: Exception | None) -> None:
        """Void the run, unless it is over."""
        if not self.is_closing:
            self._failed(f"the server closed a connection: {error or 'end of file'}")

    def close(self) -> None:
        """End the run; open requests are left to the server."""
        self.is_closing = True
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Read all frames, then send as many requests as were answered, in one write."""
        try:
            self._read(data)
        except (hpack.HPACKError, struct.error, IndexError):
            self._failed(NO_HTTP2)

    def _read(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        now_ns, at, size = monotonic_ns(), 0, len(data)
        while size - at >= http2.HEADER_SIZE:
            high, low, kind, flags, stream_id = http2.FRAME.unpack_from(data, at)
            start = at + http2.HEADER_SIZE
            end = start + (high << 8 | low)
            if end > size:
                # An HTTP/1 answer reads as a frame of megabytes, whose end never comes.
                if end - start > http2.MAX_FRAME:
                    self._failed(NO_HTTP2)
                break
            at = end
            if kind == http2.HEADERS:
                self._headers(data[start:end], flags, stream_id, now_ns)
            elif kind == http2.DATA:
                self._taken += end - start
                self._meter.message(data, start, end)
                if flags & http2.END_STREAM:
                    self._finish(stream_id, self._early.pop(stream_id, "no status"), now_ns)
            elif kind in self._handlers:
                self._handlers[kind](data[start:end], flags, stream_id, now_ns)
        self._buffer = data[at:]
        if self._taken >= CREDIT_AT:
            self._out.append(http2.window_update(self._taken))
            self._taken = 0
        self._flush(now_ns)

    def _headers(self, block: bytes, flags: int, stream_id: int, now_ns: int) -> None:
        if not flags & http2.END_HEADERS or flags & http2.PADDED:
            self._failed("the server sends header blocks with CONTINUATION or padding")
            return
        grpc = self._requests.is_grpc
        if flags & http2.END_STREAM:
            self._finish(
                stream_id, self._early.pop(stream_id, "") or self._status.read(block, grpc=grpc), now_ns
            )
        elif not grpc:
            self._early[stream_id] = self._status.read(block, grpc=False)

    def _finish(self, stream_id: int, outcome: str, now_ns: int) -> None:
        # A stream that is not open any more was reset or answered before.
        sent_ns = self._sent_ns.pop(stream_id, None)
        if sent_ns is not None:
            self._free += 1
            self._meter.answered(outcome, now_ns - sent_ns)

    def _reset(self, payload: bytes, _flags: int, stream_id: int, now_ns: int) -> None:
        self._early.pop(stream_id, None)
        self._finish(stream_id, f"rst {http2.U32.unpack(payload)[0]}", now_ns)

    def _settings(self, payload: bytes, flags: int, _stream_id: int, _now_ns: int) -> None:
        if flags & http2.ACK:
            return
        for key, value in http2.SETTING.iter_unpack(payload):
            if key == http2.MAX_CONCURRENT_STREAMS and not self._is_started:
                self._free = min(self._free, value)
        self._out.append(http2.SETTINGS_ACK)
        self._is_started = True

    def _ping(self, payload: bytes, flags: int, _stream_id: int, _now_ns: int) -> None:
        if not flags & http2.ACK:
            self._out.append(http2.frame(http2.PING, http2.ACK, 0, payload))

    def _goaway(self, payload: bytes, _flags: int, _stream_id: int, _now_ns: int) -> None:
        code, text = http2.U32.unpack_from(payload, 4)[0], payload[8:].decode("ascii", "replace")
        self._failed(f"the server sent GOAWAY {code} {printable(text)}".rstrip())

    def _credit(self, payload: bytes, _flags: int, stream_id: int, _now_ns: int) -> None:
        # A request is one DATA frame that fits the smallest initial window, so a stream never waits.
        if stream_id == 0:
            self._window += http2.U32.unpack(payload)[0]

    def _flush(self, now_ns: int) -> None:
        if self._is_started and not self.is_closing:
            requests, size, out = self._requests, self._requests.size, self._out
            while self._free and self._window >= size:
                self._free -= 1
                self._window -= size
                out.append(requests.make(self._next_id))
                self._sent_ns[self._next_id] = now_ns
                self._next_id += 2
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out = []
