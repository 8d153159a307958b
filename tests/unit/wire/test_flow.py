"""Flow control in both directions: windows, fairness, credit, and a transport that is full."""

from __future__ import annotations

import pytest
from support.wire_peer import BOTH, Frame, Peer, body, goaway_code, kinds, message

from sentinel_ext.wire import frames
from sentinel_ext.wire.codes import ErrorCode, Status
from sentinel_ext.wire.limits import KIB, Limits


def updates(answer: list[Frame], stream_id: int) -> int:
    """Sum of the WINDOW_UPDATEs of a stream."""
    return sum(
        int.from_bytes(frame.payload, "big")
        for frame in answer
        if (frame.kind, frame.stream_id) == (frames.WINDOW_UPDATE, stream_id)
    )


def initial_window(size: int) -> bytes:
    return frames.settings([(frames.INITIAL_WINDOW_SIZE, size)])


# Sending.


@pytest.mark.parametrize("window", [1, 5, 17, 1000])
def test_a_reply_waits_for_its_stream_window_and_trailers_never_overtake_it(window: int) -> None:
    peer = Peer()
    peer.send(initial_window(window))
    answer = peer.send(peer.request(1, b"a" * 50))
    blocked = kinds(answer)
    while peer.connection.open_streams:
        answer += peer.send(frames.window_update(1, window))

    assert window >= 55 or frames.HEADERS == blocked[0] == kinds(answer)[-1]
    assert body(answer, 1) == message(b"a" * 50)
    assert all(len(frame.payload) <= window for frame in answer if frame.kind == frames.DATA)
    assert all(frame.payload for frame in answer if frame.kind == frames.DATA)


def test_a_window_made_negative_must_grow_above_zero_first() -> None:
    peer = Peer()
    peer.send(initial_window(10))
    peer.send(peer.request(1, b"a" * 20))

    assert [] == kinds(peer.send(initial_window(2)), 1)
    assert [] == kinds(peer.send(frames.window_update(1, 8)), 1)
    answer = peer.send(frames.window_update(1, 1))

    assert [b"a"] == [frame.payload for frame in answer if frame.stream_id == 1]


def test_a_larger_initial_window_sends_what_waits() -> None:
    peer = Peer()
    peer.send(initial_window(0))
    peer.send(peer.request(1, b"a" * 20))

    answer = peer.send(initial_window(100))

    assert [frames.SETTINGS, frames.DATA, frames.HEADERS] == kinds(answer)


def test_streams_share_a_short_connection_window_in_turn() -> None:
    peer = Peer(echo=False)
    peer.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, 2**20)]))
    for sid in (1, 3, 5):
        peer.send(peer.headers(sid, BOTH, end=True))
        peer.connection.send_message(peer.stream[sid], bytes(100_000))
    peer.take()

    answer = peer.send(frames.window_update(0, 3 * 16_384))

    assert {1, 3, 5} == {frame.stream_id for frame in answer}
    assert [16_384] * 3 == [len(frame.payload) for frame in answer]


def test_a_status_needs_no_window() -> None:
    peer = Peer(echo=False)
    peer.send(initial_window(0) + peer.request(1))

    peer.connection.fail(peer.stream[1], Status.UNAVAILABLE, "")

    assert [frames.HEADERS] == kinds(peer.take())


def test_frames_follow_the_peers_frame_size() -> None:
    peer = Peer(echo=False)
    peer.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, 2**20), (frames.MAX_FRAME_SIZE, 20_000)]))
    peer.send(peer.request(1))

    peer.connection.reply(peer.stream[1], bytes(30_000))
    answer = peer.take()

    assert [20_000, 10_005] == [len(frame.payload) for frame in answer if frame.kind == frames.DATA]


def test_a_block_longer_than_a_frame_continues() -> None:
    peer = Peer(echo=False)
    peer.send(peer.request(1))

    peer.connection.fail(peer.stream[1], Status.INTERNAL, "", [("x-long", "v" * 20_000)])
    first, second = peer.take()

    assert (frames.HEADERS, frames.END_STREAM) == (first.kind, first.flags)
    assert (frames.CONTINUATION, frames.END_HEADERS) == (second.kind, second.flags)
    assert peer.decode(first.payload + second.payload)["x-long"] == "v" * 20_000


def test_trailers_keep_to_the_peers_header_list() -> None:
    peer = Peer(echo=False)
    peer.send(frames.settings([(frames.MAX_HEADER_LIST_SIZE, 300)]))
    peer.send(peer.request(1))

    peer.connection.fail(peer.stream[1], Status.INTERNAL, "m" * 900, (), b"d" * 900)
    pairs = peer.decode(peer.take()[0].payload)

    assert sum(len(name) + len(value) + 32 for name, value in pairs.items()) <= 300
    assert pairs["grpc-status"] == "13"
    assert "grpc-status-details-bin" not in pairs


def test_a_streaming_handler_is_told_when_there_is_room_again_once() -> None:
    peer = Peer(echo=False)
    peer.send(initial_window(10) + peer.headers(1, BOTH))
    stream = peer.stream[1]

    assert not peer.connection.send_message(stream, b"a" * 20)
    peer.send(frames.window_update(1, 5))
    assert ["open"] == peer.sink.words(1)
    peer.send(frames.window_update(1, 10))
    peer.send(frames.window_update(1, 10))

    assert ["open", "writable"] == peer.sink.words(1)
    assert peer.connection.send_message(stream, b"b")


def test_a_stream_reset_while_it_waits_gives_its_bytes_back() -> None:
    peer = Peer(Limits(max_output=100, max_output_hard=100))
    peer.send(initial_window(0))
    peer.send(peer.request(1, bytes(200)))

    assert peer.status(peer.send(peer.request(3)), 3) == "8"
    peer.send(frames.rst_stream(1, ErrorCode.CANCEL))
    peer.send(initial_window(100))

    assert peer.status(peer.send(peer.request(5)), 5) == "0"
    assert peer.sink.trips == ["output_queue"]


# A full transport.


def test_a_full_transport_holds_replies_back_and_still_answers_pings() -> None:
    peer = Peer()
    peer.send(peer.request(1))
    peer.connection.pause()

    answer = peer.send(peer.request(3) + frames.ping(b"01234567", ack=False))
    assert [frames.PING] == kinds(answer)
    peer.connection.resume()

    assert [frames.HEADERS, frames.DATA, frames.HEADERS] == kinds(peer.take(), 3)


def test_a_transport_that_has_room_again_sends_statuses_though_windows_are_closed() -> None:
    peer = Peer(echo=False)
    peer.send(initial_window(0) + peer.request(1) + peer.request(3))
    peer.connection.pause()
    peer.connection.reply(peer.stream[1], b"waits")
    peer.connection.fail(peer.stream[3], Status.UNAVAILABLE, "")
    assert [] == peer.take()

    peer.connection.resume()
    answer = peer.take()

    assert [frames.HEADERS] == kinds(answer, 1)
    assert [frames.HEADERS] == kinds(answer, 3)


def test_reading_stops_only_when_the_transport_is_full_and_too_much_waits() -> None:
    peer = Peer(Limits(max_output=100, max_output_hard=100))
    peer.send(initial_window(0))
    peer.send(peer.request(1, bytes(200)))
    assert peer.connection.wants_read, "the WINDOW_UPDATE must be read"

    peer.connection.pause()
    assert not peer.connection.wants_read
    peer.connection.resume()
    assert peer.connection.wants_read


# Receiving.


def test_the_connection_window_is_given_back_whatever_becomes_of_the_data() -> None:
    limits = Limits(connection_window=65_535, max_concurrent_streams=2)
    peer = Peer(limits)
    peer.send(peer.headers(1, BOTH) + peer.headers(3, BOTH) + peer.headers(5, BOTH))
    peer.connection.reset(peer.stream[3], ErrorCode.CANCEL)
    sent = given = 0

    for sid in (1, 3, 5) * 20:
        piece = message(bytes(4000)) + bytes(91)
        sent += len(piece) + 1
        answer = peer.send(frames.frame(frames.DATA, frames.PADDED, sid, b"\x5b" + piece))
        given += updates(answer, 0)
        peer.connection.consumed(peer.stream[1], 4000)

    assert not peer.connection.is_over
    assert sent - given <= 65_535 // 2


def test_a_message_larger_than_the_stream_window_does_not_wait_for_itself() -> None:
    peer = Peer(Limits(stream_window=64 * KIB))
    peer.send(peer.headers(1))
    data = message(bytes(1_000_000))
    window, at = 64 * KIB, 0

    while at < len(data):
        assert window > 0, "deadlock"
        size = min(window, 16_384, len(data) - at)
        answer = peer.send(peer.data(1, data[at : at + size], end=at + size == len(data)))
        at += size
        window += updates(answer, 1) - size

    assert [("request", 1, data[5:])] == peer.sink.heard


def test_a_handler_that_lags_holds_its_client_back_and_no_credit_is_lost() -> None:
    peer = Peer(Limits(stream_window=64 * KIB))
    peer.send(peer.headers(1, BOTH))
    one = message(bytes(1019))
    answer = peer.send(b"".join(peer.data(1, one) for _ in range(64)))
    assert updates(answer, 1) == 0

    for _ in range(64):
        peer.connection.consumed(peer.stream[1], 1019)
    peer.connection.consumed(peer.stream[1], 1019)

    assert updates(peer.take(), 1) == 64 * KIB


def test_credit_for_compressed_messages_is_neither_lost_nor_doubled() -> None:
    peer = Peer(Limits(stream_window=64 * KIB))
    peer.send(peer.headers(1, BOTH, ("grpc-encoding", "gzip")))
    sent = given = 0
    for _ in range(200):
        piece = message(b"") + message(b"x" * 900)
        sent += len(piece)
        given += updates(peer.send(peer.data(1, piece)), 1)
        peer.connection.consumed(peer.stream[1], 5000)
        peer.connection.consumed(peer.stream[1], 0)
        given += updates(peer.take(), 1)

    assert 0 <= sent - given < 32 * KIB


def test_updates_are_rare() -> None:
    peer = Peer()
    answer = []
    for sid in range(1, 2001, 2):
        answer += peer.send(peer.request(sid, bytes(4000)))

    assert kinds(answer).count(frames.WINDOW_UPDATE) == 1


def test_a_small_stream_window_binds_only_after_the_acknowledgement() -> None:
    peer = Peer(Limits(stream_window=100), hello=False)
    peer.send(frames.PREFACE + frames.settings([]))

    answer = peer.send(peer.headers(1, BOTH) + peer.data(1, message(bytes(1000))))
    assert goaway_code(answer) is None
    peer.hello_ack()
    assert goaway_code(peer.send(peer.data(1, b"\0"))) == ErrorCode.FLOW_CONTROL_ERROR
