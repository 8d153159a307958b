"""Just enough HPACK for the load client: request blocks as literals, the status out of response blocks.

The client announces a header table of 0, so every response block stands for itself and equal bytes mean
equal fields: a block is decoded once and looked up after that. Decoding each one would cost more than the
server does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import hpack

if TYPE_CHECKING:
    from collections.abc import Iterable

# A block with a date or an id in it never comes again; the table is emptied when it is full.
MAX_BLOCKS = 4096
# RFC 7541 Appendix A, 8 to 14: `:status` as one indexed field, which Envoy sends first.
_INDEXED_STATUS = {0x88: "200", 0x89: "204", 0x8A: "206", 0x8B: "304", 0x8C: "400", 0x8D: "404", 0x8E: "500"}


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    """Write a block of literals that are not indexed and not Huffman coded: text stays findable in it."""
    parts: list[bytes] = []
    for name, value in fields:
        parts += [b"\x00", _string(name), _string(value)]
    return b"".join(parts)


def _string(text: str) -> bytes:
    data = text.encode()
    size = len(data)
    if size < 127:
        return bytes([size]) + data
    # RFC 7541 §5.1: 7 bits of ones, then the rest in groups of 7 bits, lowest first.
    head, size = bytearray([127]), size - 127
    while size >= 128:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + data


class StatusReader:
    """Reads what a response block says about the outcome."""

    def __init__(self) -> None:
        self._known: dict[bytes, str] = {}

    def read(self, block: bytes, *, grpc: bool) -> str:
        """Return the outcome: grpc-status if `grpc` and there is one, else `http` and the status, else "".

        Raises:
            hpack.HPACKError: the block is broken.
        """
        if not grpc and block[0] in _INDEXED_STATUS:
            return f"http {_INDEXED_STATUS[block[0]]}"
        status = self._known.get(block)
        if status is None:
            if len(self._known) >= MAX_BLOCKS:
                self._known.clear()
            status = self._known[block] = _decode(block)
        return status


def _decode(block: bytes) -> str:
    # A decoder of its own: with a table of 0 there is nothing to carry from block to block.
    decoder = hpack.Decoder()
    decoder.header_table_size = 0
    fields = {bytes(name): bytes(value) for name, value in decoder.decode(block, raw=True)}
    if b"grpc-status" in fields:
        return _shown(fields[b"grpc-status"]) or "(none)"
    return f"http {_shown(fields[b':status'])}" if b":status" in fields else ""


def _shown(value: bytes) -> str:
    # A peer may send any byte where a number belongs.
    return value.decode("ascii", "backslashreplace")
