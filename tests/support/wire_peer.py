"""A client that speaks raw frames to one connection in memory, and a sink that writes down what it hears."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import hpack

from sentinel_ext.wire import frames
from sentinel_ext.wire.connection import Connection
from sentinel_ext.wire.hpack import BlockCache
from sentinel_ext.wire.limits import Limits, ProcessBudget
from sentinel_ext.wire.methods import Kind, Method, MethodTable

if TYPE_CHECKING:
    from sentinel_ext.wire.stream import Stream

UNARY = "/test.Echo/Unary"
UP = "/test.Echo/Up"
DOWN = "/test.Echo/Down"
BOTH = "/test.Echo/Both"

START_NS = 1_000_000_000_000
SECOND = 1_000_000_000


class Frame(NamedTuple):
    """One frame as it was on the wire."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


def split(data: bytes) -> list[Frame]:
    """Cut bytes into frames; they must end with a whole one."""
    found, at = [], 0
    while at < len(data):
        high, low, kind, flags, stream_id = frames.FRAME.unpack_from(data, at)
        at += frames.HEADER_SIZE
        length = high << 8 | low
        assert at + length <= len(data), "the connection wrote half a frame"
        found.append(Frame(kind, flags, stream_id, data[at : at + length]))
        at += length
    return found


def _methods() -> MethodTable:
    """One method of each kind."""
    table = MethodTable()
    table.add(Method(UNARY.encode(), Kind.UNARY, None))
    table.add(Method(UP.encode(), Kind.CLIENT_STREAM, None))
    table.add(Method(DOWN.encode(), Kind.SERVER_STREAM, None))
    table.add(Method(BOTH.encode(), Kind.BIDI, None))
    return table


METHODS = _methods()


def string(text: bytes) -> bytes:
    """An HPACK string without Huffman (RFC 7541 §5.2)."""
    size = len(text)
    if size < 127:
        return bytes([size]) + text
    octets, size = [127], size - 127
    while size >= 128:
        octets.append(size & 127 | 128)
        size >>= 7
    return bytes([*octets, size]) + text


def literal(name: str | bytes, value: str | bytes) -> bytes:
    """An HPACK literal without indexing (RFC 7541 §6.2.2)."""
    name = name.encode() if isinstance(name, str) else name
    value = value.encode() if isinstance(value, str) else value
    return b"\x00" + string(name) + string(value)


def fields(path: str = UNARY, *extra: tuple[str, str], **pseudo: str) -> list[tuple[str, str]]:
    """What a gRPC client sends; `method=`, `scheme=`, `authority=` change a pseudo-header."""
    first = {"method": "POST", "scheme": "http", "path": path, "authority": "sentinel", **pseudo}
    return [
        *((f":{name}", value) for name, value in first.items()),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *extra,
    ]


def block(pairs: list[tuple[str, str]]) -> bytes:
    """A header block of literals."""
    return b"".join(literal(name, value) for name, value in pairs)


def message(data: bytes) -> bytes:
    """A gRPC message with its prefix, uncompressed."""
    return frames.PREFIX.pack(0, len(data)) + data


class RecordingSink:
    """Writes down each call as (word, stream id, payload). With `echo`, replies to requests at once."""

    def __init__(self, *, echo: bool = True) -> None:
        self.echo = echo
        self.heard: list[tuple[str, int, object]] = []
        self.trips: list[str] = []
        self.streams: dict[int, Stream] = {}
        self.connection: Connection | None = None
        self.is_drained = False
        self.most_live = 0

    def on_request(self, stream: Stream, data: bytes) -> None:
        self._note("request", stream, data)
        if self.echo:
            assert self.connection is not None
            self.connection.reply(stream, data)

    def on_open(self, stream: Stream) -> None:
        self._note("open", stream, None)

    def on_message(self, stream: Stream, data: bytes) -> None:
        self._note("message", stream, data)

    def on_half_close(self, stream: Stream) -> None:
        self._note("half_close", stream, None)

    def on_cancel(self, stream: Stream, code: int) -> None:
        self._note("cancel", stream, code)

    def on_writable(self, stream: Stream) -> None:
        self._note("writable", stream, None)

    def on_drained(self) -> None:
        assert not self.is_drained, "drained twice"
        self.is_drained = True

    def on_trip(self, reason: str) -> None:
        self.trips.append(reason)

    def _note(self, word: str, stream: Stream, payload: object) -> None:
        assert self.connection is not None
        self.heard.append((word, stream.id, payload))
        self.streams[stream.id] = stream
        self.most_live = max(self.most_live, self.connection.in_flight)

    def words(self, stream_id: int) -> list[str]:
        """What was heard of one stream."""
        return [word for word, of, _ in self.heard if of == stream_id]


class Peer:
    """The client's end. Time moves only by `later`."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        echo: bool = True,
        cache: BlockCache | None = None,
        budget: ProcessBudget | None = None,
        hello: bool = True,
    ) -> None:
        self.now_ns = START_NS
        self.sink = RecordingSink(echo=echo)
        self.budget = budget or ProcessBudget()
        self.connection = Connection(
            self.sink, METHODS, limits or Limits.trusted(), cache, self.budget, self.now_ns
        )
        self.sink.connection = self.connection
        self.connection.start(self.now_ns)
        self._decoder = hpack.Decoder()
        self._update = b""
        if hello:
            self.hello()

    @staticmethod
    def new_cache(limits: Limits) -> BlockCache:
        """A cache for the blocks of peers with these limits."""
        return BlockCache(METHODS, limits)

    # Talking.

    def hello(self, *entries: tuple[int, int]) -> list[Frame]:
        """Preface, SETTINGS and the acknowledgement of the server's."""
        self._update = b"\x20"
        return self.send(frames.PREFACE + frames.settings(entries) + frames.SETTINGS_ACK)

    def hello_ack(self) -> list[Frame]:
        """Acknowledge the server's SETTINGS, for a peer that said hello in pieces."""
        self._update = b"\x20"
        return self.send(frames.SETTINGS_ACK)

    def send(self, data: bytes) -> list[Frame]:
        """Feed bytes, and take what comes back."""
        self.connection.feed(data, self.now_ns)
        return self.take()

    def take(self) -> list[Frame]:
        """What the connection wrote since the last time."""
        return split(self.connection.take())

    def later(self, seconds: float) -> list[Frame]:
        """Let time pass, with one tick at its end."""
        self.now_ns += int(seconds * SECOND)
        self.connection.tick(self.now_ns)
        return self.take()

    def headers(
        self,
        stream_id: int,
        path: str = UNARY,
        *extra: tuple[str, str],
        end: bool = False,
        pairs: list[tuple[str, str]] | None = None,
    ) -> bytes:
        """HEADERS of a request, in one frame."""
        data = self.first(block(pairs if pairs is not None else fields(path, *extra)))
        return frames.frame(frames.HEADERS, frames.END_HEADERS | end, stream_id, data)

    def first(self, data: bytes) -> bytes:
        """A block, with the table size update that the first one after our SETTINGS must begin with."""
        data, self._update = self._update + data, b""
        return data

    def request(self, stream_id: int, data: bytes = b"hello", path: str = UNARY) -> bytes:
        """A whole request in two frames."""
        return self.headers(stream_id, path) + self.data(stream_id, message(data), end=True)

    @staticmethod
    def data(stream_id: int, payload: bytes = b"", *, end: bool = False) -> bytes:
        """One DATA frame."""
        return frames.frame(frames.DATA, int(end), stream_id, payload)

    # Reading.

    def decode(self, payload: bytes) -> dict[str, str]:
        """A header block of the server."""
        return {str(name): str(value) for name, value in self._decoder.decode(payload)}

    def status(self, answer: list[Frame], stream_id: int) -> str | None:
        """grpc-status of one stream in an answer; None if it has none."""
        found = None
        for frame in answer:
            if frame.kind == frames.HEADERS:
                pairs = self.decode(frame.payload)
                if frame.stream_id == stream_id:
                    found = pairs.get("grpc-status", found)
        return found

    @property
    def stream(self) -> dict[int, Stream]:
        """Streams the sink heard of, by id."""
        return self.sink.streams


def kinds(answer: list[Frame], stream_id: int | None = None) -> list[int]:
    """Frame types of an answer, of one stream if asked."""
    return [frame.kind for frame in answer if stream_id is None or frame.stream_id == stream_id]


def goaway_code(answer: list[Frame]) -> int | None:
    """Error code of the GOAWAY in an answer; None if there is none."""
    for frame in answer:
        if frame.kind == frames.GOAWAY:
            return int.from_bytes(frame.payload[4:8], "big")
    return None


def reset_code(answer: list[Frame], stream_id: int) -> int | None:
    """Error code of the RST_STREAM of one stream in an answer; None if there is none."""
    for frame in answer:
        if frame.kind == frames.RST_STREAM and frame.stream_id == stream_id:
            return int.from_bytes(frame.payload, "big")
    return None


def body(answer: list[Frame], stream_id: int) -> bytes:
    """DATA of one stream, joined."""
    return b"".join(
        frame.payload for frame in answer if (frame.kind, frame.stream_id) == (frames.DATA, stream_id)
    )
