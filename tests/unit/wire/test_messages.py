"""Message framing: prefixes, limits, gzip."""

from __future__ import annotations

import gzip
import struct
import tracemalloc

import pytest

from sentinel_ext.wire.limits import Limits
from sentinel_ext.wire.messages import (
    BAD_FLAG,
    BOMB,
    CORRUPT,
    NO_ENCODING,
    TOO_LARGE,
    Assembler,
    frame_message,
)

LIMITS = Limits(max_message=100, max_reassembly=250)


def framed(payload, flag=0):
    return struct.pack(">BI", flag, len(payload)) + payload


def test_an_empty_message_is_a_message():
    assembler = Assembler(b"", LIMITS)

    assert [b"", b""] == assembler.feed(framed(b"") * 2)
    assert 0 == assembler.buffered


def test_what_is_incomplete_is_counted_with_its_prefix():
    """Else the end of a request could not be told from its middle."""
    assembler = Assembler(b"", LIMITS)

    assert [] == assembler.feed(b"\0")
    assert 1 == assembler.buffered
    assert [] == assembler.feed(b"\0\0\0\2")
    assert 5 == assembler.buffered
    assert [] == assembler.feed(b"a")
    assert 6 == assembler.buffered
    assert [b"ab", b"c"] == assembler.feed(b"b" + framed(b"c") + b"\0")
    assert 1 == assembler.buffered


def test_messages_are_plain_bytes_however_they_came():
    assembler = Assembler(b"", LIMITS)

    whole = assembler.feed(framed(b"a"))
    split = [*assembler.feed(framed(b"b")[:5]), *assembler.feed(b"b")]

    assert [bytes, bytes] == [type(message) for message in whole + split]


@pytest.mark.parametrize(
    ("encoding", "data", "refusal"),
    [
        pytest.param(b"", b"\2\0\0\0\0", BAD_FLAG, id="flag 2"),
        pytest.param(b"", framed(gzip.compress(b"a"), 1), NO_ENCODING, id="compressed without encoding"),
        pytest.param(b"gzip", framed(b"no gzip", 1), CORRUPT, id="not gzip"),
        pytest.param(b"gzip", framed(b"", 1), CORRUPT, id="empty is not gzip"),
        pytest.param(b"gzip", framed(gzip.compress(b"a")[:-1], 1), CORRUPT, id="cut gzip"),
        pytest.param(b"gzip", framed(gzip.compress(b"a") + b"x", 1), CORRUPT, id="bytes behind gzip"),
        pytest.param(b"gzip", framed(gzip.compress(b"a") * 2, 1), CORRUPT, id="two gzip members"),
        pytest.param(b"gzip", framed(gzip.compress(b"a" * 101), 1), BOMB, id="too large inflated"),
        pytest.param(b"", b"\0\0\0\0\x65", TOO_LARGE, id="too large by its prefix"),
        pytest.param(b"", b"\0\xff\xff\xff\xff", TOO_LARGE, id="4 GiB"),
    ],
)
def test_what_is_wrong_with_a_message_ends_the_call(encoding, data, refusal):
    assert refusal is Assembler(encoding, LIMITS).feed(data)


@pytest.mark.parametrize("payload", [b"a" * 100, b""])
def test_the_limit_itself_is_allowed(payload):
    assembler = Assembler(b"gzip", LIMITS)

    assert [payload, payload] == assembler.feed(framed(payload) + framed(gzip.compress(payload), 1))


def test_a_message_too_large_is_refused_before_it_is_held():
    assembler = Assembler(b"", LIMITS)

    assembler.feed(b"\0\0\0\0")
    assert TOO_LARGE is assembler.feed(b"\xff" + b"a" * 10)


def test_one_frame_of_many_bombs_is_stopped():
    bomb = framed(gzip.compress(b"a" * 100), 1)

    assert 2 == len(Assembler(b"gzip", LIMITS).feed(bomb * 2))
    assert TOO_LARGE is Assembler(b"gzip", LIMITS).feed(bomb * 3)


def test_a_bomb_is_inflated_to_one_byte_above_the_limit_and_no_further():
    bomb = framed(gzip.compress(b"\0" * 50_000_000), 1)
    assembler = Assembler(b"gzip", Limits(max_message=100_000))
    tracemalloc.start()
    try:
        assert BOMB is assembler.feed(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 1_000_000


def test_a_message_may_unpack_to_the_floor_and_to_its_size_times_the_ratio():
    limits = Limits(gzip_floor=100_000, gzip_ratio=100)

    assert [bytes(100_000)] == Assembler(b"gzip", limits).feed(framed(gzip.compress(bytes(100_000)), 1))
    assert BOMB is Assembler(b"gzip", limits).feed(framed(gzip.compress(bytes(200_000)), 1))
    text = b"".join(b"line %d of a log\n" % number for number in range(50_000))
    assert [text] == Assembler(b"gzip", limits).feed(framed(gzip.compress(text), 1))


def test_flag_0_is_allowed_on_a_call_with_encoding():
    assert [b"x"] == Assembler(b"gzip", LIMITS).feed(framed(b"x"))


def test_a_reply_is_compressed_when_asked_and_when_that_helps():
    assert framed(b"a" * 500) == frame_message(b"a" * 500)
    assert framed(b"abc") == frame_message(b"abc", compress=True)
    packed = frame_message(b"a" * 500, compress=True)
    assert 1 == packed[0]
    assert b"a" * 500 == gzip.decompress(packed[5:])
