"""The walk over context-free blocks: representations, bounds, what the memo keeps."""

from __future__ import annotations

import pytest
from support.blocks import INSERT, NEVER, PLAIN, indexed, integer, literal, methods, string

from sentinel_ext.wire.block_cache import BlockCache
from sentinel_ext.wire.fieldwalk import FieldWalk, OversizedError, check
from sentinel_ext.wire.head import SECRET, VOLATILE
from sentinel_ext.wire.huffman import HpackError
from sentinel_ext.wire.limits import Limits

LIMITS = Limits.trusted()


def walk(limits=LIMITS):
    cache = BlockCache(methods(), limits)
    return FieldWalk(cache), cache


def pairs(fields):
    return [(name, value) for name, value, _, _ in fields]


@pytest.mark.parametrize("how", [PLAIN, INSERT, NEVER], ids=["plain", "insert", "never"])
@pytest.mark.parametrize("coded", [False, True], ids=["raw", "huffman"])
@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 300])
def test_a_literal_is_read_in_every_form(how, coded, size):
    """Twice: decoded, then from the memo."""
    reader, _ = walk()
    block = b"".join(
        literal(name, b"v" * size, how, coded=coded)
        for name in (b"x-a", b"accept-charset", b"accept", b"www-authenticate", b"n" * 130)
    )
    for _ in range(2):
        fields, ends = reader.read(block)

        names = [b"x-a", b"accept-charset", b"accept", b"www-authenticate", b"n" * 130]
        assert [(name, b"v" * size) for name in names] == pairs(fields)
        assert len(block) == ends[-1]


def test_static_fields_are_read_by_index():
    assert [(b":method", b"GET"), (b"www-authenticate", b"")] == pairs(
        walk()[0].read(indexed(2) + indexed(61))[0]
    )


def test_ends_are_the_borders_of_fields_and_a_read_may_begin_there():
    reader, _ = walk()
    block = indexed(3) + literal(b"x", b"1") + literal(b"yy", b"22")

    fields, ends = reader.read(block)

    assert [1, 6, 13] == ends
    assert fields[1:] == reader.read(block, 1)[0]


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(indexed(0), id="index 0"),
        pytest.param(indexed(62), id="dynamic index"),
        pytest.param(indexed(127), id="long index"),
        pytest.param(indexed(10**6), id="longer index"),
        pytest.param(literal(62, b"v"), id="dynamic name"),
        pytest.param(literal(62, b"v", INSERT), id="dynamic name, inserting"),
        pytest.param(literal(300, b"v", INSERT), id="long dynamic name"),
        pytest.param(integer(4096, 5, 0x20), id="size update"),
        pytest.param(integer(31, 5, 0x20), id="size update of two octets"),
        pytest.param(indexed(3) + b"\x20", id="size update after a field"),
        pytest.param(b"\x00", id="no name"),
        pytest.param(b"\x00\x01x", id="no value"),
        pytest.param(b"\x00\x01x\x05abcd", id="value cut short"),
        pytest.param(b"\x00\x05abcd", id="name cut short"),
        pytest.param(b"\x00\x7f", id="name's length cut short"),
        pytest.param(b"\x0f", id="name's index cut short"),
        pytest.param(b"\x00\x01x\x7f\xff\xff\xff\xff\xff\x7f", id="endless length"),
        pytest.param(b"\x00\x01x\x81\xff", id="bad Huffman value"),
        pytest.param(b"\x00\x81\xff\x01v", id="bad Huffman name"),
    ],
)
def test_what_does_not_decode_is_an_error_each_time(block):
    reader, _ = walk()
    for _ in range(2):
        with pytest.raises(HpackError) as caught:
            reader.read(block)
        assert not isinstance(caught.value, OversizedError)


def test_leading_updates_to_zero_are_harmless():
    assert [(b":method", b"POST")] == pairs(walk()[0].read(b"\x20\x20" + indexed(3))[0])


def test_a_cut_field_is_not_found_in_the_memo():
    """The memo knows the field `x: ab`; `x: abc` without its last octet is no field."""
    reader, _ = walk()
    reader.read(literal(b"x", b"ab"))

    with pytest.raises(HpackError, match="ends inside"):
        reader.read(literal(b"x", b"abc")[:-1])


@pytest.mark.parametrize("read", [walk()[0].read, lambda block: check(block, LIMITS)])
def test_the_hundred_and_first_field_stops_the_reading(read):
    """A bomb of 32,000 one-octet fields is not read to its end ("HTTP/2 Bomb", CVE-2026-49975)."""
    read(indexed(3) * 100)
    with pytest.raises(OversizedError):
        read(indexed(3) * 101)
    with pytest.raises(OversizedError):
        read(indexed(3) * 101 + b"\xff" * 10)


@pytest.mark.parametrize("read", [walk()[0].read, lambda block: check(block, LIMITS)])
@pytest.mark.parametrize("bits", [0x80, 0], ids=["huffman", "raw"])
def test_only_huffman_strings_have_a_bound_of_their_own(read, bits):
    block = b"\x00\x01x" + integer(4097, 7, bits) + b"\x07" * 4097
    if bits:
        with pytest.raises(OversizedError):
            read(block)
    else:
        read(block)


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        pytest.param(literal(b"authorization", b"Bearer x"), SECRET, id="authorization"),
        pytest.param(literal(b"cookie", b"a=b"), SECRET, id="cookie"),
        pytest.param(literal(b"x-key", b"1", NEVER), SECRET, id="never indexed"),
        pytest.param(literal(b"traceparent", b"00-1-2-01"), VOLATILE, id="traceparent"),
        pytest.param(literal(b"x-b3-spanid", b"1"), VOLATILE, id="b3"),
        pytest.param(literal(b"x-large", b"v" * 256), 0, id="large"),
        pytest.param(literal(b"x-bad", b"\n"), None, id="malformed"),
    ],
)
def test_the_memo_does_not_keep(block, kind):
    reader, cache = walk()
    for _ in range(3):
        fields, _ = reader.read(block)

    assert 0 == len(cache.fields)
    if kind is not None:
        assert kind == fields[0][3]


def test_the_memo_is_bounded():
    reader, cache = walk(Limits(memo_entries=16))
    for number in range(500):
        reader.read(literal(b"x-%d" % number, b"%d" % number, coded=True))
        assert len(cache.fields) <= 16
        assert len(cache.names) <= 16


def test_a_long_name_is_not_remembered():
    reader, cache = walk()
    reader.read(b"\x00" + string(b"n" * 64) + string(b"v"))

    assert 0 == len(cache.names)
