"""A token bucket in integers: `burst` tokens at most, `refill_nano` billionths of a token per second.

The level is kept in atto-tokens, because nanoseconds times nano-tokens per second is exactly that: no
rounding, so no drift however long it runs. Admits at most `burst + rate * t` in any span t (arrival curve).
"""

from __future__ import annotations

ATTO = 10**18
NANO = 10**9
NS_PER_MS = 1_000_000


class TokenBucket:
    """One tenant's bucket on this instance. Starts full. Not safe for threads: one event loop owns it."""

    __slots__ = ("_full", "_last_ns", "_level", "_refill_nano")

    def __init__(self, burst: int, refill_nano: int, now_ns: int) -> None:
        """Start full.

        Args:
            burst: size in tokens; 0 refuses everything.
            refill_nano: billionths of a token per second; 0 never refills.
            now_ns: monotonic time, nanoseconds.
        """
        self._full = burst * ATTO
        self._refill_nano = refill_nano
        self._level = self._full
        self._last_ns = now_ns

    def try_acquire(self, hits: int, now_ns: int) -> bool:
        """Take `hits` tokens if they are there."""
        elapsed = now_ns - self._last_ns
        if elapsed:
            # A clock that went back gives nothing and takes nothing; refill goes on from there.
            self._last_ns = now_ns
            if elapsed > 0:
                level = self._level + elapsed * self._refill_nano
                self._level = level if level < self._full else self._full
        need = hits * ATTO
        if need > self._level:
            return False
        self._level -= need
        return True

    def resize(self, burst: int, refill_nano: int, now_ns: int) -> None:
        """Go on with other numbers: what was refilled so far stays, as far as it fits."""
        self.try_acquire(0, now_ns)
        self._full = burst * ATTO
        self._refill_nano = refill_nano
        self._level = min(self._level, self._full)

    def refund(self, hits: int) -> None:
        """Give back `hits` tokens that a refused or cancelled request took; never above `burst`."""
        level = self._level + hits * ATTO
        self._level = level if level < self._full else self._full

    def look(self, hits: int, now_ns: int) -> tuple[int, int | None]:
        """Return (whole tokens, milliseconds until `hits` are there; None if never). Changes nothing."""
        seen = self.copy()
        seen.try_acquire(0, now_ns)
        return seen.tokens, seen.wait_ms(hits)

    def copy(self) -> TokenBucket:
        """Return another bucket with the same level."""
        made = TokenBucket(0, self._refill_nano, self._last_ns)
        made._full, made._level = self._full, self._level
        return made

    @property
    def tokens(self) -> int:
        """Whole tokens as of the last call with a time."""
        return self._level // ATTO

    def wait_ms(self, hits: int) -> int | None:
        """Milliseconds from the last call until `hits` tokens are there, rounded up; None if never."""
        missing = hits * ATTO - self._level
        if missing <= 0:
            return 0
        if hits * ATTO > self._full or self._refill_nano == 0:
            return None
        return -(-missing // (self._refill_nano * NS_PER_MS))
