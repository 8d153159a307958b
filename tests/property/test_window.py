"""The ring against an exact log of what it admitted."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_ext.core.window import SUBWINDOWS, Ring

SETTINGS = settings(max_examples=200, deadline=None, derandomize=True)
FEWER = settings(SETTINGS, max_examples=100)
RING = SUBWINDOWS + 1
SUB = 100
WINDOW = SUBWINDOWS * SUB
START = 1_790_000_000_000_000

limits = st.integers(0, 30)
costs = st.integers(1, 5)
counts = st.integers(1, 12)
# Within a sub-window, to its edges, over some, and beyond the window.
advances = st.one_of(
    st.integers(0, SUB),
    st.sampled_from([SUB - 1, SUB, SUB + 1, WINDOW - 1, WINDOW, WINDOW + 1, WINDOW + SUB]),
    st.integers(0, 15 * SUB),
)


@dataclass
class Acquire:
    advance: int
    hits: int
    count: int


@dataclass
class Refund:
    """Give back the request that was admitted `ago` requests before; of those still there."""

    ago: int


@dataclass
class Entry:
    at: int
    hits: int
    slot: int


@dataclass
class Logged:
    """A ring, and beside it every admitted request with its exact time."""

    limit: int
    now: int = START
    entries: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ring = Ring(SUB, self.now)

    def acquire(self, hits: int, count: int = 1) -> tuple[int, int, int, int, int]:
        reply = self.ring.acquire(self.limit, hits, count, self.now)
        self.entries += [Entry(self.now, hits, reply[4])] * reply[0]
        return reply

    def run(self, schedule: list[Acquire | Refund]) -> None:
        for step in schedule:
            if isinstance(step, Acquire):
                self.now += step.advance
                self.acquire(step.hits, step.count)
            elif self.entries:
                entry = self.entries.pop(-1 - step.ago % len(self.entries))
                self.ring.refund(entry.slot, entry.hits)

    def used(self) -> int:
        return self.ring.acquire(self.limit, 0, 1, self.now)[1]


acquires = st.builds(Acquire, advances, costs, counts)
schedules = st.lists(st.one_of(acquires, acquires, st.builds(Refund, st.integers(0, 20))), max_size=50)


@SETTINGS
@given(limits, schedules)
def test_no_window_ever_holds_more_than_the_limit(limit, schedule):
    """Every window that ends at an admission, both its ends included; refunded requests do not count."""
    log = Logged(limit)

    for step in schedule:
        log.run([step])
        in_window = [entry.hits for entry in log.entries if log.now - WINDOW <= entry.at]
        assert sum(in_window) <= limit


@SETTINGS
@given(st.lists(st.tuples(acquires, limits), max_size=40))
def test_a_limit_that_changes_holds_from_the_next_request_on(rows):
    """Pressure scales the limit: what is admitted under the new one fits the new one, old hits counted."""
    log = Logged(0)

    for step, limit in rows:
        log.limit, before = limit, len(log.entries)
        log.run([step])
        if len(log.entries) > before:
            assert sum(entry.hits for entry in log.entries if log.now - WINDOW <= entry.at) <= limit


@SETTINGS
@given(limits, schedules)
def test_counts_exactly_the_newest_eleven_subwindows(limit, schedule):
    """Not one hit more or less: so the only under-admission is the oldest sub-window counted whole."""
    log = Logged(limit)
    log.run(schedule)

    oldest = log.now // SUB - SUBWINDOWS
    counted = sum(entry.hits for entry in log.entries if entry.at // SUB >= oldest)

    assert counted == log.used()


@SETTINGS
@given(limits, schedules, costs)
def test_refuses_only_what_would_not_fit_eleven_subwindows(limit, schedule, hits):
    log = Logged(limit)
    log.run(schedule)
    used = log.used()

    granted = log.acquire(hits, 100)[0]

    assert max(0, limit - used) // hits == granted


@FEWER
@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, SUB - 1))
def test_a_steady_sender_gets_ten_elevenths_of_its_limit(limit, sent, offset):
    """`sent` requests in each sub-window: any eleven of them in a row admit min(limit, 11 * sent).

    So a sender who asks for more than the limit gets exactly the limit per eleven sub-windows, which is
    limit * 10/11 per window, and one who asks for less than that gets everything.
    """
    log = Logged(limit, START + offset)
    admitted = []
    for _ in range(5 * RING):
        admitted.append(log.acquire(1, sent)[0])
        log.now += SUB

    spans = [sum(admitted[i : i + RING]) for i in range(len(admitted) - SUBWINDOWS)]

    assert {min(limit, RING * sent)} == set(spans)


@SETTINGS
@given(limits, schedules, costs)
def test_the_time_to_retry_is_honest(limit, schedule, hits):
    """Asking again exactly then succeeds, a microsecond earlier does not, if nothing else happens."""
    log = Logged(limit)
    log.run(schedule)
    granted, _, _, retry_us, _ = log.acquire(hits)

    if granted:
        assert 0 == retry_us
    elif hits > limit:
        assert RING * SUB == retry_us
    else:
        assert 0 == log.ring.acquire(limit, hits, 1, log.now + retry_us - 1)[0]
        assert 1 == log.ring.acquire(limit, hits, 1, log.now + retry_us)[0]


@SETTINGS
@given(limits, schedules, advances)
def test_the_time_to_reset_is_honest(limit, schedule, pause):
    """`used` shrinks exactly then and not before; 0 says that nothing is counted."""
    log = Logged(limit)
    log.run(schedule)
    log.now += pause
    _, used, reset_us, _, _ = log.ring.acquire(limit, 0, 1, log.now)

    if used:
        log.now += reset_us - 1
        assert used == log.used()
        log.now += 1
        assert used > log.used()
    else:
        assert 0 == reset_us


@SETTINGS
@given(limits, st.lists(st.tuples(st.integers(-WINDOW, 3 * SUB), costs, counts), max_size=40))
def test_time_set_back_by_less_than_a_window_admits_no_more(limit, rows):
    """In the ring's own time, which waits for the clock: any eleven slots hold at most the limit."""
    log, newest, slots = Logged(limit), START, {}

    for move, hits, count in rows:
        log.now = max(log.now + move, newest - WINDOW)
        newest = max(newest, log.now)
        granted, _, _, _, slot = log.acquire(hits, count)
        if granted:
            slots[slot] = slots.get(slot, 0) + granted * hits

    assert all(sum(slots.get(slot - i, 0) for i in range(RING)) <= limit for slot in slots)
    assert sorted(slots) == list(slots), "the ring's own time never goes back"


@FEWER
@given(limits, schedules, st.integers(RING + 1, 100_000), costs)
def test_time_set_back_by_more_than_a_window_starts_afresh(limit, schedule, steps, hits):
    """A ring from the future must not lock the tenant out."""
    log = Logged(limit)
    log.run(schedule)
    # The ring's time is that of its last admission, which may lie behind the clock.
    log.now = (max([START, *(entry.at for entry in log.entries)]) // SUB - steps) * SUB

    granted, used, _, _, slot = log.acquire(hits, 100)

    assert (limit // hits, limit // hits * hits, log.now // SUB) == (granted, used, slot)


@SETTINGS
@given(limits, schedules, costs, counts)
def test_a_batch_equals_as_many_single_requests(limit, schedule, hits, count):
    one, many = Logged(limit), Logged(limit)
    one.run(schedule)
    many.run(schedule)

    singles = [one.acquire(hits) for _ in range(count)]
    batch = many.acquire(hits, count)

    assert sum(reply[0] for reply in singles) == batch[0]
    # After the batch each sees what the last single request saw.
    assert singles[-1][1:] == batch[1:]
    assert (one.ring._head, one.ring._counts) == (many.ring._head, many.ring._counts)


@FEWER
@given(limits, schedules, st.integers(0, 25), st.integers(0, 40))
def test_no_refund_makes_credit(limit, schedule, ago, hits):
    """Whatever slot and amount it names, at most the limit fits afterwards and no count is negative."""
    log = Logged(limit)
    log.run(schedule)

    log.ring.refund(log.now // SUB - ago, hits)

    assert 0 <= min(log.ring._counts)
    assert limit >= log.acquire(1, 1000)[0]
