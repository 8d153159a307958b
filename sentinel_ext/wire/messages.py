"""Length-prefixed messages (grpc doc/PROTOCOL-HTTP2.md) and their gzip coding (grpc doc/compression.md)."""

from __future__ import annotations

import zlib
from struct import Struct
from typing import TYPE_CHECKING

from sentinel_ext.wire.codes import Status
from sentinel_ext.wire.head import Refusal

if TYPE_CHECKING:
    from sentinel_ext.wire.limits import Limits

_PREFIX = Struct(">BI")
_PREFIX_SIZE = _PREFIX.size
# zlib: 15 bits of window, +16 for the gzip wrapper.
_GZIP = 31
# Level 6 costs three times level 1 for a few percent less.
_LEVEL = 1


def _refuse(status: Status, message: str) -> Refusal:
    return Refusal(http_status=200, grpc_status=status, message=message)


BAD_FLAG = _refuse(Status.INTERNAL, "compressed flag of a message is neither 0 nor 1")
NO_ENCODING = _refuse(Status.INTERNAL, "compressed message, but no grpc-encoding")
CORRUPT = _refuse(Status.INTERNAL, "message is not one whole gzip stream")
TOO_LARGE = _refuse(Status.RESOURCE_EXHAUSTED, "message is larger than the server accepts")
BOMB = _refuse(Status.RESOURCE_EXHAUSTED, "message unpacks to more than the server accepts")


class Assembler:
    """Cuts the DATA of one request into messages, whatever the frames' borders.

    Attributes:
        buffered: bytes held of a message that is not complete, its prefix too.
    """

    __slots__ = ("_buffer", "_encoding", "_limits", "_need", "buffered")

    def __init__(self, encoding: bytes, limits: Limits) -> None:
        self._encoding = encoding
        self._limits = limits
        self._buffer = bytearray()  # one object however many small frames come
        self._need = _PREFIX_SIZE
        self.buffered = 0

    def feed(self, body: bytes) -> list[bytes] | Refusal:
        """Take the next bytes of the request.

        Returns:
            The messages that are complete now; or why the call ends, after which nothing may be fed.
            A message that is too large is refused at its prefix, before any of it is held.
        """
        data: bytes | bytearray = body
        if self._buffer:
            self._buffer += body
            data = self._buffer
        messages: list[bytes] = []
        at, size, total = 0, len(data), 0
        while size - at >= self._need:
            flag, length = _PREFIX.unpack_from(data, at)
            whole = _PREFIX_SIZE + length
            if self._need == _PREFIX_SIZE:
                refusal = self._judge(flag, length)
                if refusal is not None:
                    return refusal
                if size - at < whole:
                    self._need = whole
                    break
            payload = bytes(data[at + _PREFIX_SIZE : at + whole])
            message = _inflate(payload, self._limits) if flag else payload
            if isinstance(message, Refusal):
                return message
            total += len(message)
            if total > self._limits.max_reassembly:
                return TOO_LARGE  # a frame full of small bombs
            messages.append(message)
            at += whole
            self._need = _PREFIX_SIZE
        self._keep(data, at)
        return messages

    def _judge(self, flag: int, length: int) -> Refusal | None:
        if flag > 1:
            return BAD_FLAG
        if flag and not self._encoding:
            return NO_ENCODING
        return TOO_LARGE if length > self._limits.max_message else None

    def _keep(self, data: bytes | bytearray, at: int) -> None:
        if data is self._buffer:
            if at:
                del self._buffer[:at]
        elif at < len(data):
            self._buffer += memoryview(data)[at:]
        self.buffered = len(self._buffer)


def frame_message(message: bytes, *, compress: bool = False) -> bytes:
    """A message with its prefix; compressed if asked and if that makes it shorter."""
    if compress:
        deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        packed = deflate.compress(message) + deflate.flush()
        if len(packed) < len(message):
            return _PREFIX.pack(1, len(packed)) + packed
    return _PREFIX.pack(0, len(message)) + message


def _inflate(payload: bytes, limits: Limits) -> bytes | Refusal:
    limit = min(limits.max_message, limits.gzip_floor + limits.gzip_ratio * len(payload))
    # A new context for each message; one byte over the limit is enough to know (gzip bomb).
    inflate = zlib.decompressobj(_GZIP)
    try:
        message = inflate.decompress(payload, limit + 1)
    except zlib.error:
        return CORRUPT
    if len(message) > limit:
        return BOMB
    return message if inflate.eof and not inflate.unused_data else CORRUPT
