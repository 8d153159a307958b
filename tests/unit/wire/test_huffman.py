"""Huffman strings: RFC 7541's own examples, and what §5.2 forbids."""

from __future__ import annotations

import pytest

from sentinel_ext.wire import huffman


@pytest.mark.parametrize(
    ("coded", "text"),
    [
        ("f1e3c2e5f23a6ba0ab90f4ff", b"www.example.com"),
        ("a8eb10649cbf", b"no-cache"),
        ("25a849e95ba97d7f", b"custom-key"),
        ("9d29ad171863c78f0b97c8e9ae82ae43d3", b"https://www.example.com"),
        ("", b""),
    ],
)
def test_the_examples_of_the_rfc_decode(coded, text):
    """Appendix C.4 and C.6."""
    for _ in range(2):
        assert text == huffman.decode(bytes.fromhex(coded))


@pytest.mark.parametrize(
    "coded",
    [
        pytest.param("ff", id="8 ones are more than padding"),
        pytest.param("18", id="padding of zeros"),
        pytest.param("1fff", id="padding of 11 ones"),
        pytest.param("fffffffc", id="end of string"),
        pytest.param("ffffffff", id="end of string and ones"),
        pytest.param("fe", id="inside a code"),
    ],
)
def test_bad_padding_and_end_of_string_are_errors(coded):
    """Each time: what fails must not be remembered as anything."""
    for _ in range(2):
        with pytest.raises(huffman.HpackError):
            huffman.decode(bytes.fromhex(coded))
