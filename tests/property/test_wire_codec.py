"""What is coded comes back: messages in any chunks, gzip, grpc-message, grpc-timeout, `-bin` metadata."""

from __future__ import annotations

from itertools import pairwise

import hpack
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_ext.wire import metadata, status
from sentinel_ext.wire.head import Refusal
from sentinel_ext.wire.limits import Limits
from sentinel_ext.wire.messages import Assembler, frame_message

SETTINGS = settings(max_examples=200, deadline=None, derandomize=True)
LIMITS = Limits.trusted()

payloads = st.lists(
    st.tuples(st.one_of(st.binary(max_size=40), st.just(b"a" * 3000)), st.booleans()), max_size=8
)
cuts = st.lists(st.integers(0, 4000), max_size=20)
pairs = st.one_of(
    st.tuples(
        st.sampled_from(["x", "a.b-c_d", "user-agent"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    ),
    st.tuples(st.sampled_from(["x-bin", "k-bin"]), st.binary(max_size=30)),
)


def chunks(data, borders):
    """The data cut at these borders."""
    edges = sorted({0, len(data), *(border % (len(data) + 1) for border in borders)})
    return [data[start:stop] for start, stop in pairwise(edges)]


@SETTINGS
@given(payloads, cuts)
def test_messages_cut_anywhere_are_the_same_messages(messages, borders):
    wire = b"".join(frame_message(payload, compress=compress) for payload, compress in messages)
    assembler, received, fed = Assembler(b"gzip", LIMITS), [], 0

    for chunk in chunks(wire, borders):
        whole = assembler.feed(chunk)
        assert not isinstance(whole, Refusal)
        received += whole
        fed += len(chunk)
        assert 0 <= assembler.buffered <= fed

    assert [payload for payload, _ in messages] == received
    assert 0 == assembler.buffered


@SETTINGS
@given(st.binary(max_size=60), cuts)
def test_any_bytes_cut_anywhere_give_the_same_messages_and_refusal(data, borders):
    def run(parts):
        assembler, seen = Assembler(b"gzip", Limits(max_message=20, max_reassembly=10**6)), []
        for part in parts:
            got = assembler.feed(part)
            if isinstance(got, Refusal):
                return got
            seen += got
        return seen, assembler.buffered

    assert run([data]) == run(chunks(data, borders))


@SETTINGS
@given(st.text(max_size=300))
def test_a_grpc_message_comes_back(text):
    coded = status.encode_message(text)

    assert all(0x20 <= octet <= 0x7E for octet in coded)
    assert text.encode("utf-8", "replace").decode() == status.decode_message(coded)


@SETTINGS
@given(st.text(min_size=900, max_size=1500))
def test_a_long_grpc_message_comes_back_as_its_beginning(text):
    decoded = status.decode_message(status.encode_message(text))

    assert text.encode("utf-8", "replace").decode().startswith(decoded)
    assert len(decoded.encode()) <= status.MAX_MESSAGE_SIZE


@SETTINGS
@given(st.binary(max_size=50))
def test_any_octets_decode_as_a_grpc_message(value):
    assert isinstance(status.decode_message(value), str)


@SETTINGS
@given(st.integers(0, 99_999_999), st.sampled_from(sorted(b"HMSmun")))
def test_a_timeout_is_its_number_times_its_unit(number, unit):
    factor = {"H": 3600 * 10**9, "M": 60 * 10**9, "S": 10**9, "m": 10**6, "u": 1000, "n": 1}[chr(unit)]

    assert number * factor == status.parse_timeout(b"%d%c" % (number, unit))
    assert number * factor == status.parse_timeout(b"%08d%c" % (number, unit))


@SETTINGS
@given(st.binary(max_size=12))
def test_any_octets_are_a_timeout_or_none(value):
    nanoseconds = status.parse_timeout(value)

    assert nanoseconds is None or (nanoseconds >= 0 and value[-1:] in b"HMSmun")


@SETTINGS
@given(st.lists(pairs, max_size=8))
def test_metadata_comes_back(sent):
    assert tuple(sent) == metadata.expose(metadata.encode(sent))


@SETTINGS
@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=20)), max_size=8))
def test_whatever_is_shown_can_be_echoed(fields):
    shown = metadata.expose(fields)

    assert shown == metadata.expose(metadata.encode(shown))


@SETTINGS
@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5), st.booleans())
def test_binary_values_joined_by_commas_come_back(values, is_padded):
    coded = [metadata.encode_binary(value) for value in values]
    if is_padded:
        coded = [text + b"=" * (-len(text) % 4) for text in coded]

    assert values == metadata.decode_binary(b",".join(coded))


@SETTINGS
@given(
    st.text(max_size=80),
    st.lists(pairs, max_size=4),
    st.binary(max_size=40),
    st.integers(0, 600),
    st.booleans(),
)
def test_trailers_fit_the_peer_and_keep_the_status(text, trailers, details, room, is_only):
    block = status.trailer_block(7, text, trailers, details, trailers_only=is_only, max_list=room)
    fields = hpack.Decoder().decode(block, raw=True)

    size = sum(len(name) + len(value) + 32 for name, value in fields)
    least = 44 + (42 + 60 if is_only else 0)
    assert size <= max(room, least)
    assert (b"grpc-status", b"7") in [tuple(field) for field in fields]
