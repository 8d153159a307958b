"""HPACK's Huffman code (RFC 7541 §5.2, appendix B), an octet at a time.

The library decodes half an octet per step and takes 8 µs for a traceparent; a table of whole octets takes a
quarter of that. The full table would cost 100 ms at start and most of it is never used, so it fills as
octets are met.
"""

from __future__ import annotations

from typing import Final

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from sentinel_ext.errors import SentinelError

_EOS: Final = 256
_MAX_PADDING: Final = 7


class HpackError(SentinelError):
    """A header block cannot be decoded: COMPRESSION_ERROR, the connection has to end."""


def _grow() -> list[list[int]]:
    """The code as a tree: node → its two children; a leaf is the complement of its symbol."""
    tree = [[0, 0]]
    for symbol, (code, length) in enumerate(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True)):
        node = 0
        for shift in range(length - 1, 0, -1):
            bit = code >> shift & 1
            if not tree[node][bit]:
                tree[node][bit] = len(tree)
                tree.append([0, 0])
            node = tree[node][bit]
        tree[node][code & 1] = ~symbol
    return tree


_TREE: Final = _grow()

# One row per node: octet → next row and the symbols on the way, or None until that octet is met there. Rows
# point to rows and not to numbers: half the time per octet. At most 255 rows of 256.
_Row = list["tuple[_Row, bytes] | None"]
_rows: Final[dict[int, _Row]] = {}
_nodes: Final[dict[int, int]] = {}  # id of a row → its node


def _row(node: int) -> _Row:
    row = _rows.get(node)
    if row is None:
        row = _rows[node] = [None] * 256
        _nodes[id(row)] = node
    return row


def _step(row: _Row, octet: int) -> tuple[_Row, bytes]:
    """Fill in one entry of a row."""
    node = _nodes[id(row)]
    symbols = bytearray()
    for shift in range(7, -1, -1):
        node = _TREE[node][octet >> shift & 1]
        if node < 0:
            if ~node == _EOS:
                raise HpackError("end of string inside a Huffman string")
            symbols.append(~node)
            node = 0
    step = row[octet] = _row(node), bytes(symbols)
    return step


def _endings() -> frozenset[int]:
    """The rows in which a string may end: after a symbol, or in up to 7 ones of padding."""
    node, allowed = 0, [id(_row(0))]
    for _ in range(_MAX_PADDING):
        node = _TREE[node][1]
        allowed.append(id(_row(node)))
    return frozenset(allowed)


_ENDINGS: Final = _endings()
_ROOT: Final = _row(0)


def decode(data: bytes) -> bytes:
    """A Huffman-coded string.

    Raises:
        HpackError: it holds EOS, or its padding is too long or not ones.
    """
    row = _ROOT
    parts = []
    for octet in data:
        row, symbols = row[octet] or _step(row, octet)
        parts.append(symbols)
    if id(row) not in _ENDINGS:
        raise HpackError("bad padding of a Huffman string")
    return b"".join(parts)
