"""Names seen lately, in bounded memory: two generations, of which the older goes when the newer is full."""

from __future__ import annotations

# A million entries a minute fill a generation in 2 s. A duplicate comes from a second access log of the same
# request, within its flush interval. Names of 18 bytes in both generations take some 8 MB.
MAX_NAMES = 32_768


class Recent:
    """Remembers at least the last `bound` names, and at most twice as many."""

    __slots__ = ("_bound", "_newer", "_older")

    def __init__(self, bound: int = MAX_NAMES) -> None:
        """Start with nothing seen."""
        self._bound = bound
        self._newer: set[bytes] = set()
        self._older: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def is_new(self, name: bytes) -> bool:
        """Whether `name` was not seen lately; it is from now on."""
        newer = self._newer
        if name in newer or name in self._older:
            return False
        if len(newer) >= self._bound:
            self._older = newer
            newer = self._newer = set()
        newer.add(name)
        return True
