"""Whether the access log is heard, and how far behind it is. One instance's ears."""

from __future__ import annotations

from collections import OrderedDict

_NS_PER_MS = 1_000_000
# Envoy opens a stream for each worker thread; the one heard least recently is forgotten first.
MAX_STREAMS = 1_024
# A message of fewer entries was sent for lack of traffic, and its distance says nothing of the flush.
MIN_ENTRIES = 5
# What a cadence is believed to be at most, and how fast it follows.
MAX_FLUSH_MS = 1_000.0
MIN_FLUSH_MS = 10.0
_WEIGHT = 0.1
# Refusals that should have come back in the log before its silence counts although a stream is open.
MIN_DENIALS = 10


class Hearing:
    """Belongs to one event loop.

    Attributes:
        streams: open access log streams; None while nobody says.
        flush_ms: distance of log messages, of the slowest stream that is busy.
        denials: answers since the log was heard last that must show up in it.
    """

    __slots__ = ("_cadence", "_heard_ns", "denials", "flush_ms", "streams")

    def __init__(self, flush_ms: float) -> None:
        """Expect messages every `flush_ms`."""
        self.streams: int | None = None
        self.flush_ms = flush_ms
        self.denials = 0
        self._heard_ns: int | None = None
        # stream -> (last heard, cadence in ms)
        self._cadence: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def heard(self, stream: str, entries: int, now_ns: int) -> None:
        """Note a message of `entries` entries."""
        self._heard_ns = now_ns
        self.denials = 0
        before = self._cadence.pop(stream, None)
        cadence = self.flush_ms if before is None else before[1]
        if before is not None and entries >= MIN_ENTRIES:
            gap_ms = min(MAX_FLUSH_MS, max(MIN_FLUSH_MS, (now_ns - before[0]) / _NS_PER_MS))
            cadence += _WEIGHT * (gap_ms - cadence)
        self._cadence[stream] = (now_ns, cadence)
        if len(self._cadence) > MAX_STREAMS:
            self._cadence.popitem(last=False)

    def tick(self, now_ns: int) -> None:
        """Look at the streams that were heard in the last two seconds."""
        recent_ns = now_ns - 2_000_000_000
        busy = [cadence for heard_ns, cadence in self._cadence.values() if heard_ns >= recent_ns]
        if busy:
            self.flush_ms = max(busy)

    def silent_ns(self, now_ns: int) -> int | None:
        """Return for how long the log has been silent though it should not; None when it was never heard.

        With a stream open and nothing refused, silence can also mean that no request ends: an upstream that
        hangs. That is no reason to stop counting what is in flight.
        """
        if self._heard_ns is None:
            return None
        if self.streams and self.denials < MIN_DENIALS:
            return 0
        return now_ns - self._heard_ns
