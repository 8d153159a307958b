"""What passed through one instance to one upstream lately: counters of a few reporting periods, and rates."""

from __future__ import annotations

# Reports cover this many periods, so they overlap: a noisy period is smoothed, a new load is seen at once.
PERIODS = 4
# An end that another instance hears waits for its report and for ours: so long on average, so long at worst;
# and the reports that the law sees are another period behind.
TOLD_LATE_S, TOLD_LATEST_S = 0.2, 0.4
RELAY_PERIODS = 2
_NS_PER_S = 1_000_000_000


class Period:
    """Counters of one period; the request path adds to them.

    Attributes:
        admitted: requests that went out.
        relayed: ends of other instances' requests heard here.
        told: ends of own requests heard elsewhere.
    """

    __slots__ = (
        "admitted", "failed", "latency_us", "ok", "relayed", "slow", "started_ns", "timed", "told",
    )  # fmt: skip

    def __init__(self, now_ns: int) -> None:
        """Begin."""
        self.started_ns = now_ns
        self.admitted = self.ok = self.failed = self.slow = self.timed = self.latency_us = 0
        self.relayed = self.told = 0

    @property
    def is_empty(self) -> bool:
        """Nothing passed and nothing ended."""
        return not (self.admitted or self.ok or self.failed or self.relayed or self.told)


class Traffic:
    """The current period and those before it.

    Attributes:
        now: the period that is being counted.
        is_direct: a proxy logs to this instance; else it learns of ends from others.
    """

    __slots__ = ("_before", "is_direct", "now")

    def __init__(self, now_ns: int) -> None:
        """Begin the first period."""
        self.now = Period(now_ns)
        self._before: list[Period] = []
        self.is_direct = True

    def close(self, now_ns: int) -> tuple[list[Period], float]:
        """End the period; return the last ones and what they cover, milliseconds.

        Empty ones at their beginning are left out: traffic that has just begun would look like a tenth of it.
        """
        self._before = [*self._before, self.now][-PERIODS:]
        while len(self._before) > 1 and self._before[0].is_empty:
            del self._before[0]
        self.now = Period(now_ns)
        return self._before, max(1.0, (now_ns - self._before[0].started_ns) / 1_000_000)

    def admitted_before(self) -> float:
        """Requests per second that passed in the periods that are over."""
        if not self._before:
            return 0.0
        span_s = (self.now.started_ns - self._before[0].started_ns) / _NS_PER_S
        return sum(p.admitted for p in self._before) / span_s if span_s > 0 else 0.0

    def completed(self, now_ns: int) -> float:
        """Requests of this instance that ended, per second, up to now."""
        periods, span_s = self._recent(now_ns)
        # Others' requests whose client left are relayed, too, and are no completion: never below nothing.
        return max(0, sum(p.ok + p.failed - p.relayed + p.told for p in periods)) / span_s

    def admitted(self, now_ns: int) -> float:
        """Requests per second that passed, up to now."""
        periods, span_s = self._recent(now_ns)
        return sum(p.admitted for p in periods) / span_s

    def untold(self, now_ns: int) -> float:
        """Requests that have ended, but another instance heard it and has not told yet."""
        periods, span_s = self._recent(now_ns)
        return sum(p.told for p in periods) / span_s * TOLD_LATE_S

    def _recent(self, now_ns: int) -> tuple[list[Period], float]:
        periods = [*self._before[-PERIODS + 1 :], self.now]
        return periods, max(0.001, (now_ns - periods[0].started_ns) / _NS_PER_S)
