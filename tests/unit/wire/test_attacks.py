"""Known attacks on HTTP/2 servers: each ends at its limit, and memory stays flat.

The names A1 to A17 are those of the wire's list of attacks; what needs a socket or the block cache is
tested there.
"""

from __future__ import annotations

import gzip
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from support.wire_peer import (
    BOTH,
    SECOND,
    UNARY,
    Peer,
    block,
    fields,
    goaway_code,
    kinds,
    literal,
    message,
    reset_code,
)

from sentinel_ext.wire import frames
from sentinel_ext.wire.codes import ErrorCode
from sentinel_ext.wire.limits import KIB, MIB, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALM = ErrorCode.ENHANCE_YOUR_CALM
U32 = frames.U32.pack


@pytest.fixture
def flat_memory() -> Iterator[Callable[[], None]]:
    """After the test, less than 2 MiB may be left of what it allocated since the call."""
    base = 0

    def mark() -> None:
        nonlocal base
        base = tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        yield mark
        assert tracemalloc.get_traced_memory()[0] - base < 2 * MIB
    finally:
        tracemalloc.stop()


def until_over(peer: Peer, datum: Callable[[int], bytes], most: int) -> int | None:
    """Send datum(0), datum(1), ... until the connection ends. The number sent; None if it stays."""
    for number in range(most):
        peer.connection.feed(datum(number), peer.now_ns)
        peer.connection.take()
        if peer.connection.is_over:
            return number + 1
    return None


# A1 rapid reset (CVE-2023-44487).


def test_a1_requests_reset_in_their_own_segment_start_no_handler(flat_memory: Callable[[], None]) -> None:
    peer = Peer(echo=False)
    peer.send(peer.headers(1) + frames.rst_stream(1, 8))
    flat_memory()

    for first in range(3, 10_003, 200):
        pairs = (peer.request(sid) + frames.rst_stream(sid, 8) for sid in range(first, first + 200, 2))
        peer.send(b"".join(pairs))

    assert [] == peer.sink.heard
    assert (peer.connection.in_flight, peer.connection.open_streams) == (0, 0)


def test_a1_handlers_that_were_cancelled_and_still_run_fill_the_quota() -> None:
    peer = Peer(Limits(max_in_flight=100), echo=False)

    for sid in range(1, 4001, 2):
        peer.send(peer.request(sid))
        peer.send(frames.rst_stream(sid, 8))

    assert 100 == peer.sink.most_live == peer.connection.in_flight
    assert 100 == sum(word == "request" for word, _, _ in peer.sink.heard)
    assert set(peer.sink.trips) == {"in_flight"}


def test_a1_ten_thousand_timeouts_of_a_stalled_backend_are_no_attack() -> None:
    for limits in (Limits.trusted(), Limits.exposed()):
        peer = Peer(limits, echo=False)
        waiting: list[int] = []
        for sid in range(1, 20_001, 2):
            waiting.append(sid)
            peer.send(peer.request(sid))
            if len(waiting) == 100:
                peer.now_ns += SECOND // 2  # the timeout of the proxy
                for timed_out in waiting:
                    assert goaway_code(peer.send(frames.rst_stream(timed_out, 2))) is None
                    peer.connection.release(peer.stream[timed_out])
                waiting.clear()

        assert not peer.connection.is_over
        assert peer.connection.in_flight == 0
        assert [] == peer.sink.trips


def test_a1_an_exposed_listener_ends_a_peer_that_resets_what_it_has_just_opened() -> None:
    peer = Peer(Limits.exposed())

    sent = until_over(peer, lambda n: peer.headers(2 * n + 1) + frames.rst_stream(2 * n + 1, 8), 10_000)

    assert sent == 501
    assert peer.sink.trips == ["rapid_reset"]


# A2 MadeYouReset (CVE-2025-8671): make the server reset.

PROVOCATIONS = {
    "window update of 0": frames.window_update(1, 0),
    "window overflow": frames.window_update(1, 2**31 - 1),
    "priority of 4 bytes": frames.frame(frames.PRIORITY, 0, 1, bytes(4)),
    "priority on itself": frames.frame(frames.PRIORITY, 0, 1, U32(1) + b"\0"),
    "headers after the end": frames.frame(frames.DATA, 1, 1) + frames.frame(frames.HEADERS, 5, 1, b"\x82"),
    "data after the end": frames.frame(frames.DATA, 1, 1) + frames.frame(frames.DATA, 0, 1, b"x"),
}


@pytest.mark.parametrize("provocation", PROVOCATIONS.values(), ids=PROVOCATIONS)
def test_a2_each_way_to_provoke_a_reset_works_once(provocation: bytes) -> None:
    peer = Peer(echo=False)
    peer.send(peer.headers(1, BOTH))

    peer.send(provocation)

    assert peer.connection.is_over
    assert peer.sink.words(1)[-1] == "cancel"
    assert peer.connection.in_flight == 1, "its handler still runs"


def test_a2_a_hundred_stream_errors_are_enough() -> None:
    peer = Peer()
    bad = fields(UNARY, ("connection", "close"))

    sent = until_over(peer, lambda n: peer.headers(2 * n + 1, pairs=bad), 1000)

    assert sent == 101
    assert peer.sink.trips == ["too_many_stream_errors"]


def test_a2_refusals_count_only_once_the_client_knows_the_limit() -> None:
    limits = Limits(max_concurrent_streams=1)
    early, late = Peer(limits, echo=False, hello=False), Peer(limits, echo=False)
    early.send(frames.PREFACE + frames.settings([]))

    assert until_over(early, lambda n: early.request(2 * n + 1), 500) is None
    assert until_over(late, lambda n: late.request(2 * n + 1), 500) == 102


# A3 CONTINUATION flood (VU#421644).


@pytest.mark.parametrize(
    ("piece", "sent"), [(b"", 9), (b"\x82", 9), (literal("a", "v" * 8000), 5)], ids=["empty", "byte", "large"]
)
def test_a3_a_header_block_has_an_end(piece: bytes, sent: int) -> None:
    peer = Peer()
    peer.send(frames.frame(frames.HEADERS, 0, 1, b"\x20"))

    assert sent == until_over(peer, lambda _: frames.frame(frames.CONTINUATION, 0, 1, piece), 1000)
    assert peer.sink.trips[0] in {"continuation_flood", "header_block_too_large"}


# A4, A5 HPACK bombs (CVE-2016-6581, CVE-2026-49975).


@pytest.mark.parametrize("is_known", [False, True])
def test_a4_a_small_block_that_unfolds_is_not_unfolded(is_known: bool) -> None:
    peer = Peer(hello=is_known)
    if not is_known:
        peer.send(frames.PREFACE + frames.settings([]))
    seed = peer.first(b"\x40" + b"\x01a" + b"\x7f\xc1\x1e" + bytes(4000))
    bomb = seed + b"\xbe" * 16_000

    answer = peer.send(frames.frame(frames.HEADERS, 5, 1, bomb[:16_384]))

    assert goaway_code(answer) in {CALM, ErrorCode.COMPRESSION_ERROR}
    assert [] == peer.sink.heard


@pytest.mark.parametrize("field", [b"\x82", b"\x0f\x11\x00", literal("cookie", "")], ids=repr)
def test_a5_a_hundred_fields_and_no_more(field: bytes) -> None:
    good = block(fields())
    enough, too_many = Peer(), Peer()
    enough.send(
        frames.frame(frames.HEADERS, 5, 1, enough.first(good + literal("cookie", "") * (100 - len(fields()))))
    )

    answer = too_many.send(frames.frame(frames.HEADERS, 5, 1, too_many.first(good + field * 5000)[:16_384]))

    assert not enough.connection.is_over
    assert CALM == goaway_code(answer)


def test_a5_a_header_list_over_the_advertised_limit_costs_its_call_only() -> None:
    peer = Peer()

    more = [(f"x-{number}", "v") for number in range(40)]

    answer = peer.send(peer.headers(1, UNARY, ("x-large", "v" * 15_000), *more, end=True))
    answer += peer.send(peer.request(3))

    assert [peer.status(answer[:1], 1), peer.status(answer[1:], 3)] == ["8", "0"]
    assert peer.sink.words(1) == []


# A6 control frames (CVE-2019-9512, -9515, -9514).


def test_a6_pings() -> None:
    peer = Peer()

    assert until_over(peer, lambda _: frames.ping(bytes(8), ack=False), 1000) == 65
    assert peer.sink.trips == ["too_many_pings"]


def test_a6_pings_between_calls_are_no_flood() -> None:
    peer = Peer()

    assert until_over(peer, lambda n: frames.ping(bytes(8), ack=False) + peer.request(2 * n + 1), 500) is None


def test_a6_one_ping_a_second_is_no_flood() -> None:
    peer = Peer()

    for _ in range(200):
        peer.now_ns += SECOND
        peer.send(frames.ping(bytes(8), ack=False))

    assert not peer.connection.is_over


def test_a6_settings() -> None:
    peer = Peer()

    assert until_over(peer, lambda _: frames.settings([]), 100) == 32
    assert peer.sink.trips == ["settings_flood"]


def test_a6_settings_with_too_many_entries() -> None:
    peer = Peer()

    assert goaway_code(peer.send(frames.settings([(4, 70_000)] * 32))) is None
    assert goaway_code(peer.send(frames.settings([(4, 70_000)] * 33))) == CALM


def test_a6_answers_that_are_never_read_end_the_connection(flat_memory: Callable[[], None]) -> None:
    peer = Peer(Limits(ping_burst=1_000_000))
    peer.connection.pause()
    flat_memory()

    assert until_over(peer, lambda _: frames.ping(bytes(8), ack=False), 5000) == 1001
    assert peer.sink.trips == ["control_frames_unread"]


# A7, A8 frames without use (CVE-2019-9518, -9513).

USELESS = {
    "data": lambda _: frames.frame(frames.DATA, 0, 1),
    "padding": lambda _: frames.frame(frames.DATA, frames.PADDED, 1, b"\0"),
    "priority": lambda n: frames.frame(frames.PRIORITY, 0, 2 * n + 101, bytes(5)),
    "unknown": lambda _: frames.frame(0x42, 0, 0, b"x"),
}


@pytest.mark.parametrize("datum", USELESS.values(), ids=USELESS)
def test_a7_a8_frames_without_use(datum: Callable[[int], bytes]) -> None:
    peer = Peer()
    peer.send(peer.headers(1, BOTH))

    assert until_over(peer, datum, 1000) == 101
    assert peer.sink.trips == ["useless_frames"]


def test_a7_empty_frames_among_useful_ones_are_forgiven() -> None:
    peer = Peer()
    peer.send(peer.headers(1, BOTH))

    assert until_over(peer, lambda _: peer.data(1) + peer.data(1, message(b"x")), 2000) is None


# A9 windows (CVE-2019-9511, -9517). Timeouts are in test_lifecycle.


def test_a9_replies_behind_a_closed_window_are_bounded() -> None:
    peer = Peer(Limits(max_output=KIB, max_output_hard=100 * KIB))
    peer.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, 0)]))

    statuses = [peer.status(peer.send(peer.request(sid, bytes(1000))), sid) for sid in range(1, 2001, 2)]

    assert 101 <= statuses.count(None) <= 103
    assert statuses[-1] == "8"
    assert set(peer.sink.trips) == {"output_queue"}


def test_a9_a_window_that_drips_ends_but_a_few_single_bytes_work() -> None:
    peer = Peer(echo=False)
    peer.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, 0)]) + peer.request(1))
    peer.connection.reply(peer.stream[1], bytes(10_000))
    peer.take()

    assert [1] == [len(frame.payload) for frame in peer.send(frames.window_update(1, 1))]
    assert until_over(peer, lambda _: frames.window_update(1, 1), 10_000) == 1000
    assert peer.sink.trips == ["tiny_windows"]


# A11 WINDOW_UPDATE flood.


def test_a11_updates_beyond_what_was_sent_end_an_exposed_peer_only() -> None:
    trusted, exposed = Peer(), Peer(Limits.exposed())

    assert until_over(trusted, lambda _: frames.window_update(0, 1), 10_000) is None
    assert until_over(exposed, lambda _: frames.window_update(0, 1), 10_000) == 106
    assert exposed.sink.trips == ["window_update_flood"]


def test_a11_updates_for_what_was_sent_are_no_flood() -> None:
    peer = Peer(Limits.exposed())

    def call(number: int) -> bytes:
        sid = 2 * number + 1
        return (
            peer.request(sid, bytes(1000)) + frames.window_update(0, 1005) + frames.window_update(sid, 1005)
        )

    assert until_over(peer, call, 5000) is None


# A12 small DATA.


def test_a12_a_million_small_messages_are_legitimate_work(flat_memory: Callable[[], None]) -> None:
    peer = Peer()
    peer.send(peer.headers(1, BOTH))
    stream = peer.stream[1]
    flat_memory()
    piece = peer.data(1, message(bytes(55))) * 200

    for _ in range(50):
        peer.connection.feed(piece, peer.now_ns)
        for _ in range(200):
            peer.connection.consumed(stream, 55)
        peer.connection.take()
        assert 200 == len(peer.sink.heard) - 1
        del peer.sink.heard[1:]

    assert not peer.connection.is_over
    assert peer.budget.reassembly == 0


def test_a12_single_bytes_of_a_message_that_never_ends_stay_bytes(flat_memory: Callable[[], None]) -> None:
    peer = Peer()
    peer.send(peer.headers(1) + peer.data(1, frames.PREFIX.pack(0, 4 * MIB)))
    flat_memory()

    for _ in range(30):
        assert goaway_code(peer.send(peer.data(1, b"x") * 1000)) is None

    assert peer.budget.reassembly == 30_005


def test_a12_a_stalled_handler_bounds_what_is_held_for_it() -> None:
    peer = Peer(Limits(stream_window=65_535))
    peer.send(peer.headers(1, BOTH))

    sent = until_over(peer, lambda _: peer.data(1, message(b"x")), 100_000)

    assert sent == 65_535 // 6 + 1
    assert peer.sink.trips == ["window_overrun"]


# A13 bombs.


def test_a13_a_gzip_bomb_is_a_status() -> None:
    peer = Peer()
    bomb = gzip.compress(bytes(32 * MIB))
    data = frames.PREFIX.pack(1, len(bomb)) + bomb
    answer = peer.send(peer.headers(1, UNARY, ("grpc-encoding", "gzip")))

    for at in range(0, len(data), 16_000):
        answer += peer.send(peer.data(1, data[at : at + 16_000]))

    assert peer.status(answer, 1) == "8"
    assert not peer.connection.is_over


def test_a13_many_bombs_that_each_pass_fill_the_memory_budget_only() -> None:
    peer = Peer(Limits(max_message=MIB, max_reassembly=4 * MIB, gzip_floor=MIB), echo=False)
    bomb = gzip.compress(bytes(MIB))
    answer = peer.send(peer.headers(1, BOTH, ("grpc-encoding", "gzip")))

    for _ in range(10):
        answer += peer.send(peer.data(1, frames.PREFIX.pack(1, len(bomb)) + bomb))

    assert peer.status(answer, 1) == "8"
    assert sum(word == "message" for word, _, _ in peer.sink.heard) == 4
    assert peer.budget.reassembly == 0


def test_a13_a_message_of_4_gib_is_refused_at_its_prefix() -> None:
    peer = Peer()

    answer = peer.send(peer.headers(1) + peer.data(1, frames.PREFIX.pack(0, 2**32 - 1)))

    assert peer.status(answer, 1) == "8"


# A14 is in test_lifecycle: test_a_client_that_runs_out_of_ids_is_asked_to_come_again.


# A15 HPACK integers.


@pytest.mark.parametrize(
    "bad",
    [b"\xff" * 20, b"\x7f" + b"\xff" * 20, b"\x00\x7f" + b"\x80" * 30 + b"\x01", b"\x00\x7f\xff\xff\xff\x7f"],
)
def test_a15_integers_without_end_are_compression_errors(bad: bytes) -> None:
    peer = Peer()

    answer = peer.send(frames.frame(frames.HEADERS, 5, 1, peer.first(bad)))

    assert goaway_code(answer) == ErrorCode.COMPRESSION_ERROR


# A17: what a peer makes up never becomes a counter's name.


def test_a17_the_names_of_counters_are_ours() -> None:
    peer = Peer()
    for number in range(50):
        answer = peer.send(peer.headers(2 * number + 1, f"/made.up/{number}"))
        assert reset_code(answer, 2 * number + 1) == ErrorCode.NO_ERROR
        assert frames.HEADERS in kinds(answer)

    assert {} == peer.connection.counters
