"""Base 128 varints, as protobuf writes numbers and lengths."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """Write a number of 0 or more."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
