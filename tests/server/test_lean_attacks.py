"""Attacks on a server in a process of its own: flat memory, a counted reason, and others still served.

The figures that the tests print were 1-20 ms for the bystander on two cores; the bounds tell service from
none on a busy machine; they judge no speed.
"""

from __future__ import annotations

import time
import zlib
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from support.attack import HELLO, NO_TABLE, Raw, Target, block, headers, literal, message

from sentinel_ext.wire import frames
from sentinel_ext.wire.limits import MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.attack import Report

LOOPS = ("asyncio", "uvloop")
ECHO, STUCK, PAGE, LOG = (block(name) for name in ("Echo", "Stuck", "Page", "Log"))

# A held-back byte costs itself; 1000 calls, a read of 256,000 bytes and its copies cost a few MiB.
FLAT_MIB = 6.0
MEDIAN_MS, P99_MS = 500.0, 2000.0


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def target(loop: str) -> Iterator[Target]:
    target = Target(loop)
    yield target
    target.stop()


def judge(name: str, report: Report, flat_mib: float = FLAT_MIB, median_ms: float = MEDIAN_MS) -> None:
    """What every attack has to leave as it was."""
    print(f"{name}: {report}")
    assert report.waits.median < median_ms
    assert report.waits.p99 < P99_MS
    assert report.grown < flat_mib


def requests(data: bytes, first: int, count: int) -> list[tuple[int, bytes]]:
    """(stream id, HEADERS) of `count` requests; the connection's first one ends the header table."""
    return [
        (number, headers(number, (NO_TABLE if number == 1 else b"") + data))
        for number in range(first, first + 2 * count, 2)
    ]


# Rapid reset (CVE-2023-44487).


def test_a_hundred_thousand_requests_that_are_reset_at_once_start_next_to_nothing(target: Target) -> None:
    flood = b"".join(
        head + message(number) + frames.rst_stream(number, 8) for number, head in requests(STUCK, 1, 100_000)
    )
    before = target.health().calls
    with target.attacked() as report, Raw(target.port) as raw:
        began = time.perf_counter()
        assert raw.send(flood + frames.ping(b"the end!", ack=False))
        assert any(kind == frames.PING for kind, _, _, _ in raw.frames())
        took = time.perf_counter() - began
    health = target.health()
    started = health.calls - before - report.waits.count - 1

    print(f"100,000 in {took:.2f} s, {started} began")
    judge("rapid reset", report)
    # One at the end of a read, its reset at the beginning of the next.
    assert started < 2000
    assert health.most_in_flight <= 1000


def test_handlers_that_outlive_their_reset_are_bounded(target: Target) -> None:
    """Each request is whole and read before its reset comes: handlers begin, and never return."""
    before = target.health().in_flight
    with target.attacked() as report, Raw(target.port) as raw:
        for first in range(1, 6001, 500):
            some = requests(STUCK, first, 250)
            assert raw.send(b"".join(head + message(number) for number, head in some))
            target.health()  # it has read them
            assert raw.send(b"".join(frames.rst_stream(number, 8) for number, _ in some))
        health = target.health()

    judge("slow reset", report)
    assert 1000 == health.in_flight - before
    assert report.trips["in_flight"] >= 1000
    assert 1000 == target.health().in_flight - before  # counted still when the connection is gone


def test_resets_of_streams_that_are_milliseconds_old_end_an_exposed_connection(loop: str) -> None:
    target = Target(loop, rate_limits=True)
    try:
        with target.attacked() as report, Raw(target.port) as raw:
            raw.send(b"".join(h + frames.rst_stream(number, 8) for number, h in requests(ECHO, 1, 10_000)))
            assert "rapid_reset" == raw.goaway()
        judge("rapid reset, exposed", report)
        assert 1 == report.trips["rapid_reset"]
    finally:
        target.stop()


# Header blocks.


def opening(fragment: bytes = b"") -> bytes:
    """HEADERS that CONTINUATION has to follow."""
    return frames.frame(frames.HEADERS, 0, 1, fragment)


def indexed_bomb() -> bytes:
    """CVE-2016-6581: one entry of 4000 bytes in the table of 4096, and thousands of references to it."""
    entry = b"\x40\x01a\x7f" + b"\xa1\x1e" + bytes([97]) * 4000
    return frames.PREFACE + frames.settings([]) + opening(entry) + frames.frame(9, 4, 1, b"\xbe" * 10_000)


HEADER_ATTACKS = {
    "endless CONTINUATION": (
        HELLO + opening(NO_TABLE) + frames.frame(9, 0, 1, literal(b"a", b"b" * 100) * 100) * 1000,
        {"continuation_flood", "header_block_too_large"},
    ),
    "CONTINUATION of one byte": (
        HELLO + opening(NO_TABLE) + frames.frame(9, 0, 1, b"\x00") * 10_000,
        {"continuation_flood"},
    ),
    "empty CONTINUATION": (HELLO + opening() + frames.frame(9, 0, 1) * 10_000, {"continuation_flood"}),
    "HPACK bomb": (indexed_bomb(), {"header_list_too_large", "hpack"}),
    "many tiny fields": (
        HELLO + headers(1, NO_TABLE + ECHO + literal(b"a", b"") * 3000),
        {"header_list_too_large"},
    ),
    "cookie crumbs": (
        HELLO + headers(1, NO_TABLE + ECHO + literal(b"cookie", b"") * 1500),
        {"header_list_too_large"},
    ),
}


@pytest.mark.parametrize("attack", HEADER_ATTACKS)
def test_header_blocks_without_measure_end_their_connection(target: Target, attack: str) -> None:
    said, reasons = HEADER_ATTACKS[attack]
    with target.attacked() as report:
        for _ in range(20):
            with Raw(target.port, b"") as raw:
                raw.send(said)
                assert raw.goaway() in reasons | {""}
    judge(attack, report)
    assert 20 == sum(report.trips[reason] for reason in reasons)


def test_a_header_block_that_never_ends_and_a_preface_that_never_comes_time_out(loop: str) -> None:
    target = Target(loop, header_block_timeout_ns=300 * MS, preface_timeout_ns=300 * MS)
    try:
        with target.attacked() as report, ExitStack() as stack:
            raws = [stack.enter_context(Raw(target.port, HELLO + opening(NO_TABLE))) for _ in range(50)]
            raws += [stack.enter_context(Raw(target.port, frames.PREFACE[:10])) for _ in range(50)]
            texts = {raw.goaway() for raw in raws}
        judge("stalls", report)
        assert {"header_block_timeout", "preface_timeout"} == texts
        assert (50, 50) == (report.trips["header_block_timeout"], report.trips["preface_timeout"])
    finally:
        target.stop()


# Frames that cost the peer nothing (CVE-2019-9512, -9513, -9515, -9518).

CHEAP = {
    "PING": (frames.ping(b"12345678", ack=False), "too_many_pings"),
    "SETTINGS": (frames.settings([(3, 100)]), "settings_flood"),
    "empty DATA": (frames.frame(frames.DATA, 0, 1), "useless_frames"),
    "PRIORITY": (frames.frame(frames.PRIORITY, 0, 3, bytes(5)), "useless_frames"),
    "unknown type": (frames.frame(0xEE, 0, 0, b"x"), "useless_frames"),
}


@pytest.mark.parametrize("kind", CHEAP)
def test_a_flood_of_cheap_frames_ends_its_connection(target: Target, kind: str) -> None:
    cheap, reason = CHEAP[kind]
    with target.attacked() as report:
        for _ in range(20):
            with Raw(target.port) as raw:
                raw.send(headers(1, NO_TABLE + LOG))
                raw.send(cheap * 20_000)
                assert raw.goaway() in {reason, ""}
    judge(kind, report)
    assert 20 == report.trips[reason]


@pytest.mark.parametrize("pings", [0, 1], ids=["requests", "requests with PINGs"])
def test_a_peer_that_asks_and_never_reads_is_not_read_from_either(target: Target, pings: int) -> None:
    """No rate is limited here: that nobody reads the answers has to be enough."""
    ping, calls = frames.ping(bytes(8), ack=False) * pings, target.health().calls
    flood = b"".join(head + message(number) + ping for number, head in requests(PAGE, 1, 100_000))
    wide = frames.settings([(frames.INITIAL_WINDOW_SIZE, 2**31 - 1)]) + frames.window_update(0, 2**30)
    with target.attacked() as report, Raw(target.port, HELLO + wide, receive_buffer=4096) as raw:
        is_read = raw.send(flood, timeout_s=1)
        health = target.health()
    print(f"{health.calls - calls} of 100,000 calls began")
    # A turn's 256 requests are answered before anyone sees that the transport is full: 8 MiB of pages.
    judge("never reads", report, flat_mib=24)
    # Either it is cut off, and what still comes is discarded, or nothing more is read.
    assert is_read == bool(report.trips["too_many_pings"] + report.trips["control_frames_unread"])
    assert is_read == bool(pings)
    assert health.calls - calls < 5000
    target.until(lambda health: health.connections == 0)


# Flow control (CVE-2019-9511, -9517).


def test_replies_that_a_zero_window_holds_are_bounded_and_a_drip_ends_it(target: Target) -> None:
    hello = HELLO + frames.settings([(frames.INITIAL_WINDOW_SIZE, 0)])
    with target.attacked() as report, Raw(target.port, hello) as raw:
        raw.send(b"".join(head + message(number) for number, head in requests(PAGE, 1, 1000)))
        target.health()
        raw.send(b"".join(frames.window_update(number, 1) for number in range(1, 2001, 2)) * 8)
        reason = raw.goaway()
    judge("zero window", report, flat_mib=20)  # 16 MiB of replies may wait
    assert "tiny_windows" == reason
    assert 1 == report.trips["tiny_windows"]
    assert 400 < report.trips["output_queue"] < 600  # of 1000


# Sockets that say nothing.


def test_two_thousand_silent_sockets_take_no_more_than_the_limit(target: Target) -> None:
    before = target.health().trips["connections"]
    with target.attacked() as report, ExitStack() as stack:
        for _ in range(2000):
            stack.enter_context(Raw(target.port, b""))
        health = target.until(lambda health: health.trips["connections"] >= before + 976)
        assert health.connections <= 1024
    judge("silent sockets", report, flat_mib=30)
    with Raw(target.port) as raw:
        raw.echo(1)
    target.until(lambda health: health.connections == 0)


def test_silent_sockets_time_out_by_themselves(loop: str) -> None:
    target = Target(loop, max_connections=100, preface_timeout_ns=300 * MS, linger_ns=100 * MS)
    try:
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(Raw(target.port, b""))
            target.until(lambda health: health.trips["preface_timeout"] == 100 and not health.connections)
            with Raw(target.port) as raw:
                raw.echo(1)
    finally:
        target.stop()


# Messages.


def gzip_bomb(mib: int) -> bytes:
    """A gzip of `mib` MiB of zeros, a thousandth of that; the checksum at its end is left out."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = deflate.compress(b"") + deflate.flush(zlib.Z_FULL_FLUSH)
    return head + (deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)) * mib


@pytest.mark.parametrize(("count", "mib"), [(20, 128), (400, 5)], ids=["large", "small"])
def test_a_gzip_bomb_is_not_unpacked(target: Target, count: int, mib: int) -> None:
    bomb = gzip_bomb(mib)
    body = frames.PREFIX.pack(1, len(bomb)) + bomb
    parts = [body[at : at + 16_384] for at in range(0, len(body), 16_384)]
    packed = block("Echo", (b"grpc-encoding", b"gzip"))
    with target.attacked() as report, Raw(target.port) as raw:
        for number, head in requests(packed, 1, count):
            raw.send(head)
            for part in parts:
                raw.send(frames.frame(frames.DATA, int(part is parts[-1]), number, part))
        answers = raw.answers(count)
    # 4 MiB is the largest message; to unpack that much takes 15 ms, so the bystander may wait for one.
    judge(f"gzip bombs of {len(bomb)} bytes", report, flat_mib=12)
    assert all(b"grpc-status\x018" in answer for answer in answers)


def test_an_access_log_of_small_messages_is_no_attack(target: Target) -> None:
    """h2#939: a fixed budget of small DATA frames cut real gRPC peers off."""
    before = target.health().messages
    entries = message(1, bytes(60), end=False) * 1000
    with target.attacked() as report, Raw(target.port) as raw:
        began = time.perf_counter()
        raw.send(headers(1, NO_TABLE + LOG))
        for _ in range(100):
            assert raw.send(entries)
        assert raw.send(message(1, b""))
        assert 1 == raw.answers(1).total()
        took = time.perf_counter() - began
    print(f"100,001 messages in {took:.2f} s")
    judge("access log", report)
    assert 100_001 == target.health().messages - before
    assert not report.trips


def test_a_message_in_frames_of_one_byte_costs_its_bytes(target: Target) -> None:
    size = 100_000
    dribble = b"".join(frames.frame(frames.DATA, 0, 1, b"x") for _ in range(size))
    with target.attacked() as report, Raw(target.port) as raw:
        raw.send(headers(1, NO_TABLE + PAGE))
        raw.send(frames.frame(frames.DATA, 0, 1, frames.PREFIX.pack(0, size)))
        assert raw.send(dribble + frames.frame(frames.DATA, 1, 1))
        assert 1 == raw.answers(1).total()
    judge("dribble", report)
    assert not report.trips


# What the attacks leave in the log.


def test_a_reason_is_logged_once_a_second_however_often_it_trips(target: Target) -> None:
    began = time.monotonic()
    with target.attacked() as report:
        for _ in range(400):
            with Raw(target.port, b"GET / HTTP/1.1\r\n\r\n") as raw:
                raw.goaway()
    took = time.monotonic() - began
    judge("log flood", report)
    assert 400 == report.trips["bad_preface"]
    assert 1 <= report.lines["bad_preface"] <= took + 1
