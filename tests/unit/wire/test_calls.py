"""Unary calls: what the sink hears, what the client gets, in which order, and what a call may cost."""

from __future__ import annotations

import gc
import gzip

import pytest
from support.wire_peer import (
    BOTH,
    DOWN,
    SECOND,
    UNARY,
    Peer,
    body,
    fields,
    goaway_code,
    kinds,
    message,
    reset_code,
)

from sentinel_ext.wire import frames
from sentinel_ext.wire.codes import ErrorCode, Status
from sentinel_ext.wire.limits import KIB, MIB, Limits, ProcessBudget

RST_NO_ERROR = frames.U32.pack(ErrorCode.NO_ERROR)


# Unary.


def test_a_unary_call_is_one_request_and_three_frames_back() -> None:
    peer = Peer()
    peer.send(peer.request(1, b"first"))  # our first block carries the table size update

    answer = peer.send(peer.request(3, b"hello"))

    headers, data, trailers = answer
    assert (headers.flags, data.flags, trailers.flags) == (4, 0, 5)
    assert peer.decode(headers.payload) == {":status": "200", "content-type": "application/grpc"}
    assert data.payload == message(b"hello")
    assert peer.decode(trailers.payload) == {"grpc-status": "0"}
    assert peer.sink.heard[-1] == ("request", 3, b"hello")
    assert (peer.connection.in_flight, peer.connection.open_streams) == (0, 0)


def test_our_first_block_says_that_we_use_no_table_and_so_after_it_is_lowered() -> None:
    peer = Peer()

    first = peer.send(peer.request(1))[0]
    second = peer.send(peer.request(3))[0]
    peer.send(frames.settings([(frames.HEADER_TABLE_SIZE, 8192)]))
    raised = peer.send(peer.request(5))[0]
    peer.send(frames.settings([(frames.HEADER_TABLE_SIZE, 0)]))
    lowered = peer.send(peer.request(7))[0]

    assert [True, False, False, True] == [
        frame.payload.startswith(b"\x20") for frame in (first, second, raised, lowered)
    ]


@pytest.mark.parametrize("size", [0, 1, 5, 16_379, 16_380, 100_000, 300_000])
def test_a_message_of_any_size_comes_through_in_frames_of_any_size(size: int) -> None:
    peer = Peer(echo=False)
    sent = message(bytes(range(256)) * (size // 256) + bytes(size % 256))

    peer.send(peer.headers(1))
    for at in range(0, len(sent), 9_999):
        answer = peer.send(peer.data(1, sent[at : at + 9_999], end=at + 9_999 >= len(sent)))
        assert goaway_code(answer) is None

    assert [("request", 1, sent[5:])] == peer.sink.heard


def test_two_calls_interleaved_do_not_mix() -> None:
    peer = Peer()
    data = peer.headers(1) + peer.headers(3)
    data += peer.data(1, message(b"one")[:4]) + peer.data(3, message(b"three")[:7])
    data += peer.data(1, message(b"one")[4:], end=True) + peer.data(3, message(b"three")[7:], end=True)

    answer = peer.send(data)

    assert body(answer, 1) == message(b"one")
    assert body(answer, 3) == message(b"three")


def test_end_stream_may_come_alone() -> None:
    peer = Peer()

    peer.send(peer.headers(1) + peer.data(1, message(b"x")))
    assert [] == peer.sink.heard
    peer.send(peer.data(1, end=True))

    assert [("request", 1, b"x")] == peer.sink.heard


def test_trailers_of_the_client_end_the_request() -> None:
    peer = Peer()
    trailers = frames.frame(frames.HEADERS, 5, 1, b"\x00\x01a\x01b")

    peer.send(peer.headers(1) + peer.data(1, message(b"x")) + trailers)

    assert [("request", 1, b"x")] == peer.sink.heard


def test_padding_is_taken_off() -> None:
    peer = Peer()
    padded = b"\x03" + message(b"x") + bytes(3)

    peer.send(peer.headers(1) + frames.frame(frames.DATA, 9, 1, padded))

    assert [("request", 1, b"x")] == peer.sink.heard


def test_headers_with_padding_priority_and_continuation_are_one_block() -> None:
    peer = Peer()
    whole = peer.headers(1)[9:]
    head = b"\x02" + frames.U32.pack(0x80000000) + b"\x10" + whole[:20] + bytes(2)
    data = frames.frame(frames.HEADERS, 0x28, 1, head)
    data += frames.frame(frames.CONTINUATION, 0, 1, whole[20:40])
    data += frames.frame(frames.CONTINUATION, 4, 1, whole[40:])

    peer.send(data + peer.data(1, message(b"x"), end=True))

    assert [("request", 1, b"x")] == peer.sink.heard


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", Status.UNIMPLEMENTED),
        (message(b"a") + message(b"b"), Status.UNIMPLEMENTED),
        (message(b"abc")[:4], Status.INTERNAL),
        (message(b"abc")[:7], Status.INTERNAL),
        (message(b"abc") + b"\0", Status.INTERNAL),
        (b"\x02" + message(b"abc")[1:], Status.INTERNAL),
        (b"\x01" + message(b"abc")[1:], Status.INTERNAL),
        (frames.PREFIX.pack(0, 4 * MIB + 1), Status.RESOURCE_EXHAUSTED),
        (frames.PREFIX.pack(0, 2**32 - 1), Status.RESOURCE_EXHAUSTED),
    ],
)
@pytest.mark.parametrize("path", [UNARY, DOWN])
def test_a_request_that_is_not_one_message_gets_a_status(data: bytes, status: int, path: str) -> None:
    peer = Peer()

    answer = peer.send(peer.headers(1, path) + peer.data(1, data, end=True))

    assert str(int(status)) == peer.status(answer, 1)
    assert [] == peer.sink.heard
    assert (peer.connection.open_streams, peer.budget.reassembly) == (0, 0)


def test_a_request_without_any_data_gets_a_status() -> None:
    peer = Peer()

    assert peer.status(peer.send(peer.headers(1, end=True)), 1) == "12"


def test_a_refused_request_that_still_sends_gets_reset_without_error_and_is_drained() -> None:
    peer = Peer()

    answer = peer.send(peer.headers(1, "/test.Echo/Nothing"))
    late = peer.send(peer.data(1, message(b"late")) + peer.data(1, message(b"later"), end=True))

    assert [frames.HEADERS, frames.RST_STREAM] == kinds(answer)
    assert answer[1].payload == RST_NO_ERROR
    assert peer.status(answer, 1) == "12"
    assert [] == late


def test_a_wrong_content_type_is_plain_http() -> None:
    peer = Peer()
    pairs = [(name, "text/plain" if name == "content-type" else value) for name, value in fields()]

    answer = peer.send(peer.headers(1, pairs=pairs, end=True))

    assert peer.decode(answer[0].payload)[":status"] == "415"
    assert answer[0].flags & frames.END_STREAM


def test_a_compressed_request_is_opened() -> None:
    peer = Peer()
    packed = gzip.compress(b"hello" * 100)

    answer = peer.send(
        peer.headers(1, UNARY, ("grpc-encoding", "gzip"))
        + peer.data(1, frames.PREFIX.pack(1, len(packed)) + packed, end=True)
    )

    assert peer.sink.heard == [("request", 1, b"hello" * 100)]
    assert body(answer, 1) == message(b"hello" * 100)


def test_a_deadline_counts_from_the_read() -> None:
    peer = Peer(echo=False)

    peer.send(peer.headers(1, UNARY, ("grpc-timeout", "250m")) + peer.data(1, message(b""), end=True))
    peer.send(peer.request(3))

    assert peer.now_ns + SECOND // 4 == peer.stream[1].deadline_ns
    assert peer.stream[3].deadline_ns == 0


def test_a_failed_call_is_trailers_only() -> None:
    peer = Peer(echo=False)
    peer.send(peer.request(1))

    assert peer.connection.fail(peer.stream[1], Status.UNAVAILABLE, "no ü", [("retry", "5")])
    (trailers,) = peer.take()

    assert peer.decode(trailers.payload) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "14",
        "grpc-message": "no %C3%BC",
        "retry": "5",
    }
    assert trailers.flags == 5


def test_trailers_that_cannot_be_sent_change_nothing() -> None:
    peer = Peer(echo=False)
    peer.send(peer.request(1))
    stream, connection = peer.stream[1], peer.connection

    with pytest.raises(ValueError, match="grpc-status"):
        connection.fail(stream, Status.INTERNAL, "no", [("grpc-status", "0")])

    assert (connection.in_flight, peer.take()) == (1, [])
    assert connection.fail(stream, Status.INTERNAL, "no")
    assert peer.status(peer.take(), 1) == "13"


def test_the_first_answer_wins_and_frees_the_slot_once() -> None:
    peer = Peer(echo=False)
    peer.send(peer.request(1))
    stream, connection = peer.stream[1], peer.connection

    assert (connection.in_flight, peer.budget.in_flight) == (1, 1)
    assert connection.reply(stream, b"one")
    assert not connection.reply(stream, b"two")
    assert not connection.fail(stream, Status.INTERNAL, "three")
    connection.release(stream)

    assert body(peer.take(), 1) == message(b"one")
    assert (connection.in_flight, peer.budget.in_flight) == (0, 0)


def test_a_cancelled_call_keeps_its_slot_until_its_handler_returns() -> None:
    peer = Peer(echo=False)
    peer.send(peer.request(1))
    stream, connection = peer.stream[1], peer.connection

    peer.send(frames.rst_stream(1, ErrorCode.INTERNAL_ERROR))

    assert ("cancel", 1, ErrorCode.INTERNAL_ERROR) == peer.sink.heard[-1]
    assert (stream.is_cancelled, connection.in_flight, connection.open_streams) == (True, 1, 0)
    assert not connection.reply(stream, b"late")
    assert (connection.in_flight, peer.take()) == (0, [])


def test_a_deadline_answers_and_the_slot_stays_with_the_running_handler() -> None:
    peer = Peer(echo=False)
    peer.send(peer.request(1))
    stream, connection = peer.stream[1], peer.connection

    assert connection.fail(stream, Status.DEADLINE_EXCEEDED, "too late", is_running=True)
    assert (connection.in_flight, connection.open_streams) == (1, 0)
    connection.release(stream)
    connection.release(stream)

    assert (connection.in_flight, peer.budget.in_flight) == (0, 0)


def test_a_request_reset_in_its_own_segment_is_never_heard_of() -> None:
    peer = Peer()

    answer = peer.send(peer.request(1) + frames.rst_stream(1, ErrorCode.CANCEL))

    assert ([], []) == (peer.sink.heard, answer)


def test_lost_cancels_every_call_once_and_forgets_the_output() -> None:
    peer = Peer(echo=False)
    peer.send(peer.request(1) + peer.headers(3, BOTH) + peer.headers(5))

    peer.connection.lost(peer.now_ns)
    peer.connection.lost(peer.now_ns)

    assert ["request", "cancel"] == peer.sink.words(1)
    assert ["open", "cancel"] == peer.sink.words(3)
    assert [] == peer.sink.words(5)
    assert peer.connection.is_over
    assert not peer.connection.has_output


def test_a_whole_message_beyond_the_connection_window_ends_the_connection() -> None:
    peer = Peer(Limits(connection_window=65_535), echo=False)
    data = b"".join(peer.request(sid, bytes(16_000)) for sid in range(1, 11, 2))

    assert goaway_code(peer.send(data)) == ErrorCode.FLOW_CONTROL_ERROR


def test_trailers_too_large_end_the_connection_and_of_a_reset_stream_are_ignored() -> None:
    peer = Peer()
    peer.send(peer.headers(1, BOTH) + peer.headers(3, BOTH))
    peer.connection.reset(peer.stream[3], ErrorCode.CANCEL)
    trailers = b"\x00\x01a\x01b"

    assert goaway_code(peer.send(frames.frame(frames.HEADERS, 5, 3, trailers))) is None
    assert goaway_code(peer.send(frames.frame(frames.HEADERS, 5, 1, trailers * 101))) is not None


# Bounds.


def test_one_call_more_than_allowed_in_flight_is_refused_with_a_status() -> None:
    peer = Peer(Limits(max_in_flight=2), echo=False)

    answer = peer.send(b"".join(peer.request(sid) for sid in (1, 3, 5)))

    assert peer.status(answer, 5) == "8"
    assert peer.sink.trips == ["in_flight"]
    assert peer.connection.in_flight == 2


def test_the_process_has_its_own_bound() -> None:
    budget = ProcessBudget(max_in_flight=1)
    one, two = Peer(budget=budget, echo=False), Peer(budget=budget, echo=False)
    one.send(one.request(1))

    assert two.status(two.send(two.request(1)), 1) == "8"
    one.connection.reply(one.stream[1], b"")
    two.send(two.request(3))

    assert two.sink.words(3) == ["request"]


def test_one_stream_too_many_is_refused_and_hpack_stays_in_step() -> None:
    peer = Peer(Limits(max_concurrent_streams=1), echo=False)

    answer = peer.send(peer.request(1) + peer.request(3))
    peer.connection.reply(peer.stream[1], b"")
    peer.take()
    late = peer.send(peer.data(3, b"more") + peer.request(5))

    assert reset_code(answer, 3) == ErrorCode.REFUSED_STREAM
    assert [] == late
    assert peer.sink.words(5) == ["request"]


@pytest.mark.parametrize("part", ["connection", "process"])
def test_bytes_held_for_incomplete_messages_are_bounded(part: str) -> None:
    limits = Limits(max_message=64 * KIB, max_reassembly=128 * KIB if part == "connection" else MIB)
    budget = ProcessBudget(max_reassembly=128 * KIB if part == "process" else MIB)
    peer = Peer(limits, budget=budget)
    half = frames.PREFIX.pack(0, 60 * KIB) + bytes(16_000)
    answer = []

    for sid in range(1, 21, 2):
        answer += peer.send(peer.headers(sid) + peer.data(sid, half))

    refused = [sid for sid in range(1, 21, 2) if kinds(answer, sid)]
    assert [17, 19] == refused
    assert peer.budget.reassembly == 8 * 16_005
    assert peer.sink.trips == ["reassembly"] * 2
    peer.connection.lost(peer.now_ns)
    assert peer.budget.reassembly == 0


def test_calls_leave_no_garbage_cycles() -> None:
    peer = Peer()
    peer.send(peer.request(1))
    gc.collect()
    gc.disable()
    try:
        for sid in range(3, 2003, 2):
            peer.send(peer.request(sid))
        peer.sink.heard.clear()
        peer.sink.streams.clear()

        assert gc.collect() == 0
    finally:
        gc.enable()
