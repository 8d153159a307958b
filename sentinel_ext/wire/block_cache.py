"""What a process remembers of header blocks, so that the next one costs a dict lookup: all of it bounded.

Everything here is context-free: it is what bytes mean while the dynamic table is empty and cannot fill
(hpack.py says when that is so), so it holds for every connection, for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from sentinel_ext.wire.head import UNKEPT

if TYPE_CHECKING:
    from sentinel_ext.wire.head import Field, Head
    from sentinel_ext.wire.limits import Limits
    from sentinel_ext.wire.methods import MethodTable

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Generations(Generic[_Key, _Value]):
    """A bounded map that forgets what was not used lately.

    Two dicts: when the recent one is full, it becomes the older one, which is dropped. What is found in the
    older one moves back, so a flood of keys that nobody asks for again does not drive out those in use. An
    LRU would write on every hit; this one does not.

    Attributes:
        recent: look here first; the dict stays the same object, so its `get` can be bound once.
    """

    __slots__ = ("_half", "_older", "recent")

    def __init__(self, size: int) -> None:
        self._half = max(1, size // 2)
        self._older: dict[_Key, _Value] = {}
        self.recent: dict[_Key, _Value] = {}

    def __len__(self) -> int:
        return len(self.recent) + len(self._older)

    def get(self, key: _Key) -> _Value | None:
        """The value, or None."""
        value = self.recent.get(key)
        if value is None:
            value = self._older.pop(key, None)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: _Key, value: _Value) -> None:
        """Remember; now and then this costs the move of one generation, 20 ns per entry of it."""
        if len(self.recent) >= self._half:
            self._older.clear()
            self._older.update(self.recent)
            self.recent.clear()
        self.recent[key] = value


class BlockCache:
    """Verdicts by header block, fields by their bytes. For all connections of one server in one process.

    Only what was seen twice gets in (`offer`), so blocks that differ from call to call do not fill it. No
    block with a secret is kept: authorization, cookie, or anything sent as never-indexed.

    Attributes:
        methods: the verdicts name these methods.
        limits: the verdicts hold under these limits.
        blocks: verdicts by block, or by the first fields of a block.
        fields: decoded literal fields by their bytes.
        names: decoded literal names and their kinds by their bytes.
        misses: blocks that were not found whole.
        prefix_hits: those of them whose first fields were found.
    """

    __slots__ = ("_seen", "blocks", "fields", "limits", "methods", "misses", "names", "prefix_hits")

    def __init__(self, methods: MethodTable, limits: Limits) -> None:
        methods.freeze()
        self.methods = methods
        self.limits = limits
        self.blocks: Generations[bytes, Head] = Generations(limits.cache_entries)
        self.fields: Generations[bytes, Field] = Generations(limits.memo_entries)
        self.names: Generations[bytes, tuple[bytes, int]] = Generations(limits.memo_entries)
        self._seen: Generations[int, bool] = Generations(limits.cache_entries)
        self.misses = 0
        self.prefix_hits = 0

    def wants(self, block: bytes) -> bool:
        """True if the block is small enough, and came before. Python keys its hash: nobody can aim."""
        if len(block) > self.limits.cache_entry_size:
            return False
        mark = hash(block)
        if self._seen.get(mark):
            return True
        self._seen.put(mark, True)
        return False

    def offer(self, block: bytes, head: Head) -> None:
        """Keep a verdict, if it is one to keep: a call that is served, without volatile or secret fields."""
        if head.refusal is None and not head.kinds & UNKEPT and self.wants(block):
            self.blocks.put(block, head)
