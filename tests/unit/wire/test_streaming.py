"""Streaming calls: the order of their parts, and who may end them when."""

from __future__ import annotations

import gzip

from support.wire_peer import (
    BOTH,
    UP,
    Peer,
    body,
    kinds,
    message,
    reset_code,
)

from sentinel_ext.wire import frames
from sentinel_ext.wire.codes import ErrorCode, Status

RST_NO_ERROR = frames.U32.pack(ErrorCode.NO_ERROR)


def test_a_bidirectional_call_hears_its_parts_in_order() -> None:
    peer = Peer()
    peer.send(peer.headers(1, BOTH) + peer.data(1, message(b"a") + message(b"b")[:3]))
    peer.send(peer.data(1, message(b"b")[3:] + message(b""), end=True))

    assert peer.sink.heard == [
        ("open", 1, None),
        ("message", 1, b"a"),
        ("message", 1, b"b"),
        ("message", 1, b""),
        ("half_close", 1, None),
    ]


def test_a_streaming_reply_is_headers_messages_trailers() -> None:
    peer = Peer()
    peer.send(peer.headers(1, BOTH, end=True))
    stream, connection = peer.stream[1], peer.connection

    assert connection.send_headers(stream, [("x-one", "1"), ("x-two-bin", b"\x00\xff")])
    assert not connection.send_headers(stream, [])
    assert connection.send_message(stream, b"a")
    assert connection.send_message(stream, b"b")
    assert connection.finish(stream, Status.OK, "")
    answer = peer.take()

    assert [frames.HEADERS, frames.DATA, frames.DATA, frames.HEADERS] == kinds(answer)
    head = peer.decode(answer[0].payload)
    assert (head["x-one"], head["x-two-bin"]) == ("1", "AP8")
    assert body(answer, 1) == message(b"a") + message(b"b")
    assert peer.decode(answer[3].payload) == {"grpc-status": "0"}
    assert not connection.send_message(stream, b"late")
    assert connection.in_flight == 0


def test_an_empty_streaming_reply_has_headers_and_trailers() -> None:
    peer = Peer()
    peer.send(peer.headers(1, BOTH, end=True))

    peer.connection.finish(peer.stream[1], Status.OK, "")

    assert [frames.HEADERS, frames.HEADERS] == kinds(peer.take())


def test_a_server_that_ends_first_resets_without_error_and_ignores_the_rest() -> None:
    peer = Peer()
    peer.send(peer.headers(1, UP) + peer.data(1, message(b"a")))

    peer.connection.reply(peer.stream[1], b"enough")
    answer = peer.take()
    late = peer.send(peer.data(1, message(b"b")) + peer.data(1, end=True))

    assert [frames.HEADERS, frames.DATA, frames.HEADERS, frames.RST_STREAM] == kinds(answer)
    assert answer[-1].payload == RST_NO_ERROR
    assert [] == late
    assert ["open", "message"] == peer.sink.words(1)


def test_what_goes_wrong_in_a_running_call_ends_it_and_tells_its_handler() -> None:
    peer = Peer()
    peer.send(peer.headers(1, BOTH) + peer.data(1, message(b"a")))
    peer.connection.send_message(peer.stream[1], b"b")

    answer = peer.send(peer.data(1, b"\x01\0\0\0\x01x"))

    assert peer.status(answer, 1) == "13"
    assert peer.sink.words(1) == ["open", "message", "cancel"]
    assert peer.connection.in_flight == 1
    peer.connection.release(peer.stream[1])
    assert peer.connection.in_flight == 0


def test_a_reset_from_the_handler_is_not_told_back_to_it() -> None:
    peer = Peer()
    peer.send(peer.headers(1, BOTH))

    peer.connection.reset(peer.stream[1], ErrorCode.CANCEL)

    assert reset_code(peer.take(), 1) == ErrorCode.CANCEL
    assert ["open"] == peer.sink.words(1)
    assert peer.stream[1].is_cancelled


def test_messages_are_compressed_when_the_client_takes_gzip() -> None:
    peer = Peer()
    peer.send(peer.headers(1, BOTH, ("grpc-accept-encoding", "identity,gzip"), end=True))

    peer.connection.send_message(peer.stream[1], b"hello" * 100, compress=True)
    headers, data = peer.take()

    assert peer.decode(headers.payload)["grpc-encoding"] == "gzip"
    assert data.payload[0] == 1
    assert gzip.decompress(data.payload[5:]) == b"hello" * 100


def test_messages_stay_plain_when_the_client_does_not_take_gzip() -> None:
    peer = Peer()
    peer.send(peer.headers(1, BOTH, end=True))

    peer.connection.send_message(peer.stream[1], b"hello" * 100, compress=True)

    assert body(peer.take(), 1) == message(b"hello" * 100)
