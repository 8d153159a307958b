"""Asks grpc.health.v1 over a plain socket: an exec probe runs every few seconds and must start quickly.

Importing grpc and the health messages takes 120 ms of CPU, hpack alone 15. One request on a connection
of its own needs little of HTTP/2: literals out, four kinds of frames in.
"""

from __future__ import annotations

import socket
import struct
from typing import IO, TYPE_CHECKING, Final

import hpack

from sentinel_ext.client import hpack_lite
from sentinel_ext.errors import SentinelError
from sentinel_ext.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.address import Address

CHECK: Final = "/grpc.health.v1.Health/Check"
# What one answer may hold in all: it is a hundred bytes.
MAX_BYTES: Final = 64 * 1024
MAX_FRAME: Final = 16_384
SERVING: Final = 1
# grpc.health.v1.HealthCheckResponse.ServingStatus.
STATUSES: Final = {0: "UNKNOWN", SERVING: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
# grpc/grpc doc/health-checking.md: of a name that nobody serves.
_NOT_FOUND: Final = "5"

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
# HEADER_TABLE_SIZE 0: every block stands for itself. ENABLE_PUSH 0.
_OUR_SETTINGS = struct.pack(">HIHI", 1, 0, 2, 0)


class HealthError(SentinelError):
    """No answer; says why."""


def check(address: Address, service: str, timeout_s: float, now_ns: Callable[[], int]) -> str:
    """Ask for the health of `service` ("" asks for all); return one of STATUSES.

    Raises:
        HealthError: no answer within `timeout_s` seconds, or one that is none.
    """
    deadline_ns = now_ns() + round(timeout_s * 1e9)

    def left_s() -> float:
        left = (deadline_ns - now_ns()) / 1e9
        if left <= 0:
            raise TimeoutError
        return left

    try:
        with _connected(address, left_s()) as connection:
            connection.sendall(_request(service))
            with connection.makefile("rb") as reader:
                return _answer(connection, reader, left_s)
    except TimeoutError:
        raise HealthError(f"no answer from {address} within {timeout_s:g} s") from None
    except OSError as error:
        raise HealthError(f"{address}: {(error.strerror or str(error)).lower()}") from None


def _connected(address: Address, timeout_s: float) -> socket.socket:
    if not address.is_unix:
        return socket.create_connection((address.host, address.port), timeout_s)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout_s)
    try:
        connection.connect(address.path)
    except BaseException:
        connection.close()
        raise
    return connection


def _request(service: str) -> bytes:
    name = service.encode()
    # HealthCheckRequest.service is field 1; the caller keeps names below 128 bytes.
    message = b"\x0a" + bytes([len(name)]) + name if name else b""
    block = b"\x20" + hpack_lite.encode(
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", CHECK),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "sentinel-ext-healthcheck"),
        ]
    )
    body = struct.pack(">BI", 0, len(message)) + message
    return b"".join(
        (
            _PREFACE,
            _frame(_SETTINGS, 0, 0, _OUR_SETTINGS),
            _frame(_HEADERS, _END_HEADERS, 1, block),
            _frame(_DATA, _END_STREAM, 1, body),
        )
    )


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    size = len(payload)
    return struct.pack(">HBBBI", size >> 8, size & 255, kind, flags, stream_id) + payload


def _answer(connection: socket.socket, reader: IO[bytes], left_s: Callable[[], float]) -> str:
    """Read frames until the stream ends."""
    message = bytearray()
    taken = 0
    while taken < MAX_BYTES:
        connection.settimeout(left_s())
        high, low, kind, flags, stream_id = struct.unpack(">HBBBI", _read(reader, 9))
        size = high << 8 | low
        if size > MAX_FRAME:
            raise HealthError("the server does not speak HTTP/2 as gRPC does")
        payload = _read(reader, size)
        taken += 9 + size
        if kind == _SETTINGS and not flags & _ACK:
            connection.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            connection.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY or (kind == _RST and stream_id == 1):
            raise HealthError("the server ended the call")
        elif kind == _DATA and stream_id == 1:
            message += _unpadded(payload, flags)
        elif kind == _HEADERS and stream_id == 1 and flags & _END_STREAM:
            return _read_status(_unpadded(payload, flags), bytes(message))
    raise HealthError("the server sends much and ends nothing")


def _read(reader: IO[bytes], size: int) -> bytes:
    data = reader.read(size)
    if len(data) < size:
        raise HealthError("the server closed the connection without an answer: is it a gRPC port?")
    return data


def _unpadded(payload: bytes, flags: int) -> bytes:
    start, end = 0, len(payload)
    if flags & _PADDED and payload:
        start, end = 1, end - payload[0]
    if flags & _PRIORITY:
        start += 5
    return payload[start:end]


def _read_status(block: bytes, message: bytes) -> str:
    try:
        outcome = hpack_lite.StatusReader().read(block, grpc=True)
    except hpack.HPACKError:
        raise HealthError("the server does not speak HTTP/2 as gRPC does") from None
    if outcome == _NOT_FOUND:
        return "SERVICE_UNKNOWN"
    if outcome != "0":
        said = f"grpc-status {outcome}" if outcome.isdecimal() else printable(outcome)
        raise HealthError(f"the server answers {said}")
    # HealthCheckResponse.status is field 1, a varint below 128; absent it is UNKNOWN.
    body = message[5:]
    return STATUSES.get(body[1] if len(body) >= 2 and body[0] == 8 else 0, "UNKNOWN")
