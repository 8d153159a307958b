"""What the server says besides messages: header and trailer blocks, grpc-message, grpc-timeout.

Blocks use the static table and literals without indexing only, so they are the same bytes on every connection
and need no encoder state.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from sentinel_ext.wire import metadata
from sentinel_ext.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sentinel_ext.wire.head import Refusal

MAX_MESSAGE_SIZE = 1024  # of a grpc-message before its coding; Envoy and proxies cap header lists
_FIELD_OVERHEAD = 32  # RFC 9113 §6.5.2

_NS_PER_UNIT = {
    b"H": 3600 * 10**9,
    b"M": 60 * 10**9,
    b"S": 10**9,
    b"m": 10**6,
    b"u": 10**3,
    b"n": 1,
}
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch
_ESCAPED = re.compile(rb"[^\x20-\x24\x26-\x7e]")

Pairs = list[tuple[bytes, bytes]]


def field(name: bytes, value: bytes) -> bytes:
    """A literal field without indexing, with a literal name, without Huffman coding (RFC 7541 §6.2.2)."""
    return b"\x00" + _size(len(name)) + name + _size(len(value)) + value


def _size(length: int) -> bytes:
    if length < 0x7F:
        return bytes((length,))
    length -= 0x7F
    octets = bytearray(b"\x7f")
    while length > 0x7F:
        octets.append(length & 0x7F | 0x80)
        length >>= 7
    octets.append(length)
    return bytes(octets)


def _status_line(code: int) -> bytes:
    """`:status`, indexed where the static table has it (RFC 7541 appendix A), else with its name indexed."""
    indexed = {200: b"\x88", 400: b"\x8c", 404: b"\x8d", 500: b"\x8e"}
    return indexed.get(code) or b"\x08\x03%d" % code


# `:status: 200` and `content-type: application/grpc`; both names are of the static table.
RESPONSE_HEADERS = _status_line(200) + b"\x0f\x10\x10application/grpc"
TRAILERS_OK = field(b"grpc-status", b"0")
_GZIP = field(b"grpc-encoding", b"gzip")


def header_block(extra: Sequence[tuple[str, str | bytes]] = (), *, compressed: bool = False) -> bytes:
    """Response HEADERS with a handler's initial metadata.

    Raises:
        ValueError: the metadata cannot be sent.
    """
    return RESPONSE_HEADERS + (_GZIP if compressed else b"") + _block(metadata.encode(extra))


def trailer_block(
    status: int,
    text: str = "",
    trailers: Sequence[tuple[str, str | bytes]] = (),
    details: bytes = b"",
    *,
    trailers_only: bool = False,
    max_list: int | None = None,
) -> bytes:
    """The last HEADERS of a response.

    Args:
        status: gRPC status code.
        text: grpc-message; omitted if empty.
        trailers: a handler's trailing metadata.
        details: grpc-status-details-bin, serialised; omitted if empty.
        trailers_only: nothing was sent before, so `:status` and content-type come first.
        max_list: the peer's SETTINGS_MAX_HEADER_LIST_SIZE. What does not fit goes in this order: details,
            the end of the message, trailers. The status always stays.

    Raises:
        ValueError: the trailers cannot be sent.
    """
    if status == Status.OK and not (text or trailers or details or trailers_only):
        return TRAILERS_OK
    before: Pairs = [(b":status", b"200"), (b"content-type", b"application/grpc")] if trailers_only else []
    last: Pairs = [(b"grpc-status", b"%d" % status)]
    extra = metadata.encode(trailers)
    message: Pairs = [(b"grpc-message", encode_message(text))] if text else []
    packed: Pairs = [(b"grpc-status-details-bin", metadata.encode_binary(details))] if details else []
    if max_list is not None:
        room = max_list - _list_size(before + last)
        message, packed, extra = _fit(message, packed, extra, room)
    return (RESPONSE_HEADERS if trailers_only else b"") + _block(last + message + packed + extra)


def _fit(message: Pairs, packed: Pairs, extra: Pairs, room: int) -> tuple[Pairs, Pairs, Pairs]:
    """What of them fits into `room` bytes of header list."""
    if _list_size(message + packed + extra) <= room:
        return message, packed, extra
    left = room - _list_size(extra)
    if _list_size(message) > left:
        message = _cut(message, left)
    if left < 0:
        extra = []
    return message, [], extra


def _cut(message: Pairs, room: int) -> Pairs:
    """A grpc-message cut to fit, not inside an escape; nothing if no character of it fits."""
    room -= _list_size([(b"grpc-message", b"")])
    text = re.sub(rb"%.?$", b"", message[0][1][:room]) if room > 0 else b""
    return [(b"grpc-message", text)] if text else []


@lru_cache(maxsize=64)  # refusals are a fixed few, and a flood of them should stay cheap
def refusal_block(refusal: Refusal) -> bytes:
    """A whole response that refuses a request, to be sent with END_STREAM."""
    block = _status_line(refusal.http_status)
    if refusal.http_status == 200:
        block = RESPONSE_HEADERS
    return block + _block(_refusal_fields(refusal))


@lru_cache(maxsize=64)
def trailers_of(refusal: Refusal) -> bytes:
    """The same refusal after HEADERS went out."""
    return _block(_refusal_fields(refusal))


def _refusal_fields(refusal: Refusal) -> Pairs:
    fields: Pairs = []
    if refusal.grpc_status is not None:
        fields.append((b"grpc-status", b"%d" % refusal.grpc_status))
        if refusal.message:
            fields.append((b"grpc-message", encode_message(refusal.message)))
    return [*fields, *refusal.headers]


# grpc-message.


def encode_message(text: str) -> bytes:
    """Percent-coded UTF-8 (grpc doc/PROTOCOL-HTTP2.md, "Percent-Encoded"), cut to 1 KiB before coding."""
    raw = text.encode("utf-8", "replace")
    if len(raw) > MAX_MESSAGE_SIZE:
        raw = raw[:MAX_MESSAGE_SIZE].decode("utf-8", "ignore").encode()
    return _ESCAPED.sub(lambda match: b"%%%02X" % ord(match[0]), raw)


def decode_message(value: bytes) -> str:
    """The text of a grpc-message; never fails: what is not percent-coding stays as it is."""
    return unquote_to_bytes(value).decode("utf-8", "replace")


# grpc-timeout.


def parse_timeout(value: bytes) -> int | None:
    """A grpc-timeout in nanoseconds; None if it breaks the grammar (at most 8 digits and a unit)."""
    match = _TIMEOUT(value)
    return int(match[1]) * _NS_PER_UNIT[match[2]] if match else None


# Helpers.


def _block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(field(name, value) for name, value in fields)


def _list_size(fields: Pairs) -> int:
    return sum(len(name) + len(value) + _FIELD_OVERHEAD for name, value in fields)
