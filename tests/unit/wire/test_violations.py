"""What a client must not do, by section of RFC 9113 (and the themes of h2spec), and what it costs it."""

from __future__ import annotations

import pytest
from support.wire_peer import BOTH, Peer, fields, goaway_code, kinds, literal, message, reset_code, split

from sentinel_ext.wire import frames
from sentinel_ext.wire.codes import ErrorCode
from sentinel_ext.wire.connection import Connection
from sentinel_ext.wire.limits import Limits

U32 = frames.U32.pack
PROTOCOL = ErrorCode.PROTOCOL_ERROR
SIZE = ErrorCode.FRAME_SIZE_ERROR
FLOW = ErrorCode.FLOW_CONTROL_ERROR
CLOSED = ErrorCode.STREAM_CLOSED
CALM = ErrorCode.ENHANCE_YOUR_CALM
COMPRESSION = ErrorCode.COMPRESSION_ERROR


def frame(kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"") -> bytes:
    return frames.frame(kind, flags, stream_id, payload)


def setting(identifier: int, value: int) -> bytes:
    return frames.settings([(identifier, value)])


# A connection where nothing happened but the greeting.
ON_A_NEW_CONNECTION = {
    "4.2 a frame larger than we allow": (frame(frames.DATA, 0, 1, bytes(16_385)), SIZE),
    "4.2 large SETTINGS": (frame(frames.SETTINGS, 0, 0, bytes(16_386)), SIZE),
    "5.1 idle: DATA": (frame(frames.DATA, 0, 1, b"x"), PROTOCOL),
    "5.1 idle: DATA with END_STREAM": (frame(frames.DATA, 1, 1, b"\0\0\0\0\0"), PROTOCOL),
    "5.1 idle: RST_STREAM": (frame(frames.RST_STREAM, 0, 1, U32(8)), PROTOCOL),
    "5.1 idle: WINDOW_UPDATE": (frame(frames.WINDOW_UPDATE, 0, 1, U32(8)), PROTOCOL),
    "5.1 idle: CONTINUATION": (frame(frames.CONTINUATION, 4, 1, b""), PROTOCOL),
    "5.1.1 even id": (frame(frames.HEADERS, 5, 2, b"\x20\x82"), PROTOCOL),
    "5.3.1 PRIORITY depends on itself": (frame(frames.PRIORITY, 0, 3, U32(3) + b"\0"), PROTOCOL),
    "5.3.1 the exclusive bit is no part of the id": (
        frame(frames.PRIORITY, 0, 3, U32(0x80000003) + b"\0"),
        PROTOCOL,
    ),
    "5.3.1 HEADERS depend on themselves": (frame(frames.HEADERS, 0x25, 1, U32(1) + b"\0\x20"), PROTOCOL),
    "6.1 DATA on stream 0": (frame(frames.DATA, 0, 0, b"x"), PROTOCOL),
    "6.1 DATA with END_STREAM on stream 0": (frame(frames.DATA, 1, 0, b"x"), PROTOCOL),
    "6.2 HEADERS on stream 0": (frame(frames.HEADERS, 4, 0, b"\x20"), PROTOCOL),
    "6.2 HEADERS with flags on stream 0": (frame(frames.HEADERS, 5, 0, b"\x20"), PROTOCOL),
    "6.2 padding longer than HEADERS": (frame(frames.HEADERS, 0xC, 1, b"\x05\x20\0\0"), PROTOCOL),
    "6.2 padded HEADERS of no bytes": (frame(frames.HEADERS, 0xC, 1, b""), PROTOCOL),
    "6.2 HEADERS too short for priority": (frame(frames.HEADERS, 0x24, 1, b"\0\0\0"), SIZE),
    "6.3 PRIORITY on stream 0": (frame(frames.PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    "6.3 PRIORITY of 4 bytes": (frame(frames.PRIORITY, 0, 1, bytes(4)), SIZE),
    "6.4 RST_STREAM on stream 0": (frame(frames.RST_STREAM, 0, 0, U32(8)), PROTOCOL),
    "6.4 RST_STREAM of 3 bytes": (frame(frames.RST_STREAM, 0, 1, bytes(3)), SIZE),
    "6.5 SETTINGS acknowledgement with payload": (frame(frames.SETTINGS, 1, 0, bytes(6)), SIZE),
    "6.5 SETTINGS on a stream": (frame(frames.SETTINGS, 0, 1), PROTOCOL),
    "6.5 SETTINGS of 3 bytes": (frame(frames.SETTINGS, 0, 0, bytes(3)), SIZE),
    "6.5.2 ENABLE_PUSH 2": (setting(frames.ENABLE_PUSH, 2), PROTOCOL),
    "6.5.2 window above 2^31-1": (setting(frames.INITIAL_WINDOW_SIZE, 2**31), FLOW),
    "6.5.2 frame size below the least": (setting(frames.MAX_FRAME_SIZE, 16_383), PROTOCOL),
    "6.5.2 frame size above the most": (setting(frames.MAX_FRAME_SIZE, 2**24), PROTOCOL),
    "RFC 8441 ENABLE_CONNECT_PROTOCOL 2": (setting(frames.ENABLE_CONNECT_PROTOCOL, 2), PROTOCOL),
    "6.6 PUSH_PROMISE": (frame(frames.PUSH_PROMISE, 4, 1, U32(2)), PROTOCOL),
    "6.7 PING on a stream": (frame(frames.PING, 0, 1, bytes(8)), PROTOCOL),
    "6.7 PING of 7 bytes": (frame(frames.PING, 0, 0, bytes(7)), SIZE),
    "6.8 GOAWAY on a stream": (frame(frames.GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    "6.8 GOAWAY of 7 bytes": (frame(frames.GOAWAY, 0, 0, bytes(7)), SIZE),
    "6.9 connection WINDOW_UPDATE of 0": (frame(frames.WINDOW_UPDATE, 0, 0, U32(0)), PROTOCOL),
    "6.9 the reserved bit is no increment": (frame(frames.WINDOW_UPDATE, 0, 0, U32(2**31)), PROTOCOL),
    "6.9 WINDOW_UPDATE of 3 bytes": (frame(frames.WINDOW_UPDATE, 0, 0, bytes(3)), SIZE),
    "6.9.1 connection window above 2^31-1": (frame(frames.WINDOW_UPDATE, 0, 0, U32(2**31 - 1)), FLOW),
    "6.10 CONTINUATION on stream 0": (frame(frames.CONTINUATION, 4, 0, b""), PROTOCOL),
    "RFC 7541 2.3.3 an index that is not there": (frame(frames.HEADERS, 5, 1, b"\x20\xff\x64"), COMPRESSION),
    "RFC 7541 6.1 index 0": (frame(frames.HEADERS, 5, 1, b"\x20\x80"), COMPRESSION),
}


@pytest.mark.parametrize(("data", "code"), ON_A_NEW_CONNECTION.values(), ids=ON_A_NEW_CONNECTION)
def test_on_a_new_connection(data: bytes, code: int) -> None:
    peer = Peer()

    assert code == goaway_code(peer.send(data))
    assert peer.connection.is_over


# A bidirectional call on stream 1 is open, its client may go on sending.
ON_AN_OPEN_STREAM = {
    "5.1.1 a lower id that was never used": (
        frame(frames.HEADERS, 5, 5, literal("a", "b")) + frame(frames.HEADERS, 5, 3, b"\x82"),
        PROTOCOL,
    ),
    "6.1 padding as long as DATA": (frame(frames.DATA, 8, 1, b"\x03abc"), None),
    "6.1 padding longer than DATA": (frame(frames.DATA, 8, 1, b"\x04abc"), PROTOCOL),
    "6.1 padded DATA of no bytes": (frame(frames.DATA, 8, 1, b""), PROTOCOL),
    "6.2 a frame inside a header block": (
        frame(frames.HEADERS, 0, 3, b"\x82") + frame(frames.PING, 0, 0, bytes(8)),
        PROTOCOL,
    ),
    "6.2 an unknown frame inside a header block": (
        frame(frames.HEADERS, 0, 3, b"\x82") + frame(0x16, 0, 0, b""),
        PROTOCOL,
    ),
    "6.2 DATA of its own stream inside a header block": (
        frame(frames.HEADERS, 0, 3, b"\x82") + frame(frames.DATA, 1, 3, message(b"x")),
        PROTOCOL,
    ),
    "6.2 CONTINUATION of another stream": (
        frame(frames.HEADERS, 0, 3, b"\x82") + frame(frames.CONTINUATION, 4, 1, b""),
        PROTOCOL,
    ),
    "6.10 CONTINUATION after the end of a block": (
        frame(frames.HEADERS, 0, 3, b"\x82")
        + frame(frames.CONTINUATION, 4, 3, b"")
        + frame(frames.CONTINUATION, 4, 3, b""),
        PROTOCOL,
    ),
    "6.9 stream WINDOW_UPDATE of 0": (frame(frames.WINDOW_UPDATE, 0, 1, U32(0)), PROTOCOL),
    "6.9.1 stream window above 2^31-1": (frame(frames.WINDOW_UPDATE, 0, 1, U32(2**31 - 1)), FLOW),
    "6.9.2 a new initial window overflows a stream": (
        frame(frames.WINDOW_UPDATE, 0, 1, U32(2**30)) + setting(frames.INITIAL_WINDOW_SIZE, 2**31 - 1),
        FLOW,
    ),
    "8.1 trailers without END_STREAM": (frame(frames.HEADERS, 4, 1, literal("a", "b")), PROTOCOL),
    "5.1 half-closed (remote): DATA": (
        frame(frames.DATA, 1, 1, b"") + frame(frames.DATA, 0, 1, b"x"),
        CLOSED,
    ),
    "5.1 half-closed (remote): DATA with END_STREAM": (
        frame(frames.DATA, 1, 1, b"") + frame(frames.DATA, 1, 1, message(b"x")),
        CLOSED,
    ),
    "5.1 half-closed (remote): HEADERS": (
        frame(frames.DATA, 1, 1, b"") + frame(frames.HEADERS, 5, 1, literal("a", "b")),
        CLOSED,
    ),
    "5.1 closed by the client's reset: DATA": (
        frame(frames.RST_STREAM, 0, 1, U32(8)) + frame(frames.DATA, 0, 1, b"x"),
        CLOSED,
    ),
    "5.1 closed by the client's reset: HEADERS": (
        frame(frames.RST_STREAM, 0, 1, U32(8)) + frame(frames.HEADERS, 5, 1, literal("a", "b")),
        CLOSED,
    ),
    "5.1 closed: RST_STREAM, WINDOW_UPDATE and PRIORITY are late, not wrong": (
        frame(frames.RST_STREAM, 0, 1, U32(8))
        + frame(frames.RST_STREAM, 0, 1, U32(8))
        + frame(frames.WINDOW_UPDATE, 0, 1, U32(8))
        + frame(frames.PRIORITY, 0, 1, bytes(5)),
        None,
    ),
    "5.1 half-closed (remote): WINDOW_UPDATE and PRIORITY are welcome": (
        frame(frames.DATA, 1, 1, b"")
        + frame(frames.WINDOW_UPDATE, 0, 1, U32(8))
        + frame(frames.PRIORITY, 0, 1, bytes(5)),
        None,
    ),
    "4.1 unknown type and flags, reserved bits": (
        frame(0xFF, 0xFF, 1, b"x")
        + frame(frames.PING, 0x16, 0, bytes(8))
        + frames.FRAME.pack(0, 8, frames.PING, 0, 0x80000000)
        + bytes(8),
        None,
    ),
    "5.1 idle: PRIORITY is allowed": (frame(frames.PRIORITY, 0, 99, bytes(5)), None),
    "6.4 any code resets": (frame(frames.RST_STREAM, 0, 1, U32(0xDEAD)), None),
    "6.5.2 unknown settings, and two values for one": (
        frames.settings([(0xFE03, 1), (4, 1), (4, 100_000), (3, 0), (6, 0), (1, 2**32 - 1), (9, 1)]),
        None,
    ),
    "6.7 a PING acknowledgement that nobody waits for": (frame(frames.PING, 1, 0, b"whatever"), None),
    "6.10 a block in three pieces, the last empty": (
        frame(frames.HEADERS, 1, 3, literal("a", "b"))
        + frame(frames.CONTINUATION, 0, 3, literal("c", "d"))
        + frame(frames.CONTINUATION, 4, 3, b""),
        None,
    ),
}


@pytest.mark.parametrize(("data", "code"), ON_AN_OPEN_STREAM.values(), ids=ON_AN_OPEN_STREAM)
def test_on_an_open_stream(data: bytes, code: int | None) -> None:
    peer = Peer()
    peer.send(peer.headers(1, BOTH))

    assert code == goaway_code(peer.send(data))
    assert peer.connection.is_over is (code is not None)


@pytest.mark.parametrize(
    "late", [frame(frames.DATA, 1, 1, b"x"), frame(frames.HEADERS, 5, 1, literal("a", "b"))]
)
def test_5_1_a_stream_that_both_ended_is_closed(late: bytes) -> None:
    peer = Peer()
    peer.send(peer.request(1))

    assert goaway_code(peer.send(late)) == CLOSED


@pytest.mark.parametrize("size", range(len(frames.PREFACE)))
def test_3_4_the_preface_is_checked_byte_by_byte(size: int) -> None:
    peer = Peer(hello=False)

    peer.send(frames.PREFACE[:size])
    assert not peer.connection.is_over
    assert goaway_code(peer.send(b"\xff")) == PROTOCOL
    assert peer.connection.is_over


def test_3_4_the_first_frame_must_be_settings() -> None:
    for first in (frame(frames.PING, 0, 0, bytes(8)), frames.SETTINGS_ACK, frame(0x42)):
        peer = Peer(hello=False)

        assert goaway_code(peer.send(frames.PREFACE + first)) == PROTOCOL


def malformed() -> dict[str, list[tuple[str, str]]]:
    """Header lists that make a request malformed (§8.2, §8.3)."""
    good = fields()
    return {
        "uppercase name": fields("/test.Echo/Unary", ("X-Test", "ok")),
        "unknown pseudo-header": [(":test", "ok"), *good],
        "response pseudo-header": [(":status", "200"), *good],
        "pseudo-header after a regular one": [*good[1:], good[0]],
        "connection": fields("/test.Echo/Unary", ("connection", "keep-alive")),
        "te is not trailers": [*good, ("te", "trailers, deflate")],
        "empty path": fields(""),
        "no method": good[1:],
        "no scheme": [good[0], *good[2:]],
        "no path": [*good[:2], *good[3:]],
        "two methods": [good[0], *good],
        "two schemes": [good[1], *good],
        "two paths": [good[2], *good],
    }


@pytest.mark.parametrize("pairs", malformed().values(), ids=malformed())
def test_8_1_a_malformed_request_costs_its_stream_only(pairs: list[tuple[str, str]]) -> None:
    peer = Peer()

    answer = peer.send(peer.headers(1, pairs=pairs, end=True))
    answer += peer.send(peer.request(3))

    assert reset_code(answer, 1) == PROTOCOL
    assert kinds(answer, 3) == [frames.HEADERS, frames.DATA, frames.HEADERS]


@pytest.mark.parametrize(
    ("promised", "pieces"), [(1, [b"four"]), (9, [b"four"]), (4, [b"fo", b"urs"]), (9, [b"four", b""])]
)
def test_8_1_1_a_content_length_must_be_the_sum_of_data(promised: int, pieces: list[bytes]) -> None:
    peer = Peer()

    answer = peer.send(peer.headers(1, BOTH, ("content-length", str(promised))))
    for piece in pieces:
        if not peer.connection.open_streams:
            break
        answer += peer.send(peer.data(1, piece, end=piece is pieces[-1]))

    assert reset_code(answer, 1) == PROTOCOL
    assert not peer.connection.is_over


def test_8_1_1_a_body_promised_and_none_sent_is_malformed() -> None:
    peer = Peer()

    answer = peer.send(peer.headers(1, BOTH, ("content-length", "5"), end=True))

    assert reset_code(answer, 1) == PROTOCOL
    assert [] == peer.sink.heard


def test_8_1_a_right_content_length_is_served() -> None:
    peer = Peer()

    answer = peer.send(
        peer.headers(1, "/test.Echo/Unary", ("content-length", "7")) + peer.data(1, message(b"ab"), end=True)
    )

    assert peer.status(answer, 1) == "0"


def test_8_1_pseudo_headers_in_trailers_are_malformed() -> None:
    peer = Peer()
    peer.send(peer.headers(1, BOTH))

    answer = peer.send(frame(frames.HEADERS, 5, 1, literal(":method", "POST")))

    assert reset_code(answer, 1) == PROTOCOL
    assert peer.sink.words(1) == ["open", "cancel"]


def test_6_9_1_more_data_than_the_stream_window_ends_the_connection() -> None:
    peer = Peer(Limits(stream_window=65_535))
    peer.send(peer.headers(1, BOTH))
    piece = message(bytes(16_379))

    for _ in range(3):
        assert goaway_code(peer.send(peer.data(1, piece))) is None
    assert goaway_code(peer.send(peer.data(1, piece))) == FLOW


def test_6_9_1_more_data_than_the_connection_window_ends_the_connection() -> None:
    limits = Limits(connection_window=65_535, stream_window=1_000_000)
    peer = Peer(limits)
    data = peer.headers(1, BOTH) + peer.data(1, bytes(16_384)) * 4

    assert goaway_code(peer.send(data)) == FLOW


def test_7_unknown_error_codes_cancel_all_the_same() -> None:
    peer = Peer(echo=False)
    peer.send(peer.request(1))

    peer.send(frame(frames.RST_STREAM, 0, 1, U32(0xFFFF_FFFF)))

    assert peer.sink.heard[-1] == ("cancel", 1, 0xFFFF_FFFF)


def test_6_8_after_the_clients_goaway_what_runs_is_finished_and_nothing_new_begins() -> None:
    peer = Peer(echo=False)
    peer.send(peer.request(1))

    answer = peer.send(frame(frames.GOAWAY, 0, 0, U32(0) + U32(0xFF) + b"why") + peer.request(3))
    assert goaway_code(answer) == ErrorCode.NO_ERROR
    assert not peer.connection.is_over

    peer.connection.reply(peer.stream[1], b"done")
    answer = peer.send(frame(frames.PING, 0, 0, bytes(8)))

    assert kinds(answer, 1) == [frames.HEADERS, frames.DATA, frames.HEADERS]
    assert kinds(answer, 3) == []
    assert peer.connection.is_over
    assert peer.sink.is_drained


def test_after_a_fault_nothing_is_answered_and_calls_are_cancelled_once() -> None:
    peer = Peer(echo=False)
    peer.send(peer.request(1))

    peer.send(frame(frames.DATA, 0, 0, b""))
    peer.send(peer.request(3))
    peer.connection.lost(peer.now_ns)

    assert [("request", 1), ("cancel", 1)] == [(word, of) for word, of, _ in peer.sink.heard]
    assert [] == peer.take()
    assert not peer.connection.reply(peer.stream[1], b"late")


def test_goaway_tells_the_last_stream_and_why() -> None:
    peer = Peer()
    peer.send(peer.request(7))

    last = peer.send(frame(frames.PING, 0, 0, b"short"))[-1]

    assert last.payload == U32(7) + U32(SIZE) + b"frame_size"
    assert peer.connection.counters == {"frame_size": 1}
    assert peer.sink.trips == ["frame_size"]


def test_the_greeting_of_the_server_comes_first() -> None:
    peer = Peer(hello=False)

    data = peer.connection.take()

    first, second = split(data)
    assert first.kind == frames.SETTINGS
    assert dict(frames.SETTING.iter_unpack(first.payload)) == {
        frames.HEADER_TABLE_SIZE: 0,
        frames.MAX_CONCURRENT_STREAMS: 1000,
        frames.INITIAL_WINDOW_SIZE: 262_144,
        frames.MAX_HEADER_LIST_SIZE: 16_384,
        frames.NO_RFC7540_PRIORITIES: 1,
    }
    assert second == (frames.WINDOW_UPDATE, 0, 0, U32(4 * 2**20 - 65_535))
    assert isinstance(peer.connection, Connection)
