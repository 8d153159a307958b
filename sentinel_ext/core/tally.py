"""How requests ended, counted: a batch to report, a tally that makes batches, the ring that sums them."""

from __future__ import annotations

from typing import Final

import msgspec

# The window is a ring of this many slots: a share covers between 9/10 of the window and all of it.
SLOTS: Final = 10
# A count stays here once it is reached: what Lua packs has 32 bits.
MAX_COUNT: Final = 2**32 - 1


class Batch(msgspec.Struct, frozen=True, gc=False):
    """What ended at one instance since it last reported, in the order it ended.

    Attributes:
        slow: of all, how many took too long.
        lead: failures before the first success.
        trail: failures after the last success.
        longest: failures in a row anywhere; with `lead` and `trail` the shared count of consecutive failures
            is the same however results are cut into batches.
        serial: rises with every batch of an instance, so that one sent twice counts once; 0 for none.
    """

    ok: int = 0
    failed: int = 0
    slow: int = 0
    lead: int = 0
    trail: int = 0
    longest: int = 0
    serial: int = 0


NOTHING = Batch()


class Tally:
    """Counts what ends at one instance, result by result."""

    __slots__ = ("failed", "lead", "longest", "ok", "slow", "trail")

    def __init__(self) -> None:
        """Start with nothing counted."""
        self.ok = self.failed = self.slow = self.lead = self.trail = self.longest = 0

    def add(self, success: bool, slow: bool) -> None:
        """Count one result."""
        if slow:
            self.slow += 1
        if success:
            if not self.ok:
                self.lead = self.failed
            self.ok += 1
            self.trail = 0
            return
        self.failed += 1
        self.trail += 1
        self.longest = max(self.longest, self.trail)

    def batch(self, serial: int) -> Batch:
        """Return what was counted; NOTHING if that is nothing."""
        if not self.ok + self.failed:
            return NOTHING
        lead = self.lead if self.ok else self.failed
        return Batch(self.ok, self.failed, self.slow, lead, self.trail, self.longest, serial)

    def clear(self) -> None:
        """Begin anew."""
        self.ok = self.failed = self.slow = self.lead = self.trail = self.longest = 0


class Ring:
    """Batches summed over a sliding window, and the failures in a row up to now."""

    __slots__ = ("_counts", "_head", "_slot_ms", "run")

    def __init__(self, run: int = 0) -> None:
        """Start empty but for `run` failures in a row."""
        self.run = run
        self._head = self._slot_ms = 0
        self._counts = [0] * (3 * SLOTS)  # ok, failed, slow of the newest slot first

    def add(self, batch: Batch, slot_ms: int, at_ms: int) -> int:
        """Count a batch; return the longest run of failures that ends in it."""
        index = at_ms // slot_ms
        if slot_ms != self._slot_ms:
            # Another width by new options: old slots cannot be told apart in new ones.
            self._counts, self._slot_ms, self._head = [0] * (3 * SLOTS), slot_ms, index
        steps = min(SLOTS, index - self._head)
        if steps > 0:
            self._counts = [0] * (3 * steps) + self._counts[: 3 * (SLOTS - steps)]
            self._head = index
        for at, more in enumerate((batch.ok, batch.failed, batch.slow)):
            self._counts[at] = min(MAX_COUNT, self._counts[at] + more)
        before = self.run
        self.run = min(MAX_COUNT, batch.trail if batch.ok else before + batch.failed)
        return max(before + batch.lead, batch.longest, self.run)

    def sums(self, at_ms: int) -> tuple[int, int, int]:
        """Return ok, failed and slow of the window that ends now."""
        gone = max(0, at_ms // self._slot_ms - self._head) if self._slot_ms else SLOTS
        kept = self._counts[: 3 * max(0, SLOTS - gone)]
        return sum(kept[0::3]), sum(kept[1::3]), sum(kept[2::3])

    def clear(self) -> None:
        """Forget everything."""
        self.run = 0
        self._counts = [0] * (3 * SLOTS)
