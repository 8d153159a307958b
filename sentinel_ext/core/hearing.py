"""Whether the access log is heard, and how far behind it is. One instance's ears."""

from __future__ import annotations

from collections import OrderedDict

_NS_PER_MS = 1_000_000
# An instance that no proxy has logged to for so long learns of ends from others.
_SETTLED_NS = 500_000_000
_BUSY_NS = 2_000_000_000
_DIRECT_NS = 10_000_000_000
# Envoy opens a stream for each worker thread; the one heard least recently is forgotten first.
MAX_STREAMS = 1_024
# A message of fewer entries was sent for lack of traffic, and its distance says nothing of the flush.
MIN_ENTRIES = 5
# What a cadence is believed to be at most, and how fast it follows.
MAX_FLUSH_MS = 1_000.0
MIN_FLUSH_MS = 10.0
_WEIGHT = 0.1
# So long without a message is silence; for an instance that no proxy logs to, so long without a word from
# others.
SILENT_FLUSHES, SILENT_MS = 5, 1_000.0
UNTOLD_MS = 450.0
OVERDUE_FLUSHES, HELD_UP_FLUSHES = 1.2, 2.5
# Refusals that should have come back in the log before its silence counts although a stream is open.
MIN_DENIALS = 10


class Hearing:
    """Belongs to one event loop.

    Attributes:
        streams: open access log streams; None while nobody says.
        flush_ms: distance of log messages, of the slowest stream that is busy.
        denials: answers since the log was heard last that must show up in it.
    """

    __slots__ = ("_cadence", "_direct_ns", "_heard_ns", "_since_ns", "denials", "flush_ms", "streams")

    def __init__(self, flush_ms: float) -> None:
        """Expect messages every `flush_ms`."""
        self.streams: int | None = None
        self.flush_ms = flush_ms
        self.denials = 0
        self._heard_ns: int | None = None
        self._direct_ns: int | None = None
        self._since_ns = 0
        # stream -> (last heard, cadence in ms)
        self._cadence: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def heard(self, stream: str, entries: int, now_ns: int) -> None:
        """Note a message of `entries` entries."""
        if self._direct_ns is None or now_ns - self._direct_ns >= _DIRECT_NS:
            self._since_ns = now_ns
        self._heard_ns = self._direct_ns = now_ns
        self.denials = 0
        before = self._cadence.pop(stream, None)
        cadence = self.flush_ms if before is None else before[1]
        if before is not None and entries >= MIN_ENTRIES:
            gap_ms = min(MAX_FLUSH_MS, max(MIN_FLUSH_MS, (now_ns - before[0]) / _NS_PER_MS))
            cadence += _WEIGHT * (gap_ms - cadence)
        self._cadence[stream] = (now_ns, cadence)
        if len(self._cadence) > MAX_STREAMS:
            self._cadence.popitem(last=False)

    def told(self, now_ns: int) -> None:
        """Note that another instance passed ends on: its ears are ours, too."""
        self._heard_ns = now_ns
        self.denials = 0

    def tick(self, now_ns: int) -> None:
        """Look at the streams that were heard in the last two seconds."""
        recent_ns = now_ns - _BUSY_NS
        busy = [cadence for heard_ns, cadence in self._cadence.values() if heard_ns >= recent_ns]
        if busy:
            self.flush_ms = max(busy)

    def lag_ms(self, now_ns: int) -> float:
        """How much of what has ended is not known yet, on average over the busy streams.

        Half of the flush, as a rule; since the last message when that is overdue: a proxy or this instance is
        held up then. With a stream open, more than a few flushes is no delay: nothing ends, and the guard has
        to act.
        """
        most_ms = HELD_UP_FLUSHES * self.flush_ms if self.streams else MAX_FLUSH_MS
        recent_ns = now_ns - _BUSY_NS
        ages = [now_ns - heard_ns for heard_ns, _ in self._cadence.values() if heard_ns >= recent_ns]
        lag_ms = sum(ages) / len(ages) / _NS_PER_MS if ages else 0.0
        return min(most_ms, lag_ms) if lag_ms > OVERDUE_FLUSHES * self.flush_ms else self.flush_ms / 2

    def is_direct(self, now_ns: int) -> bool:
        """Say whether a proxy logs to this instance; if not, it learns of ends from the others, later.

        Not at once when one begins to: what others heard before is still on its way.
        """
        if self._direct_ns is None or now_ns - self._direct_ns >= _DIRECT_NS:
            return False
        return now_ns - self._since_ns >= _SETTLED_NS

    @property
    def was_ever(self) -> bool:
        """Whether the log was heard at all; without it nothing is known of ends."""
        return self._heard_ns is not None

    def is_silent(self, now_ns: int) -> bool:
        """Say whether the log should be heard and is not.

        With a stream open and nothing refused, silence can also mean that no request ends: an upstream that
        hangs. That is no reason to stop counting what is in flight.
        """
        if self._heard_ns is None or (self.streams and self.denials < MIN_DENIALS):
            return False
        limit_ms = UNTOLD_MS if self.streams == 0 else max(SILENT_FLUSHES * self.flush_ms, SILENT_MS)
        return now_ns - self._heard_ns > limit_ms * _NS_PER_MS

    def is_fresh(self, now_ns: int) -> bool:
        """Say whether what is in flight can be judged: silence of a moment would look like a queue."""
        if self._heard_ns is None:
            return False
        if self.streams:
            return True
        limit_ms = 2 * self.flush_ms + 150 if self.streams is None else UNTOLD_MS
        return now_ns - self._heard_ns <= limit_ms * _NS_PER_MS
