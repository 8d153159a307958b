"""gRPC metadata: header fields to (str, str | bytes) and back (grpc doc/PROTOCOL-HTTP2.md).

What `expose` shows, `encode` accepts: a handler may echo all it received.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# RFC 9113 §8.2.1: what a field's name may not hold; the colon is for pseudo-header fields only.
NAME = re.compile(rb"[^\x00-\x20A-Z\x7f-\xff:]+").fullmatch
# A value that every hop can carry: visible characters, space, tab, and bytes that are opaque (RFC 9110 §5.5).
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch

# They belong to one connection and make a message malformed (RFC 9113 §8.2.2).
CONNECTION_NAMES = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
# They are of the HTTP message, not of the call: to echo a content-length would break the reply.
_MESSAGE_NAMES = frozenset({b"te", b"content-type", b"content-length", b"host"})

Metadata = tuple[tuple[str, "str | bytes"], ...]


def is_reserved(name: bytes) -> bool:
    """True for names that handlers neither see nor send."""
    return name.startswith((b":", b"grpc-")) or name in _MESSAGE_NAMES or name in CONNECTION_NAMES


def decode_binary(value: bytes) -> list[bytes] | None:
    """The values of a `-bin` field: base64, padded or not, several joined by commas. None: not base64."""
    try:
        return [_from_base64(part.strip(b" \t")) for part in value.split(b",")]
    except Base64Error:
        return None


def encode_binary(value: bytes) -> bytes:
    """Base64 without padding, as gRPC wants it sent."""
    return b2a_base64(value, newline=False).rstrip(b"=")


def expose(fields: Iterable[tuple[bytes, bytes]]) -> Metadata:
    """Request fields as handlers see them, in order; reserved ones are left out.

    Text is decoded as Latin-1, so that no byte is lost. A value with control characters, and a binary value
    that is not base64, are left out: they could not be sent on.
    """
    shown: list[tuple[str, str | bytes]] = []
    for name, value in fields:
        if is_reserved(name) or not NAME(name):
            continue
        text = name.decode("ascii")
        if name.endswith(b"-bin"):
            shown += ((text, part) for part in decode_binary(value) or ())
        elif _VALUE(value):
            shown.append((text, value.decode("latin-1")))
    return tuple(shown)


def encode(metadata: Sequence[tuple[str, str | bytes]]) -> list[tuple[bytes, bytes]]:
    """Metadata of a handler as header fields.

    Raises:
        ValueError: a name or value cannot be sent; the handler is wrong.
    """
    return [_field(name, value) for name, value in metadata]


def _field(name: str, value: str | bytes) -> tuple[bytes, bytes]:
    try:
        raw_name = name.encode("ascii")
        raw = value.encode("latin-1") if isinstance(value, str) else value
    except UnicodeEncodeError:
        raise ValueError(f"metadata {name!r} has characters that a header field cannot carry") from None
    if not NAME(raw_name) or is_reserved(raw_name):
        raise ValueError(f"metadata name {name!r} is reserved or not lower-case ASCII")
    if raw_name.endswith(b"-bin"):
        if isinstance(value, str):
            raise ValueError(f"metadata {name!r} takes bytes")
        return raw_name, encode_binary(raw)
    if not _VALUE(raw):
        raise ValueError(f"metadata {name!r} has control characters")
    return raw_name, raw


def _from_base64(part: bytes) -> bytes:
    """Padded as it should be, or not at all; anything between raises."""
    padding = b"" if part.endswith(b"=") else b"=" * (-len(part) % 4)
    return a2b_base64(part + padding, strict_mode=True)
