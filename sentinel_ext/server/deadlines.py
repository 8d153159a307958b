"""Deadlines of pending calls on one timer: a coarse wheel instead of a timer per call.

`call_later` and its cancel cost 0.49 µs a call; a dict insert and delete cost 0.1. Only calls that did not
finish at once are put here, and the loop's timer is armed for the earliest of them alone.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000

# Calls expire at most this much late. Clients measure the same time and mostly hang up first.
TICK_NS: Final = 5 * MS
# Further ahead than this, one slot holds a whole second and is sorted again when it comes near: so a client
# that sends many different timeouts makes one slot per second of the longest, not one per call.
NEAR_NS: Final = SECOND


class Expiring(Protocol):
    """What can be put on the wheel; hashed by identity."""

    @property
    def deadline_ns(self) -> int:
        """Monotonic nanoseconds; constant."""
        ...

    def expire(self) -> None:
        """The deadline passed. Must not raise."""
        ...


class Deadlines:
    """Calls by the time at which to look at them. Belongs to one event loop."""

    __slots__ = ("_loop", "_now_ns", "_slots", "_timer", "_timer_ns", "_times")

    def __init__(self, loop: asyncio.AbstractEventLoop, now_ns: Callable[[], int]) -> None:
        """Use `loop` for the one timer and `now_ns`, a monotonic clock, to say what is due."""
        self._loop = loop
        self._now_ns = now_ns
        self._slots: dict[int, dict[Expiring, None]] = {}
        self._times: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0

    def add(self, call: Expiring) -> int:
        """Call `call.expire()` once its deadline passed. Returns the slot, for `discard`."""
        return self._put(call, self._now_ns())

    def discard(self, call: Expiring, slot: int) -> None:
        """Forget a call that finished; nothing happens if it is no longer there.

        A call that waited for more than NEAR_NS may sit in another slot by now; then it stays until that
        slot's second passes, and expires without effect.
        """
        calls = self._slots.get(slot)
        if calls is not None:
            calls.pop(call, None)

    def close(self) -> None:
        """Stop the timer; what is left never expires."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._slots.clear()
        self._times.clear()

    def __len__(self) -> int:
        return sum(len(calls) for calls in self._slots.values())

    def _put(self, call: Expiring, now_ns: int) -> int:
        deadline_ns = call.deadline_ns
        if deadline_ns - now_ns > NEAR_NS:
            slot = deadline_ns - deadline_ns % SECOND
        else:
            slot = deadline_ns + -deadline_ns % TICK_NS
        calls = self._slots.get(slot)
        if calls is None:
            # An emptied slot stays until its time: its number is in the heap once, never twice.
            calls = self._slots[slot] = {}
            heappush(self._times, slot)
            if self._times[0] == slot:
                self._arm(now_ns)
        calls[call] = None
        return slot

    def _arm(self, now_ns: int) -> None:
        if self._timer is not None:
            if self._timer_ns == self._times[0]:
                return
            self._timer.cancel()
        self._timer_ns = self._times[0]
        # Loops may fire a millisecond early; one tick is not worth spinning for.
        delay_ns = max(self._timer_ns - now_ns, MS)
        self._timer = self._loop.call_later(delay_ns / SECOND, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now_ns = self._now_ns()
        while self._times and self._times[0] <= now_ns:
            for call in self._slots.pop(heappop(self._times)):
                if call.deadline_ns <= now_ns:
                    call.expire()
                else:
                    self._put(call, now_ns)
        if self._times:
            self._arm(now_ns)
