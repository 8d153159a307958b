"""The counters of rate limits, and what a request does to them: the same arithmetic as store/lua/limits.lua.

Used where one instance counts alone (`memory://`). The property tests hold both to the same answers.
"""

from __future__ import annotations

import copy
from math import ceil
from typing import TYPE_CHECKING, TypeAlias

from sentinel_ext.core.ratelimit.asks import (
    BINDING,
    COUNT_DENIED,
    FIXED,
    LOOK,
    QUOTA,
    SLIDING,
    CounterAnswer,
    CounterAsk,
    GiveBack,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

# Above it a double would forget single hits; the script keeps doubles.
MAX_COUNT = 2**53
_RING = 11


class FixedWindow:
    """Counts hits of the window that the clock is in."""

    __slots__ = ("_kept", "head", "index", "used", "window")

    def __init__(self, window_us: int) -> None:
        """Start empty."""
        self.window = window_us
        self.head = self.index = 0
        self.used = 0
        # Window and count as last written; a look changes nothing, whatever the clock says.
        self._kept = (0, 0)

    def advance(self, now_us: int) -> None:
        """Begin a new window when it is time. A clock set back by less than one goes on in the newest."""
        self.index = now_us // self.window
        head, used = self._kept
        is_current = head in {self.index, self.index + 1}
        self.head, self.used = (head, used) if is_current else (self.index, 0)

    def is_over(self, ask: CounterAsk, _now_us: int) -> bool:
        """Say whether the hits do not fit."""
        if ask.hits <= 0:
            return ask.hits == 0 and self.used > ask.limit
        return self.used + ask.hits > ask.limit

    def add(self, _ask: CounterAsk, hits: int, _now_us: int) -> None:
        """Count hits, or give them back."""
        self.used = max(0, min(MAX_COUNT, self.used + hits))
        self._kept = (self.head, self.used)

    def fresh_us(self, now_us: int) -> int:
        """Return for how long hits counted now may be spent; 0 while the clock is behind."""
        return (self.head + 1) * self.window - now_us if self.head == self.index else 0

    def waits(self, _ask: CounterAsk, now_us: int, *, over: bool) -> tuple[int, int, int]:
        """Return (used, reset_us, retry_us)."""
        reset_us = (self.head + 1) * self.window - now_us
        return self.used, reset_us, reset_us if over else 0

    def give_back(self, back: GiveBack, now_us: int) -> None:
        """Return hits if their window is the one that was last counted in."""
        head, used = self._kept
        if head == back.slot:
            self._kept = (head, max(0, used - back.hits))
            self.advance(now_us)


class SlidingWindow:
    """A ring of sub-windows, the oldest counted whole (core/window.py says why); counts may be large."""

    __slots__ = ("_kept", "counts", "head", "index", "sub", "used")

    def __init__(self, window_us: int) -> None:
        """Start empty."""
        self.sub = window_us // 10
        self.head = self.index = 0
        self.counts = [0] * _RING
        self.used = 0
        # Newest sub-window and counts as last written.
        self._kept: tuple[int, list[int]] = (0, [])

    def advance(self, now_us: int) -> None:
        """Let go what left the window."""
        self.index = now_us // self.sub
        head, counts = self._kept
        steps = self.index - head
        if steps > 0:
            kept = counts[: max(0, _RING - steps)]
            self.head, self.counts = self.index, [0] * (_RING - len(kept)) + kept
        elif steps < -_RING:
            self.head, self.counts = self.index, [0] * _RING
        else:
            self.head, self.counts = head, list(counts)
        self.used = sum(self.counts)

    def is_over(self, ask: CounterAsk, _now_us: int) -> bool:
        """Say whether the hits do not fit."""
        if ask.hits <= 0:
            return ask.hits == 0 and self.used > ask.limit
        return self.used + ask.hits > ask.limit

    def add(self, _ask: CounterAsk, hits: int, _now_us: int) -> None:
        """Count hits in the newest sub-window, or give them back from the oldest on."""
        self._kept = (self.head, self.counts)
        if hits >= 0:
            self.counts[0] = min(MAX_COUNT, self.counts[0] + hits)
            self.used = min(MAX_COUNT, self.used + hits)
            return
        back = min(-hits, self.used)
        self.used -= back
        for at in range(_RING - 1, -1, -1):
            part = min(back, self.counts[at])
            self.counts[at] -= part
            back -= part

    def fresh_us(self, now_us: int) -> int:
        """Return for how long hits counted now may be spent: in their own sub-window."""
        return (self.head + 1) * self.sub - now_us if self.head == self.index else 0

    def waits(self, ask: CounterAsk, now_us: int, *, over: bool) -> tuple[int, int, int]:
        """Return (used, reset_us, retry_us)."""
        reset_us = retry_us = 0
        free = ask.limit - self.used
        for at in range(_RING - 1, -1, -1):
            if self.counts[at]:
                leaves = (self.head - at + _RING) * self.sub - now_us
                reset_us = reset_us or leaves
                if not over or free >= ask.hits:
                    break
                free += self.counts[at]
                retry_us = leaves
        if over and free < ask.hits:
            retry_us = self.sub * _RING
        return self.used, reset_us, retry_us

    def give_back(self, back: GiveBack, now_us: int) -> None:
        """Return hits to the sub-window that counted them."""
        head, counts = self._kept
        at = head - back.slot
        if counts and 0 <= at < _RING:
            counts[at] = max(0, counts[at] - back.hits)
            self.advance(now_us)


class Gcra:
    """Generic cell rate algorithm (ITU-T I.371): when the last counted hit would arrive at an even rate.

    Kept is how far that is ahead of the clock: a date of today in microseconds would leave a float only
    quarters of one, a quarter of a hit at a million hits a second.
    """

    __slots__ = ("_kept", "ahead", "head", "window")

    def __init__(self, window_us: int) -> None:
        """Start with nothing in use."""
        self.window = window_us
        self.head = 0
        self.ahead = 0.0
        # When something was counted last, and how far it was ahead then; microseconds.
        self._kept = (0, 0.0)

    def advance(self, now_us: int) -> None:
        """Nothing is in use before now. A clock set back by more than a window begins anew."""
        then_us, ahead = self._kept
        self.ahead = max(0.0, ahead - (now_us - then_us)) if then_us - now_us <= self.window else 0.0

    def is_over(self, ask: CounterAsk, _now_us: int) -> bool:
        """Say whether the hits do not fit the burst."""
        if ask.hits < 0:
            return False
        if ask.limit == 0:
            return ask.hits > 0
        # A millionth of a hit for the rounding of floats.
        return self.ahead * ask.limit / self.window + ask.hits > _burst(ask) + 0.000001

    def add(self, ask: CounterAsk, hits: int, now_us: int) -> None:
        """Use the burst, or give it back."""
        self.ahead = max(0.0, self.ahead + hits * self.window / ask.limit)
        self._kept = (now_us, self.ahead)

    def fresh_us(self, _now_us: int) -> int:
        """Hits spent later than counted would come on top of a burst: none may be taken ahead."""
        return 0

    def waits(self, ask: CounterAsk, _now_us: int, *, over: bool) -> tuple[int, int, int]:
        """Return (used, reset_us, retry_us)."""
        each = self.window / ask.limit if ask.limit else float(self.window)
        retry_us = 0.0
        if over:
            beyond = ask.hits - _burst(ask)
            retry_us = self.window if beyond > 0 else self.ahead + beyond * each
        return ceil(self.ahead / each - 0.000001), ceil(self.ahead), ceil(max(0.0, retry_us))

    def give_back(self, back: GiveBack, now_us: int) -> None:
        """Return hits, not below nothing in use."""
        if self.ahead > 0 and back.limit:
            self.ahead = max(0.0, self.ahead - back.hits * self.window / back.limit)
            self._kept = (now_us, self.ahead)


Counter: TypeAlias = FixedWindow | SlidingWindow | Gcra


def make_counter(ask: CounterAsk) -> Counter:
    """Make the counter that `ask` is about."""
    if ask.kind == FIXED:
        return FixedWindow(ask.window_us)
    return SlidingWindow(ask.window_us) if ask.kind == SLIDING else Gcra(ask.window_us)


def decide(asks: Sequence[CounterAsk], counters: Sequence[Counter], now_us: int) -> tuple[CounterAnswer, ...]:
    """Check and count one request on its counters, which have been advanced to `now_us`."""
    if asks and asks[0].flags & LOOK:
        same: dict[int, Counter] = {}  # a counter that stands twice is copied once
        counters = [same.setdefault(id(counter), copy.deepcopy(counter)) for counter in counters]
    refused, quotas = False, []
    for ask, counter in zip(asks, counters, strict=True):
        over = counter.is_over(ask, now_us)
        role = ask.flags & ~(COUNT_DENIED | LOOK)
        if role == BINDING:
            refused = refused or over
        elif role == QUOTA:
            quotas.append(over)
    refused = refused or (bool(quotas) and all(quotas))
    pairs = zip(asks, counters, strict=True)
    return tuple([_count(ask, counter, now_us, refused=refused) for ask, counter in pairs])


def _count(ask: CounterAsk, counter: Counter, now_us: int, *, refused: bool) -> CounterAnswer:
    # Once more: an earlier counter of this request may have been the same one.
    over, counted = counter.is_over(ask, now_us), False
    wanted = ask.hits < 0 or (ask.hits > 0 and (ask.flags & COUNT_DENIED or not (refused or over)))
    if wanted and (ask.limit or not isinstance(counter, Gcra)):
        counter.add(ask, ask.hits, now_us)
        counted = True
    leased = fresh_us = 0
    if ask.lease and not over and (fresh := counter.fresh_us(now_us)):
        used = counter.waits(ask, now_us, over=False)[0]
        leased = max(0, min(ask.lease, (ask.limit - used) // ask.divisor))
        if leased:
            counter.add(ask, leased, now_us)
            fresh_us = fresh
    used, reset_us, retry_us = counter.waits(ask, now_us, over=over)
    return CounterAnswer(over, used, reset_us, retry_us, leased, fresh_us, counter.head, counted)


def _burst(ask: CounterAsk) -> int:
    return ask.burst or ask.limit
