"""The deadline wheel with a clock and a loop of the test's own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from support.fakes import FakeClock

from sentinel_ext.server.deadlines import MS, SECOND, TICK_NS, Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable


class Loop:
    """Keeps timers until the clock passes them."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.timers: list[tuple[int, Callable[[], Any], asyncio.TimerHandle]] = []
        self.armed = 0

    def call_later(self, delay_s: float, callback: Callable[[], Any]) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(0, callback, (), self)  # type: ignore[arg-type]
        self.timers.append((self.clock.now_ns + int(delay_s * SECOND), callback, handle))
        self.armed += 1
        return handle

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        pass

    def run_until(self, end_ns: int) -> None:
        while due := [timer for timer in self.timers if timer[0] <= end_ns and not timer[2].cancelled()]:
            timer = min(due, key=lambda it: it[0])
            self.timers.remove(timer)
            self.clock.now_ns = max(self.clock.now_ns, timer[0])
            timer[1]()
        self.clock.now_ns = end_ns

    @property
    def waiting(self) -> int:
        return sum(not handle.cancelled() for _, _, handle in self.timers)


class Entry:
    def __init__(self, deadline_ns: int, clock: FakeClock) -> None:
        self.deadline_ns = deadline_ns
        self._clock = clock
        self.expired_ns: list[int] = []

    def expire(self) -> None:
        self.expired_ns.append(self._clock.now_ns)


def wheel() -> tuple[FakeClock, Loop, Deadlines]:
    clock = FakeClock()
    loop = Loop(clock)
    return clock, loop, Deadlines(loop, clock)  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 5 * SECOND), min_size=1, max_size=30), st.data())
def test_every_entry_expires_once_in_time_unless_discarded(delays: list[int], data: st.DataObject) -> None:
    clock, loop, deadlines = wheel()
    entries = [Entry(clock.now_ns + delay, clock) for delay in delays]
    slots = [deadlines.add(entry) for entry in entries]
    gone = data.draw(st.sets(st.integers(0, len(entries) - 1)))
    for index in gone:
        deadlines.discard(entries[index], slots[index])
    loop.run_until(clock.now_ns + 6 * SECOND)

    for index, entry in enumerate(entries):
        if index in gone:
            assert [] == entry.expired_ns
        else:
            (expired_ns,) = entry.expired_ns
            assert 0 <= expired_ns - entry.deadline_ns < TICK_NS + 2 * MS
    assert 0 == loop.waiting
    assert 0 == len(deadlines)


def test_no_timer_without_entries_and_one_for_many() -> None:
    clock, loop, deadlines = wheel()
    assert 0 == loop.armed

    for number in range(1000):
        deadlines.add(Entry(clock.now_ns + 500 * MS + number, clock))

    assert 1 == loop.waiting
    assert loop.armed < 3


def test_an_earlier_deadline_moves_the_timer() -> None:
    clock, loop, deadlines = wheel()
    late, early = Entry(clock.now_ns + 900 * MS, clock), Entry(clock.now_ns + 100 * MS, clock)
    deadlines.add(late)
    deadlines.add(early)
    loop.run_until(clock.now_ns + 200 * MS)

    assert 1 == len(early.expired_ns)
    assert [] == late.expired_ns


def test_many_distant_deadlines_make_a_slot_per_second_not_per_call() -> None:
    """A client may send a different timeout each time and hang up at once: nothing may pile up."""
    clock, loop, deadlines = wheel()
    for number in range(10_000):
        entry = Entry(clock.now_ns + 10 * SECOND + number * MS, clock)
        deadlines.discard(entry, deadlines.add(entry))

    assert 0 == len(deadlines)
    assert len(deadlines._slots) <= 12
    assert len(deadlines._times) == len(deadlines._slots)
    assert 1 == loop.waiting


def test_a_loop_that_fires_early_is_no_deadline() -> None:
    """The clock of uvloop stands still within a turn, so a timer may come a millisecond before its time."""
    clock, loop, deadlines = wheel()
    entry = Entry(clock.now_ns + 20 * MS, clock)
    deadlines.add(entry)
    loop.timers[0][1]()

    assert [] == entry.expired_ns
    loop.run_until(clock.now_ns + 30 * MS)
    assert 1 == len(entry.expired_ns)


def test_a_closed_wheel_never_turns_again() -> None:
    clock, loop, deadlines = wheel()
    entry = Entry(clock.now_ns + MS, clock)
    deadlines.add(entry)
    deadlines.close()
    loop.run_until(clock.now_ns + SECOND)

    assert [] == entry.expired_ns
