"""HTTP/2 frames as bytes (RFC 9113 §4.1, §6): constants, the frame header, and what builds whole frames."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE = 9

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6
ENABLE_CONNECT_PROTOCOL = 0x8
NO_RFC7540_PRIORITIES = 0x9

STREAM_ID = 0x7FFF_FFFF  # the top bit is reserved and ignored
ERROR_CODES = 0xFFFF_FFFF

# One unpack of five fields costs 0.10 µs, slices through int.from_bytes 0.34 µs.
FRAME = Struct(">HBBBI")  # length (16 high bits, 8 low bits), type, flags, stream id
U32 = Struct(">I")
SETTING = Struct(">HI")
PREFIX = Struct(">BI")  # gRPC: compressed flag, message length

SETTINGS_ACK = FRAME.pack(0, 0, SETTINGS, ACK, 0)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame; the caller keeps `payload` within the peer's SETTINGS_MAX_FRAME_SIZE."""
    length = len(payload)
    return FRAME.pack(length >> 8, length & 0xFF, kind, flags, stream_id) + payload


def settings(entries: Iterable[tuple[int, int]]) -> bytes:
    """SETTINGS with these (identifier, value) entries, in order."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*entry) for entry in entries))


def ping(opaque: bytes, *, ack: bool) -> bytes:
    """PING, or its acknowledgement, with these 8 bytes."""
    return frame(PING, ACK if ack else 0, 0, opaque)


def goaway(last_stream_id: int, code: int, text: str) -> bytes:
    """GOAWAY with short debug text in ASCII."""
    debug = text.encode("ascii", "replace")
    return frame(GOAWAY, 0, 0, U32.pack(last_stream_id) + U32.pack(code & ERROR_CODES) + debug)


def rst_stream(stream_id: int, code: int) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream_id, U32.pack(code & ERROR_CODES))


def window_update(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, U32.pack(increment))


def headers(stream_id: int, block: bytes, max_frame: int, *, end_stream: bool) -> bytes:
    """HEADERS, and CONTINUATION as long as the block is longer than the peer's frames."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= max_frame:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [frame(HEADERS, flags, stream_id, block[:max_frame])]
    for at in range(max_frame, len(block), max_frame):
        ends = END_HEADERS if at + max_frame >= len(block) else 0
        parts.append(frame(CONTINUATION, ends, stream_id, block[at : at + max_frame]))
    return b"".join(parts)


def unpad(payload: bytes, flags: int) -> bytes | None:
    """The payload of DATA or HEADERS without its padding; None if the padding does not fit (§6.1)."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        return None
    return payload[1 : len(payload) - payload[0]]
