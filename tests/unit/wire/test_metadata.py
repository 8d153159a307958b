"""Metadata: what handlers see, and what they may send."""

from __future__ import annotations

import pytest

from sentinel_ext.wire import metadata


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"AAE", [b"\0\1"]),
        (b"AAE=", [b"\0\1"]),
        (b"", [b""]),
        (b"AAE,AQ==, AQ", [b"\0\1", b"\1", b"\1"]),
        (b"A", None),
        (b"A===", None),
        (b"AA=", None),
        (b"AA=E", None),
        (b"A-_=", None),
        (b"AAE=,!", None),
    ],
)
def test_binary_values_come_padded_or_not_and_in_lists(value, expected):
    assert expected == metadata.decode_binary(value)


def test_binary_values_go_out_without_padding():
    assert b"AQ" == metadata.encode_binary(b"\1")


def test_handlers_see_all_but_reserved_fields_in_order():
    fields = [
        *((b":path", b"/"), (b"te", b"trailers"), (b"content-type", b"x"), (b"content-length", b"1")),
        *((b"host", b"h"), (b"grpc-timeout", b"1S"), (b"grpc-trace-bin", b"AAE")),
        *((b"b", b"2"), (b"a", b"1"), (b"b", b"3"), (b"user-agent", b"u"), (b"k-bin", b"AQ,Ag")),
    ]

    expected = (("b", "2"), ("a", "1"), ("b", "3"), ("user-agent", "u"), ("k-bin", b"\1"), ("k-bin", b"\2"))
    assert expected == metadata.expose(fields)


def test_what_could_not_be_echoed_is_not_shown():
    assert () == metadata.expose([(b"x", b"a\x01"), (b"x-bin", b"!"), (b"Bad", b"1")])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (":status", "200"),
        ("grpc-status", "0"),
        ("content-length", "5"),
        ("connection", "close"),
        ("te", "trailers"),
        ("Upper", "1"),
        ("", "1"),
        ("a b", "1"),
        ("ä", "1"),
        ("x", "a\r\nb"),
        ("x", "\0"),
        ("x", "€"),
        ("x-bin", "text"),
    ],
)
def test_metadata_that_would_break_the_response_is_a_handler_s_bug(name, value):
    with pytest.raises(ValueError, match="metadata"):
        metadata.encode([(name, value)])


def test_text_is_sent_as_it_came():
    fields = [(b"x", bytes(range(0x20, 0x7F)) + b"\t\x80\xff"), (b"y", b"")]

    assert fields == metadata.encode(metadata.expose(fields))
