"""What an instance has to tell the shared breaker, kept until told: counts, and what became of permits."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from sentinel_ext.core.breaker import BreakerOptions, share_tripped
from sentinel_ext.core.tally import NOTHING, Batch, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable

# Results that wait for a report. One that is dropped counts as a lost probe: the breaker errs towards open.
MAX_RESULTS: Final = 1_024


class PermitResult(msgspec.Struct, frozen=True, gc=False):
    """What became of a permit: the probe's success, or None when its request never left."""

    epoch: int
    permit: str
    ok: bool | None


class Outbox:
    """Counts and results until they are delivered. One batch is under way at a time.

    Attributes:
        lost_results: dropped because too many were waiting.
    """

    __slots__ = ("_results", "_returned", "_serial", "_tally", "lost_results")

    def __init__(self, now_ns: int) -> None:
        """Start empty. Serials go by time: those made later in this process are higher."""
        self.lost_results = 0
        self._tally = Tally()
        self._returned: Batch | None = None
        self._serial = now_ns // 1_000
        self._results: deque[PermitResult] = deque()

    @property
    def counted(self) -> int:
        """Results that wait to be reported in batches."""
        returned = self._returned or NOTHING
        return self._tally.ok + self._tally.failed + returned.ok + returned.failed

    def count(self, success: bool, slow: bool) -> None:
        """Count how a request ended."""
        self._tally.add(success, slow)

    def would_trip(self, options: BreakerOptions) -> bool:
        """Say whether what waits would open a breaker that knew nothing else."""
        tally = self._tally
        if tally.longest >= options.consecutive_failures:
            return True
        return share_tripped(options, tally.ok, tally.failed, tally.slow) is not None

    def take_batch(self) -> Batch:
        """Return what to report; the same as before if that came back."""
        if self._returned is not None:
            batch, self._returned = self._returned, None
            return batch
        self._serial += 1
        batch = self._tally.batch(self._serial)
        self._tally.clear()
        return batch

    def put_back(self, batch: Batch) -> None:
        """Keep a batch as it is, its serial too: had it arrived after all, it will not count again."""
        if batch.serial:
            self._returned = batch

    def drain(self) -> tuple[Batch, Batch]:
        """Return all counts, those that came back first, and keep none."""
        batches = self._returned or NOTHING, self._tally.batch(0)
        self._returned = None
        self._tally.clear()
        return batches

    @property
    def has_results(self) -> bool:
        """Whether results of permits wait."""
        return bool(self._results)

    def queue(self, results: Iterable[PermitResult]) -> None:
        """Keep results for the next report."""
        for result in results:
            if len(self._results) < MAX_RESULTS:
                self._results.append(result)
            else:
                self.lost_results += 1

    def take_results(self, most: int) -> list[PermitResult]:
        """Return at most so many results, the oldest first."""
        return [self._results.popleft() for _ in range(min(most, len(self._results)))]
