"""HTTP/2 frames of a client, written by hand: what a test sends when no real client would."""

from __future__ import annotations

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes(3) + b"\x04\x00" + bytes(4)
HEADERS, DATA, RST_STREAM, GOAWAY, PING = 1, 0, 3, 7, 6
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A field that touches no table (RFC 7541 §6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def headers(stream_id: int, path: str, *extra: tuple[bytes, bytes]) -> bytes:
    """HEADERS of a gRPC request."""
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"test"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *extra,
    )
    return frame(HEADERS, END_HEADERS, stream_id, b"".join(literal(*field) for field in fields))


def data(stream_id: int, message: bytes, flags: int = END_STREAM) -> bytes:
    """DATA with one uncompressed message."""
    return frame(DATA, flags, stream_id, b"\x00" + len(message).to_bytes(4, "big") + message)


def request(stream_id: int, path: str, message: bytes = b"", *extra: tuple[bytes, bytes]) -> bytes:
    """A whole unary request."""
    return headers(stream_id, path, *extra) + data(stream_id, message)


def split(stream: bytes) -> list[tuple[int, int, int, bytes]]:
    """Cut what a server sent into (kind, flags, stream id, payload)."""
    frames, at = [], 0
    while at < len(stream):
        size = int.from_bytes(stream[at : at + 3], "big")
        frames.append(
            (
                stream[at + 3],
                stream[at + 4],
                int.from_bytes(stream[at + 5 : at + 9], "big"),
                stream[at + 9 : at + 9 + size],
            )
        )
        at += 9 + size
    return frames
