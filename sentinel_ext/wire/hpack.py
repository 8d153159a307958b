"""Header blocks to verdicts, in step with HPACK (RFC 7541).

We advertise SETTINGS_HEADER_TABLE_SIZE 0. Once the peer acknowledged it and its table is empty, a block means
the same on every connection and at any time: insertions insert nothing (§4.4), and a reference to the dynamic
table is an error. From then on, blocks are looked up whole, else by their first fields, else field by field.
Before that, the same bytes may change the table or depend on it, so the library decodes every block and the
cache is neither asked nor told: skipping one insertion would make later indexes name other fields, without
any error, which is a hole in authorization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import hpack

from sentinel_ext.wire.block_cache import BlockCache
from sentinel_ext.wire.fieldwalk import FieldWalk, OversizedError, check
from sentinel_ext.wire.head import (
    OVERSIZED,
    SECRET,
    VERDICT,
    Field,
    Head,
    classify,
    extend,
    judge,
    judge_trailers,
    name_kind,
)
from sentinel_ext.wire.huffman import HpackError

if TYPE_CHECKING:
    from sentinel_ext.wire.limits import Limits
    from sentinel_ext.wire.methods import MethodTable

__all__ = ["BlockCache", "HeaderDecoder", "HpackError"]

# Lengths of known block beginnings that a connection tries: one for each method it calls, mostly.
_MAX_CUTS: Final = 4


def _judged_by(limits: Limits) -> tuple[int, ...]:
    """The numbers that a verdict depends on; others may differ, as a connection's age does."""
    return (
        limits.max_header_list,
        limits.max_header_list_hard,
        limits.max_header_fields,
        limits.max_huffman_string,
        limits.max_timeout_ns,
    )


class HeaderDecoder:
    """One connection's decoder.

    Attributes:
        is_context_free: blocks mean what they mean alone; false until the peer gave up its dynamic table.
    """

    __slots__ = (
        "_cache",
        "_cuts",
        "_decoder",
        "_find",
        "_has_cache",
        "_is_acked",
        "_limits",
        "_methods",
        "_walk",
        "is_context_free",
    )

    def __init__(self, cache: BlockCache | None, methods: MethodTable, limits: Limits) -> None:
        """Begin with an empty table of 4096 bytes, as every connection does.

        Args:
            cache: shared; None decodes every block with the library.
            methods: what can be called; frozen from here on.
            limits: sizes and counts.

        Raises:
            ValueError: the cache holds verdicts of other methods or limits.
        """
        if cache is not None and (
            cache.methods is not methods or _judged_by(cache.limits) != _judged_by(limits)
        ):
            raise ValueError("the block cache belongs to other methods or limits")
        methods.freeze()
        self._methods = methods
        self._limits = limits
        self._decoder = hpack.Decoder(limits.max_header_list_hard)
        self._is_acked = False
        self._cuts: list[int] = []
        self.is_context_free = False
        self._has_cache = cache is not None
        if cache is not None:
            self._cache = cache
            self._find = cache.blocks.recent.get
            self._walk = FieldWalk(cache)

    def settings_acked(self) -> None:
        """The peer acknowledged our SETTINGS: its next block has to give up its table (RFC 9113 §4.3.1)."""
        self._is_acked = True
        self._decoder.max_allowed_table_size = 0

    def decode(self, block: bytes) -> Head:
        """The verdict on a request's header block.

        Raises:
            HpackError: the block does not decode.
        """
        if self.is_context_free:
            return self._find(block) or self._miss(block)
        fields = self._from_library(block)
        return OVERSIZED if fields is None else judge(fields, self._methods, self._limits)

    def decode_trailers(self, block: bytes) -> Head:
        """The verdict on a request's trailers; only `refusal`, `size` and `is_oversized` say something.

        Raises:
            HpackError: the block does not decode.
        """
        fields: list[Field] | None
        if self.is_context_free:
            try:
                fields = self._walk.read(block)[0]
            except OversizedError:
                fields = None
        else:
            fields = self._from_library(block)
        return OVERSIZED if fields is None else judge_trailers(fields, self._limits)

    # Before the table is gone.

    def _from_library(self, block: bytes) -> list[Field] | None:
        """The fields; None if they are beyond the hard limits."""
        try:
            check(block, self._limits)
            pairs = self._decoder.decode(block, raw=True)
        except (OversizedError, hpack.OversizedHeaderListError):
            return None
        except hpack.HPACKError as error:
            raise HpackError(str(error)) from error
        # After the acknowledgement the library refuses a block that leaves the table above size 0.
        if self._is_acked and self._has_cache and not self._decoder.header_table_size:
            self.is_context_free = True
        fields = []
        for pair in pairs:
            name, value = pair
            kind = name_kind(name) | (0 if pair.indexable else SECRET)
            fields.append(classify(name, value, kind))
        return fields

    # After that.

    def _miss(self, block: bytes) -> Head:
        """A block that is not among the recent ones."""
        cache = self._cache
        cache.misses += 1
        head = cache.blocks.get(block)
        if head is not None:
            return head
        try:
            for cut in self._cuts:
                prefix = cache.blocks.get(block[:cut])
                if prefix is not None:
                    cache.prefix_hits += 1
                    return self._from_tail(cache, block, prefix, cut)
            return self._from_fields(cache, block)
        except OversizedError:
            return OVERSIZED

    def _from_tail(self, cache: BlockCache, block: bytes, prefix: Head, cut: int) -> Head:
        """The first fields are known. A whole number of them, so the rest starts at a field's border."""
        tail, _ = self._walk.read(block, cut)
        head = extend(prefix, tail, self._limits)
        if head is None:
            head = judge([*prefix.fields, *tail], self._methods, self._limits)
        cache.offer(block, head)
        return head

    def _from_fields(self, cache: BlockCache, block: bytes) -> Head:
        fields, ends = self._walk.read(block)
        head = judge(fields, self._methods, self._limits)
        if head.refusal is None:
            self._learn(cache, block, fields, ends)
            cache.offer(block, head)
        return head

    def _learn(self, cache: BlockCache, block: bytes, fields: list[Field], ends: list[int]) -> None:
        """Keep what the fields up to the last that matters to the verdict say.

        What follows (traceparent, x-envoy-*, metadata, and grpc-go's ever-changing grpc-timeout) is read per
        call; nothing in it can change the verdict but that timeout, the number and the size.
        """
        count = len(fields)
        while count and not fields[count - 1][3] & VERDICT:
            count -= 1
        if count == len(fields):
            return
        cut = ends[count - 1]
        beginning = block[:cut]
        if cache.blocks.get(beginning) is None:
            cache.offer(beginning, judge(fields[:count], self._methods, self._limits))
        if cut not in self._cuts and cache.blocks.get(beginning) is not None:
            self._cuts = [cut, *self._cuts[: _MAX_CUTS - 1]]
