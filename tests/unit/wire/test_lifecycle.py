"""How a connection begins, lives and ends, by the clock that the test moves."""

from __future__ import annotations

import pytest
from support.wire_peer import BOTH, SECOND, UNARY, Frame, Peer, goaway_code, kinds, message, reset_code

from sentinel_ext.wire import frames
from sentinel_ext.wire.codes import ErrorCode, Status
from sentinel_ext.wire.limits import MAX_WINDOW, Limits

DRAIN_PING = bytes.fromhex("0106010800030309")
NO_ERROR = ErrorCode.NO_ERROR


def last_id(frame: Frame) -> int:
    return int.from_bytes(frame.payload[:4], "big")


# Timeouts of a slow or silent peer.


@pytest.mark.parametrize("said", [b"", frames.PREFACE[:10], frames.PREFACE, frames.PREFACE + b"\0\0\0\4\0"])
def test_a_peer_that_does_not_finish_its_greeting_is_cut_off(said: bytes) -> None:
    peer = Peer(hello=False)
    peer.send(said)

    assert goaway_code(peer.later(9.9)) is None
    assert goaway_code(peer.later(0.1)) == ErrorCode.PROTOCOL_ERROR
    assert peer.sink.trips == ["preface_timeout"]


def test_settings_must_be_acknowledged() -> None:
    peer = Peer(hello=False)
    peer.send(frames.PREFACE + frames.settings([]))

    assert goaway_code(peer.later(9.9)) is None
    assert goaway_code(peer.later(0.1)) == ErrorCode.SETTINGS_TIMEOUT


def test_a_header_block_must_end() -> None:
    peer = Peer()
    peer.send(frames.frame(frames.HEADERS, 0, 1, b"\x20"))

    peer.later(4)
    peer.send(frames.frame(frames.CONTINUATION, 0, 1, b"\x82"))

    assert goaway_code(peer.later(1)) == ErrorCode.ENHANCE_YOUR_CALM
    assert peer.sink.trips == ["header_block_timeout"]


def test_silence_is_pinged_and_any_byte_is_an_answer() -> None:
    peer = Peer(Limits(keepalive_after_ns=60 * SECOND))

    assert [] == peer.later(59)
    assert [frames.PING] == kinds(peer.later(1))
    peer.now_ns += SECOND
    peer.send(b"\0")
    assert [] == peer.later(30)
    assert [frames.PING] == kinds(peer.later(30))
    assert [] == peer.later(19)
    assert goaway_code(peer.later(1)) == NO_ERROR
    assert peer.sink.trips == ["keepalive_timeout"]


def test_keepalive_of_zero_is_off() -> None:
    peer = Peer(Limits(keepalive_after_ns=0))

    assert [] == peer.later(1_000_000)


# Drain.


def test_a_drain_says_goaway_twice_and_loses_no_call() -> None:
    peer = Peer(echo=False)
    peer.send(peer.request(1))

    peer.connection.drain("shutdown", peer.now_ns)
    first, ping = peer.take()
    peer.send(peer.request(3))
    (second,) = peer.send(frames.ping(DRAIN_PING, ack=True))
    ignored = peer.send(peer.request(5))

    assert (last_id(first), first.payload[8:]) == (MAX_WINDOW, b"shutdown")
    assert (ping.kind, ping.payload) == (frames.PING, DRAIN_PING)
    assert last_id(second) == 3
    assert [] == ignored
    for sid in (1, 3):
        assert not peer.sink.is_drained
        peer.connection.reply(peer.stream[sid], b"")
        peer.later(0.01)
    assert peer.sink.is_drained
    assert peer.connection.is_over
    assert ["request"] == peer.sink.words(3)
    assert [] == peer.sink.words(5)


def test_the_second_goaway_comes_without_the_pings_acknowledgement_too() -> None:
    peer = Peer(echo=False)
    peer.send(peer.request(1))
    peer.connection.drain("shutdown", peer.now_ns)
    peer.connection.drain("again", peer.now_ns)
    assert [frames.GOAWAY, frames.PING] == kinds(peer.take())

    assert [] == peer.later(0.9)
    (second,) = peer.later(0.1)

    assert (last_id(second), second.payload[8:]) == (1, b"shutdown")


def test_an_idle_connection_is_drained_as_soon_as_the_client_knows() -> None:
    peer = Peer()
    peer.connection.drain("shutdown", peer.now_ns)
    peer.take()

    peer.send(frames.ping(DRAIN_PING, ack=True))

    assert peer.sink.is_drained


def test_streams_above_the_second_goaway_keep_hpack_and_window_in_step() -> None:
    peer = Peer(Limits(connection_window=65_535), echo=False)
    peer.send(peer.request(1))
    peer.connection.drain("shutdown", peer.now_ns)
    peer.send(frames.ping(DRAIN_PING, ack=True))

    answer = peer.send(peer.headers(3, BOTH) + peer.data(3, bytes(16_000)) + peer.data(3, bytes(16_384)) * 2)
    answer += peer.send(peer.headers(5, BOTH) + frames.rst_stream(5, ErrorCode.CANCEL))

    assert [frames.WINDOW_UPDATE] == kinds(answer)
    assert not peer.connection.is_over


def test_streams_without_end_are_ended_at_half_the_grace_and_the_rest_at_its_end() -> None:
    peer = Peer(Limits(drain_grace_ns=10 * SECOND), echo=False)
    peer.send(peer.request(1) + peer.headers(3, BOTH))
    peer.connection.drain("shutdown", peer.now_ns)
    peer.send(frames.ping(DRAIN_PING, ack=True))

    half = peer.later(5)
    assert peer.status(half, 3) == str(int(Status.UNAVAILABLE))
    assert peer.sink.words(3) == ["open", "cancel"]
    assert [] == kinds(half, 1)
    end = peer.later(5)

    assert reset_code(end, 1) == ErrorCode.CANCEL
    assert peer.sink.words(1) == ["request", "cancel"]
    assert peer.sink.is_drained
    assert peer.connection.is_over


def test_an_idle_connection_is_drained_by_its_age_without_work() -> None:
    peer = Peer(Limits(max_idle_ns=10 * SECOND))

    peer.later(9)
    peer.send(peer.request(1))
    assert [] == peer.later(9)
    assert [] == peer.later(9)
    answer = peer.later(1)

    assert answer[0].payload[8:] == b"max_idle"


def test_a_call_that_runs_is_not_idle() -> None:
    peer = Peer(Limits(max_idle_ns=10 * SECOND), echo=False)
    peer.send(peer.request(1))

    assert [] == peer.later(60)


def test_an_old_connection_is_drained() -> None:
    peer = Peer(Limits(max_age_ns=100 * SECOND))

    assert [] == peer.later(99)
    assert peer.later(1)[0].payload[8:] == b"max_age"


def test_a_client_that_runs_out_of_ids_is_asked_to_come_again() -> None:
    peer = Peer(Limits(max_stream_id=1000))

    answer = peer.send(peer.request(1001))

    assert peer.status(answer, 1001) == "0"
    assert [frame.payload[8:] for frame in answer if frame.kind == frames.GOAWAY] == [b"stream_ids"]


# Slow readers.


def test_output_that_nobody_takes_ends_the_connection() -> None:
    peer = Peer(echo=False)
    peer.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, 0)]) + peer.request(1))
    peer.connection.reply(peer.stream[1], b"x")

    peer.later(1)
    assert goaway_code(peer.later(29)) is None
    assert goaway_code(peer.later(1)) == ErrorCode.ENHANCE_YOUR_CALM
    assert peer.sink.trips == ["slow_reader"]


def test_a_full_transport_that_stays_full_ends_the_connection() -> None:
    peer = Peer()
    peer.connection.pause()

    peer.later(1)
    assert goaway_code(peer.later(28)) is None
    assert goaway_code(peer.later(1)) == ErrorCode.ENHANCE_YOUR_CALM


def test_one_reply_that_its_client_does_not_read_is_dropped_and_the_others_go_on() -> None:
    peer = Peer(echo=False)
    peer.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, 10)]) + peer.request(1))
    peer.connection.reply(peer.stream[1], bytes(100))
    answer = []

    for sid in range(3, 200, 2):
        answer += peer.later(1) + peer.send(peer.request(sid))
        peer.connection.reply(peer.stream[sid], b"")

    assert reset_code(answer, 1) == ErrorCode.CANCEL
    assert not peer.connection.is_over


def test_a_handler_that_waits_for_its_client_is_left_alone() -> None:
    peer = Peer(echo=False)
    peer.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, 10)]) + peer.headers(1, BOTH))
    peer.connection.send_message(peer.stream[1], bytes(100))

    for sid in range(3, 200, 2):
        peer.later(1)
        peer.send(peer.headers(sid, UNARY) + peer.data(sid, message(b""), end=True))
        peer.connection.reply(peer.stream[sid], b"")

    assert ["open"] == peer.sink.words(1)
