"""Header blocks written field by field, so that a test chooses each representation (RFC 7541 §6)."""

from __future__ import annotations

from hpack.hpack import encode_integer
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from sentinel_ext.wire.methods import Kind, Method, MethodTable

CHECK = b"/envoy.service.auth.v3.Authorization/Check"
LOG = b"/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
SIZE_ZERO = b"\x20"

# How a literal is to be treated by tables: (first octet, bits of the index's prefix).
PLAIN = (0x00, 4)
NEVER = (0x10, 4)
INSERT = (0x40, 6)

_huffman = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
_STATIC = {name: index for index, (name, _) in reversed([*enumerate(HeaderTable.STATIC_TABLE, 1)])}


def integer(value: int, bits: int, octet: int = 0) -> bytes:
    """An integer behind the upper bits of `octet`."""
    data = encode_integer(value, bits)
    data[0] |= octet
    return bytes(data)


def huffman(text: bytes) -> bytes:
    """Only the code, without a length."""
    return _huffman.encode(text)


def string(text: bytes, *, coded: bool = False) -> bytes:
    """A string literal."""
    data = huffman(text) if coded else text
    return integer(len(data), 7, 0x80 if coded else 0) + data


def indexed(index: int) -> bytes:
    """A field of a table."""
    return integer(index, 7, 0x80)


def literal(name: bytes | int, value: bytes, how: tuple[int, int] = PLAIN, *, coded: bool = False) -> bytes:
    """A literal field; a name of the static table is written as its index, as all encoders do."""
    octet, bits = how
    index = name if isinstance(name, int) else _STATIC.get(name, 0)
    start = integer(index, bits, octet)
    if not index:
        start += string(name, coded=coded)
    return start + string(value, coded=coded)


def block(*fields: tuple[bytes, bytes], how: tuple[int, int] = PLAIN, coded: bool = True) -> bytes:
    """Literals only."""
    return b"".join(literal(name, value, how, coded=coded) for name, value in fields)


def request(path: bytes = CHECK, *, timeout: bytes | None = b"500m") -> list[tuple[bytes, bytes]]:
    """What Envoy's gRPC client sends before tracing and its own headers, in its order."""
    fields = [
        (b":method", b"POST"),
        (b":path", path),
        (b":authority", b"sentinel"),
        (b":scheme", b"http"),
        (b"te", b"trailers"),
    ]
    if timeout is not None:
        fields.append((b"grpc-timeout", timeout))
    return [*fields, (b"content-type", b"application/grpc")]


ENVOY = [
    (b"x-envoy-internal", b"true"),
    (b"x-forwarded-for", b"10.0.0.7"),
    (b"x-envoy-expected-rq-timeout-ms", b"500"),
]


def methods() -> MethodTable:
    """A unary and a streaming method."""
    table = MethodTable()
    table.add(Method(CHECK, Kind.UNARY))
    table.add(Method(LOG, Kind.CLIENT_STREAM))
    return table
