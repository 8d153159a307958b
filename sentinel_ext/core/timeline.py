"""The last two minutes of running totals, second by second: what rates and small graphs are made of. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# What is counted, from the general to the special: ("decision", verdict, stage, reason, tier).
Key: TypeAlias = tuple[str, ...]

# Points of a graph, one for each second.
MAX_POINTS: Final = 120
# Totals kept whole, for what is counted over the last minute. Keys come from fixed sets of words, some 60 in
# all, and what does not change is shared: below 200 KB.
MAX_KEPT: Final = 61
_NS_PER_S: Final = 1_000_000_000


class Span(msgspec.Struct, frozen=True):
    """What was counted in `seconds`."""

    seconds: float = 0.0
    counts: dict[Key, int] = {}

    def count(self, *prefix: str) -> int:
        """Add up what begins with `prefix`."""
        length = len(prefix)
        return sum(count for key, count in self.counts.items() if key[:length] == prefix)

    def per_s(self, *prefix: str) -> float:
        """Return the rate of what begins with `prefix`."""
        return self.count(*prefix) / self.seconds if self.seconds else 0.0


class Timeline:
    """Belongs to one event loop; one call of `add` a second."""

    __slots__ = ("_kept", "_series", "_series_of")

    def __init__(self, names: Sequence[str], series_of: Callable[[Key], str]) -> None:
        """Draw a graph for each of `names`; `series_of` says which one a key belongs to, "" for none."""
        self._series = {name: deque[float](maxlen=MAX_POINTS) for name in names}
        self._series_of = series_of
        self._kept: deque[tuple[int, Mapping[Key, int]]] = deque(maxlen=MAX_KEPT)

    def add(self, totals: Mapping[Key, int], now_ns: int) -> None:
        """Take the totals of now; they never fall."""
        if self._kept:
            span = _between(self._kept[-1], (now_ns, totals))
            if not span.seconds:
                return
            sums = dict.fromkeys(self._series, 0)
            for key, count in span.counts.items():
                if name := self._series_of(key):
                    sums[name] += count
            for name, series in self._series.items():
                series.append(round(sums[name] / span.seconds, 1))
        self._kept.append((now_ns, totals))

    def last(self, seconds: int) -> Span:
        """Return what was counted in about the last `seconds`, at most MAX_KEPT - 1."""
        if len(self._kept) < 2:
            return Span()
        return _between(self._kept[max(0, len(self._kept) - 1 - seconds)], self._kept[-1])

    def series(self) -> dict[str, list[float]]:
        """Return the graphs: per second, oldest first."""
        return {name: list(points) for name, points in self._series.items()}


def _between(before: tuple[int, Mapping[Key, int]], after: tuple[int, Mapping[Key, int]]) -> Span:
    old, new = before[1], after[1]
    counts = {key: grown for key, count in new.items() if (grown := count - old.get(key, 0))}
    return Span((after[0] - before[0]) / _NS_PER_S, counts)
