"""The sliding window: a ring of sub-windows whose oldest is counted whole.

Any window of ten sub-windows' length touches at most eleven of them. A request is admitted only while the
counts of the newest eleven, itself included, stay within the limit: so **no window ever holds more than
the limit**, and a steady sender gets at least limit * 10/11 (docs/window.md has the argument). The same
arithmetic runs in Redis (store/lua/window.lua); the store tests hold both to the same rows.
"""

from __future__ import annotations

import msgspec

# k of DESIGN §3.1: a larger k admits closer to the limit and stores 4 bytes more per step.
SUBWINDOWS = 10
_RING = SUBWINDOWS + 1


class WindowQuery(msgspec.Struct, frozen=True, gc=False):
    """Ask to count one request.

    Attributes:
        key: the store's key, hash-tagged by tenant.
        sub_us: width of one sub-window, microseconds.
        limit: hits allowed in any window.
        hits: cost of the request.
    """

    key: bytes
    sub_us: int
    limit: int
    hits: int


class WindowReply(msgspec.Struct, frozen=True, gc=False):
    """What the window said.

    Attributes:
        granted: the hits were counted and the request may pass.
        used: hits counted in the window after this request.
        reset_us: until the oldest counted hit leaves the window, microseconds; 0 when nothing is counted.
        retry_us: not granted: until a request of this cost fits, microseconds.
        slot: number of the sub-window that took the hits; a refund must name it.
    """

    granted: bool
    used: int
    reset_us: int
    retry_us: int
    slot: int


class Ring:
    """The counts of one key. `now_us` may be any clock that all callers share."""

    __slots__ = ("_counts", "_head", "sub_us")

    def __init__(self, sub_us: int, now_us: int) -> None:
        """Start empty, with sub-windows of `sub_us` microseconds."""
        self.sub_us = sub_us
        self._head = now_us // sub_us
        self._counts = [0] * _RING  # newest first

    def acquire(self, limit: int, hits: int, count: int, now_us: int) -> tuple[int, int, int, int, int]:
        """Admit as many of `count` requests of `hits` each as fit; 0 looks without counting.

        Returns:
            (granted, used, reset_us, retry_us, slot) as store/lua/window.lua replies them.
        """
        head, counts = self._at(now_us)
        used = sum(counts)
        granted = count
        if hits:
            granted = min(count, max(0, (limit - used) // hits))
            if granted:
                used += granted * hits
                counts[0] += granted * hits
                self._head, self._counts = head, counts
        missing = hits - (limit - used) if granted < count or not count else 0
        reset_us, retry_us = self._waits(head, counts, missing, now_us)
        return granted, used, reset_us, retry_us, head

    def copy(self) -> Ring:
        """Return another ring with the same counts."""
        made = Ring(self.sub_us, 0)
        made._head, made._counts = self._head, list(self._counts)
        return made

    def add(self, hits: int, now_us: int) -> int:
        """Count `hits` that were admitted elsewhere, whatever the limit; return their sub-window."""
        self._head, self._counts = self._at(now_us)
        self._counts[0] += hits
        return self._head

    def refund(self, slot: int, hits: int) -> bool:
        """Give back to the sub-window that took them; say whether it still counts.

        Taken off a newer sub-window instead, a really admitted hit would be forgotten when the older one
        leaves, and the window would admit more than its limit.
        """
        at = self._head - slot
        if not 0 <= at < _RING or not self._counts[at]:
            return False
        self._counts[at] = max(0, self._counts[at] - hits)
        return True

    def _at(self, now_us: int) -> tuple[int, list[int]]:
        """Return head and counts as of `now_us`; what is kept changes only when something is counted."""
        index = now_us // self.sub_us
        steps = index - self._head
        if steps > 0:
            keep = self._counts[: max(0, _RING - steps)]
            return index, [0] * (_RING - len(keep)) + keep
        if steps < -_RING:
            # Set back by more than a window: a ring from the future must not lock the tenant out.
            return index, [0] * _RING
        # Set back by less: go on counting in the newest sub-window, which can only be stricter.
        return self._head, list(self._counts)

    def _waits(self, head: int, counts: list[int], missing: int, now_us: int) -> tuple[int, int]:
        """Return (reset_us, retry_us): when the oldest hit leaves, and when `missing` hits have."""
        reset_us = retry_us = 0
        for at in range(_RING - 1, -1, -1):
            if counts[at]:
                # Sub-window head - at stops counting when sub-window head - at + 11 begins.
                leaves = (head - at + _RING) * self.sub_us - now_us
                reset_us = reset_us or leaves
                if missing <= 0:
                    break
                missing -= counts[at]
                retry_us = leaves
        if missing > 0:
            retry_us = self.sub_us * _RING  # costs more than the limit: never fits
        return reset_us, retry_us
