"""Asks grpc.health.v1 over a plain socket: an exec probe runs every few seconds and must start quickly.

Importing grpc and the health messages takes 120 ms of CPU, hpack alone 15. One request on a connection
of its own needs little of HTTP/2: literals out, four kinds of frames in.
"""

from __future__ import annotations

import socket
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import hpack

from sentinel_ext.client import hpack_lite, http2
from sentinel_ext.errors import SentinelError
from sentinel_ext.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.address import Address

CHECK: Final = "/grpc.health.v1.Health/Check"
# What one answer may hold in all: it is a hundred bytes.
MAX_BYTES: Final = 64 * 1024
SERVING: Final = 1
# grpc.health.v1.HealthCheckResponse.ServingStatus.
STATUSES: Final = {0: "UNKNOWN", SERVING: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
# grpc/grpc doc/health-checking.md: of a name that nobody serves.
_NOT_FOUND: Final = "5"
# What is shown of a status that is no number, in characters.
_MAX_SAID: Final = 100


class HealthError(SentinelError):
    """No answer; says why."""


def check(address: Address, service: str, timeout_s: float, now_ns: Callable[[], int]) -> str:
    """Ask for the health of `service` ("" asks for all); return one of STATUSES.

    The time is for all of it: looking the host up, connecting, and every byte of the answer.

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
        with _connected(address, left_s) as connection:
            peer = _Peer(connection, left_s)
            peer.send(_request(service))
            return _answer(peer)
    except TimeoutError:
        raise HealthError(no_answer(address, timeout_s)) from None
    except OSError as error:
        raise HealthError(f"{address}: {(error.strerror or str(error)).lower()}") from None


def no_answer(address: Address, timeout_s: float) -> str:
    """Say that the time is over."""
    return f"no answer from {address} within {timeout_s:g} s"


def _connected(address: Address, left_s: Callable[[], float]) -> socket.socket:
    if address.is_unix:
        return _connect(socket.AF_UNIX, address.path, left_s)
    *others, last = _found(address, left_s)
    for family, _, _, _, place in others:
        try:
            return _connect(family, place, left_s)
        except TimeoutError:
            raise
        except OSError:
            # A name may have several addresses: ::1 where the server is on 127.0.0.1.
            continue
    return _connect(last[0], last[4], left_s)


def _connect(family: int, place: Any, left_s: Callable[[], float]) -> socket.socket:  # noqa: ANN401  as socket has it
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(left_s())
        connection.connect(place)
    except BaseException:
        connection.close()
        raise
    return connection


def _found(address: Address, left_s: Callable[[], float]) -> list[Any]:
    """Look the host up; a name in a thread of its own, because the resolver knows no deadline."""
    try:
        return _looked_up(address, socket.AI_NUMERICHOST)
    except OSError:
        found: SimpleQueue[list[Any] | OSError] = SimpleQueue()
    Thread(target=lambda: found.put(_looked_up_or_not(address)), daemon=True).start()
    try:
        answer = found.get(timeout=left_s())
    except Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _looked_up(address: Address, flags: int = 0) -> list[Any]:
    return socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)


def _looked_up_or_not(address: Address) -> list[Any] | OSError:
    try:
        return _looked_up(address)
    except OSError as error:
        return error


class _Peer:
    """Whom a connection is with; whatever it is asked for has until the deadline, not each piece anew."""

    def __init__(self, connection: socket.socket, left_s: Callable[[], float]) -> None:
        self._connection, self._left_s = connection, left_s
        self._rest = b""

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._connection.settimeout(self._left_s())
        self._connection.sendall(data)

    def read(self, size: int) -> bytes:
        """Return that many bytes."""
        while len(self._rest) < size:
            self._connection.settimeout(self._left_s())
            more = self._connection.recv(http2.MAX_FRAME)
            if not more:
                raise HealthError("the server closed the connection without an answer: is it a gRPC port?")
            self._rest += more
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _request(service: str) -> bytes:
    name = service.encode()
    # HealthCheckRequest.service is field 1; the caller keeps names below 128 bytes.
    message = b"\x0a" + bytes([len(name)]) + name if name else b""
    block = http2.TABLE_SIZE_0 + hpack_lite.encode(
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
    return b"".join(
        (
            http2.PREFACE,
            # Every block stands for itself.
            http2.settings((http2.HEADER_TABLE_SIZE, 0), (http2.ENABLE_PUSH, 0)),
            http2.frame(http2.HEADERS, http2.END_HEADERS, 1, block),
            http2.frame(http2.DATA, http2.END_STREAM, 1, http2.PREFIX.pack(0, len(message)) + message),
        )
    )


def _answer(peer: _Peer) -> str:
    """Read frames until the stream ends."""
    message = bytearray()
    taken = 0
    while taken < MAX_BYTES:
        high, low, kind, flags, stream_id = http2.FRAME.unpack(peer.read(http2.HEADER_SIZE))
        size = high << 8 | low
        if size > http2.MAX_FRAME:
            raise HealthError("the server does not speak HTTP/2 as gRPC does")
        payload = peer.read(size)
        taken += http2.HEADER_SIZE + size
        if kind == http2.SETTINGS and not flags & http2.ACK:
            peer.send(http2.SETTINGS_ACK)
        elif kind == http2.PING and not flags & http2.ACK:
            peer.send(http2.frame(http2.PING, http2.ACK, 0, payload))
        elif kind == http2.GOAWAY or (kind == http2.RST_STREAM and stream_id == 1):
            raise HealthError("the server ended the call")
        elif kind == http2.DATA and stream_id == 1:
            message += _unpadded(payload, flags)
        elif kind == http2.HEADERS and stream_id == 1 and flags & http2.END_STREAM:
            return _read_status(_unpadded(payload, flags), bytes(message))
    raise HealthError("the server sends much and ends nothing")


def _unpadded(payload: bytes, flags: int) -> bytes:
    start, end = 0, len(payload)
    if flags & http2.PADDED and payload:
        start, end = 1, end - payload[0]
    if flags & http2.PRIORITY_FLAG:
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
        said = outcome if outcome.startswith("http ") else f"grpc-status {outcome or '(none)'}"
        raise HealthError(f"the server answers {printable(said)[:_MAX_SAID]}")
    # HealthCheckResponse.status is field 1, a varint below 128; absent it is UNKNOWN.
    body = message[5:]
    return STATUSES.get(body[1] if len(body) >= 2 and body[0] == 8 else 0, "UNKNOWN")
