"""HTTP/2 frames as this package's clients write and read them (RFC 9113 §4.1, §6).

The server has its own (wire/frames.py), and the contract "Only the server knows the wire" keeps the two
apart: a client that measures the server and tells its health must not share the server's mistakes, nor pay
for importing it. A test holds the numbers of both against each other.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE: Final = 9
# SETTINGS_MAX_FRAME_SIZE where nobody says another; these clients never do.
MAX_FRAME: Final = 16_384
DEFAULT_WINDOW: Final = 65_535
MAX_WINDOW: Final = 2**31 - 1

DATA: Final = 0x0
HEADERS: Final = 0x1
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FLAG: Final = 0x20

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4

# Length (16 high bits, 8 low bits), type, flags, stream id.
FRAME: Final = Struct(">HBBBI")
U32: Final = Struct(">I")
SETTING: Final = Struct(">HI")
# gRPC: compressed flag, message length.
PREFIX: Final = Struct(">BI")
# RFC 7541 §6.3: the table's size is 0 from here on.
TABLE_SIZE_0: Final = b"\x20"

_START: Final = Struct(">HBBB")


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return one frame; the caller keeps `payload` within MAX_FRAME."""
    size = len(payload)
    return FRAME.pack(size >> 8, size & 255, kind, flags, stream_id) + payload


def frame_start(size: int, kind: int, flags: int) -> bytes:
    """Return a frame's header up to its stream id, for frames that differ in nothing else."""
    return _START.pack(size >> 8, size & 255, kind, flags)


def settings(*entries: tuple[int, int]) -> bytes:
    """Return SETTINGS with these identifiers and values."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*entry) for entry in entries))


def window_update(size: int) -> bytes:
    """Return WINDOW_UPDATE of the connection."""
    return frame(WINDOW_UPDATE, 0, 0, U32.pack(size))


SETTINGS_ACK: Final = frame(SETTINGS, ACK, 0)
