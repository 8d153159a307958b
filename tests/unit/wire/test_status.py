"""Response blocks, read back by hpack's decoder with a table of size 0; grpc-message; grpc-timeout."""

from __future__ import annotations

import hpack
import msgspec
import pytest

from sentinel_ext.wire import status
from sentinel_ext.wire.head import MALFORMED, NOT_GRPC, UNKNOWN_ENCODING, UNKNOWN_METHOD

HEADERS = [(b":status", b"200"), (b"content-type", b"application/grpc")]


def read(block):
    """The fields of a block that needs no table."""
    decoder = hpack.Decoder()
    decoder.header_table_size = decoder.max_allowed_table_size = 0
    return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]


def list_size(block):
    return sum(len(name) + len(value) + 32 for name, value in read(block))


def test_the_constant_blocks_say_what_they_should():
    assert HEADERS == read(status.RESPONSE_HEADERS)
    assert [(b"grpc-status", b"0")] == read(status.TRAILERS_OK)
    assert status.TRAILERS_OK == status.trailer_block(0)
    assert status.RESPONSE_HEADERS == status.header_block()


def test_no_block_puts_anything_into_a_table():
    """Literals without indexing only: the decoder's table stays empty at its full size."""
    decoder = hpack.Decoder()

    decoder.decode(status.trailer_block(5, "text", [("a", "b")], b"details", trailers_only=True))
    decoder.decode(status.header_block([("a", "b")], compressed=True))

    assert not decoder.header_table.dynamic_entries


def test_initial_metadata_follows_the_fixed_fields():
    block = status.header_block([("a", "b"), ("c-bin", b"\1")], compressed=True)

    assert [*HEADERS, (b"grpc-encoding", b"gzip"), (b"a", b"b"), (b"c-bin", b"AQ")] == read(block)


def test_trailers_only_has_all_in_one_block():
    block = status.trailer_block(5, "no ä", [("a", "b")], b"\1", trailers_only=True)

    assert read(block) == [
        *HEADERS,
        *((b"grpc-status", b"5"), (b"grpc-message", b"no %C3%A4")),
        *((b"grpc-status-details-bin", b"AQ"), (b"a", b"b")),
    ]


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 254, 255, 1000, 20_000])
def test_strings_of_any_length_are_written_as_hpack_reads_them(length):
    assert [(b"n", b"v" * length)] == read(status.field(b"n", b"v" * length))


@pytest.mark.parametrize(
    ("room", "names", "message"),
    [
        (1000, [b"grpc-message", b"grpc-status-details-bin", b"x"], b"ab%25cd"),
        (51 + 43 + 44, [b"grpc-message", b"x"], b"ab%25cd"),
        (51 + 43 + 49, [b"grpc-message", b"x"], b"ab%25cd"),
        (44 + 43 + 49, [b"grpc-message", b"x"], b"ab%25"),
        (44 + 43 + 48, [b"grpc-message", b"x"], b"ab"),
        (44 + 43 + 44, [b"x"], None),
        (44 + 43, [b"x"], None),
        (44 + 42, [], None),
        (0, [], None),
    ],
)
def test_what_the_peer_has_no_room_for_goes_in_order_details_message_trailers(room, names, message):
    """44 is grpc-status, 43 the trailer x, 51 the whole message's field; the details need 80."""
    block = status.trailer_block(5, "ab%cd", [("x", "0123456789")], b"d" * 19, max_list=room)

    fields = dict(read(block))
    assert b"5" == fields.pop(b"grpc-status")
    assert message == fields.get(b"grpc-message")
    assert names == [*fields]
    assert list_size(block) <= max(room, 44)


def test_a_handler_s_bad_trailers_are_an_error():
    with pytest.raises(ValueError, match="reserved"):
        status.trailer_block(0, "", [("grpc-status", "0")])


@pytest.mark.parametrize(
    ("refusal", "fields"),
    [
        (NOT_GRPC, [(b":status", b"415")]),
        (msgspec.structs.replace(UNKNOWN_METHOD, message=""), [*HEADERS, (b"grpc-status", b"12")]),
        (
            UNKNOWN_METHOD,
            [*HEADERS, (b"grpc-status", b"12"), (b"grpc-message", b"unknown service or method")],
        ),
        (
            UNKNOWN_ENCODING,
            [
                *(*HEADERS, (b"grpc-status", b"12"), (b"grpc-message", b"unknown grpc-encoding")),
                (b"grpc-accept-encoding", b"identity,gzip"),
            ],
        ),
    ],
)
def test_a_refusal_is_one_block(refusal, fields):
    assert fields == read(status.refusal_block(refusal))


def test_after_headers_a_refusal_is_trailers():
    block = status.trailers_of(UNKNOWN_METHOD)

    assert [(b"grpc-status", b"12"), (b"grpc-message", b"unknown service or method")] == read(block)


def test_malformed_is_no_response():
    assert 0 == MALFORMED.http_status


@pytest.mark.parametrize(
    ("text", "coded"),
    [
        ("plain text ~", b"plain text ~"),
        ("100%", b"100%25"),
        ("a\r\n\t\x7f", b"a%0D%0A%09%7F"),
        ("☺", b"%E2%98%BA"),
        ("\ud800", b"?"),
        ("", b""),
    ],
)
def test_messages_are_percent_coded(text, coded):
    assert coded == status.encode_message(text)


@pytest.mark.parametrize(
    ("coded", "text"),
    [(b"100%", "100%"), (b"%zz%4", "%zz%4"), (b"%e2%98%ba", "☺"), (b"%ff", "\ufffd"), (b"\xff", "\ufffd")],
)
def test_any_message_decodes(coded, text):
    assert text == status.decode_message(coded)


def test_a_long_message_is_cut_between_characters():
    assert b"a" * 1024 == status.encode_message("a" * 5000)
    assert "ä" * 512 == status.decode_message(status.encode_message("ä" * 5000))
    assert "a" + "ä" * 511 == status.decode_message(status.encode_message("a" + "ä" * 5000))


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        (b"1H", 3_600_000_000_000),
        (b"2M", 120_000_000_000),
        (b"3S", 3_000_000_000),
        (b"500m", 500_000_000),
        (b"7u", 7000),
        (b"99999999n", 99_999_999),
        (b"0S", 0),
        (b"00000001S", 1_000_000_000),
        *(
            (value, None)
            for value in (b"", b"S", b"1", b"1s", b"+1S", b"-1S", b" 1S", b"1S ", b"1.5S", b"1S\n")
        ),
        *((value, None) for value in (b"123456789S", b"\xd9\xa1S")),
    ],
)
def test_timeouts_follow_the_grammar(value, nanoseconds):
    assert nanoseconds == status.parse_timeout(value)
