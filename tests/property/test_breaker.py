"""Invariant I16 of the shared breaker: of the machine, of the script, and however results are cut."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.circuits import (
    COOLDOWN_MS,
    JUMPY,
    OPTIONS,
    START_MS,
    TTL_MS,
    UP,
    Timed,
    TimedRedis,
    at_once,
    tallied,
)

from sentinel_ext.core.breaker import Breaker, BreakerOptions, CircuitState, Force, View
from sentinel_ext.store.circuits import MAX_OPERATIONS, Acquire, Obey, Operation, Release, Report, Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.redis_server import RedisServer

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
SETTINGS = settings(max_examples=300, deadline=None, derandomize=True)
# The server is the session's, each example empties it.
WITH_REDIS = settings(SETTINGS, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

advances = st.one_of(
    st.just(0),
    st.integers(0, 2 * TTL_MS),
    st.sampled_from([TTL_MS - 1, TTL_MS, COOLDOWN_MS - 1, COOLDOWN_MS, COOLDOWN_MS * 11 // 10, 20_000]),
)
results = st.text("ofSF", max_size=8)
permits = st.sampled_from([f"p{i}" for i in range(6)])
off = st.sampled_from([0] * 8 + [-2, -1, 1])  # from the true epoch
steps = st.tuples(
    advances,
    st.one_of(
        st.tuples(st.just("rep"), off, results),
        st.tuples(st.just("acq"), permits),
        st.tuples(st.just("acq"), permits),
        st.tuples(st.just("res"), off, permits, st.booleans()),
        st.tuples(st.just("res"), st.just(0), permits, st.just(True)),
        st.tuples(st.just("rel"), permits),
        st.tuples(st.just("force"), st.sampled_from([Force.AUTO, Force.AUTO, Force.OPEN, Force.CLOSED])),
    ),
)
schedules = st.lists(steps, max_size=60)


def operation_of(step: tuple[Any, ...], epoch: int, options: BreakerOptions) -> Operation:
    match step:
        case "rep", offset, text:
            return Report(UP, options, max(0, epoch + offset), tallied(text))
        case "acq", permit:
            return Acquire(UP, options, permit)
        case "res", offset, permit, ok:
            return Result(UP, options, max(0, epoch + offset), permit, ok)
        case "rel", permit:
            return Release(UP, options, permit)
        case _:
            return Obey(UP, options, step[1])


@dataclass
class Judge:
    """Watches one breaker from outside and holds it to I16, operation by operation."""

    last: View = field(default_factory=View)
    taken: Counter[int] = field(default_factory=Counter)  # epoch -> permits out, given back ones not counted
    known: set[str] = field(default_factory=set)  # granted in this epoch and neither answered nor given back
    opened_ms: int = 0

    def sees(self, operation: Operation, done: bool, view: View, now_ms: int) -> None:
        before, self.last = self.last, view
        assert view.epoch >= before.epoch
        if view.state is not before.state:
            assert view.epoch > before.epoch
        if view.epoch != before.epoch:
            self.known.clear()
        if view.state is OPEN and view.epoch != before.epoch:
            self.opened_ms = now_ms
        if before.state is OPEN and view.state is HALF_OPEN:
            assert now_ms - self.opened_ms >= COOLDOWN_MS << before.level
        if isinstance(operation, Acquire):
            self._acquired(operation.permit, done, view)
        elif isinstance(operation, Release) and done:
            assert operation.permit in self.known
            self.known.discard(operation.permit)
            self.taken[view.epoch] -= 1
        elif isinstance(operation, Result):
            self._answered(operation, done, view, before)

    def _acquired(self, permit: str, done: bool, view: View) -> None:
        assert not (done and view.state is OPEN)
        if done and view.state is HALF_OPEN and permit not in self.known:
            self.known.add(permit)
            self.taken[view.epoch] += 1
        assert self.taken[view.epoch] <= OPTIONS.half_open_max
        if not done and view.state is HALF_OPEN:
            assert OPTIONS.half_open_max == view.permits

    def _answered(self, result: Result, done: bool, view: View, before: View) -> None:
        if done:
            assert before.epoch in {result.epoch, result.epoch - 1}
        elif view.epoch == before.epoch:
            # Stale, repeated or never granted: all stands as it was, but for the time that went by.
            assert (before.state, before.level, before.permits) == (view.state, view.level, view.permits)
        if done and view.epoch == result.epoch:
            self.known.discard(result.permit)


@SETTINGS
@given(schedules)
def test_every_schedule_keeps_the_invariants(schedule):
    timed, judge = Timed(), Judge()

    for advance, step in schedule:
        timed.now_ms += advance
        operation = operation_of(step, judge.last.epoch, JUMPY)
        judge.sees(operation, *at_once(timed.do(operation)), timed.now_ms)


@SETTINGS
@given(schedules, st.integers(1, 3), results, permits)
def test_what_is_stale_or_repeated_changes_nothing(schedule, ago, text, permit):
    """Nothing at all, the counts in the window included."""
    timed, view = Timed(), View()
    for advance, step in schedule:
        timed.now_ms += advance
        _, view = at_once(timed.do(operation_of(step, view.epoch, JUMPY)))
    if view.state is not HALF_OPEN:
        view = at_once(timed.half_open())
        view = at_once(timed.acquire(permit))[1]
        view = at_once(timed.result(view.epoch, permit, ok=True))[1]
    else:
        at_once(timed.result(view.epoch, permit, ok=True))
    before = at_once(timed.view())

    stale = max(0, before.epoch - ago)
    for operation in (
        Report(UP, JUMPY, stale, tallied(text + "ffff")),
        Report(UP, JUMPY, before.epoch, tallied(text + "ffff")) if before.state is not CLOSED else None,
        Result(UP, JUMPY, stale, permit, ok=False),
        Result(UP, JUMPY, before.epoch, permit, ok=False),
        Result(UP, JUMPY, before.epoch, "stranger", ok=False),
        Release(UP, JUMPY, permit),
    ):
        if operation is not None:
            assert (False, before) == at_once(timed.do(operation))


@WITH_REDIS
@given(schedules)
def test_the_script_is_the_machine(shared_redis, schedule):
    """The same replies to any operations, and the invariants hold for the script, too."""
    memory, real, judge = Timed(), TimedRedis(shared_redis), Judge()
    try:
        for advance, step in schedule:
            memory.now_ms = real.now_ms = real.now_ms + advance
            operation = operation_of(step, judge.last.epoch, JUMPY)
            expected = at_once(memory.do(operation))
            assert expected == at_once(real.do(operation))
            judge.sees(operation, *expected, real.now_ms)
    finally:
        real.client.close()


def cuts(text: str) -> Iterator[list[str]]:
    """All ways to cut a text into pieces."""
    for places in itertools.product([False, True], repeat=max(0, len(text) - 1)):
        pieces, start = [], 0
        for at, cut in enumerate(places, start=1):
            if cut:
                pieces.append(text[start:at])
                start = at
        yield [*pieces, text[start:]]


ROW = BreakerOptions(consecutive_failures=3, min_requests=10**6)


def test_the_count_in_a_row_does_not_depend_on_how_results_are_cut_into_batches():
    """Every sequence of up to eight results, cut in every way."""
    for length in range(1, 9):
        for letters in itertools.product("of", repeat=length):
            text = "".join(letters)
            trips = "fff" in text
            trailing = len(text) - len(text.rstrip("f"))
            for pieces in cuts(text):
                breaker = Breaker(ROW)
                for piece in pieces:
                    _, view = breaker.report(0, tallied(piece), START_MS)
                assert (trips, 0 if trips else trailing) == (view.state is OPEN, view.consecutive), pieces


def test_nor_does_the_scripts(shared_redis: RedisServer) -> None:
    """Every sequence of up to five results, cut in every way, each on an upstream of its own."""
    timed = TimedRedis(shared_redis)
    texts = ["".join(t) for length in range(1, 6) for t in itertools.product("of", repeat=length)]
    cases = [(text, pieces) for text in texts for pieces in cuts(text)]
    reports = [[Report("/".join(pieces), ROW, 0, tallied(piece)) for piece in pieces] for _, pieces in cases]
    flat = [report for group in reports for report in group]
    views = {}
    for start in range(0, len(flat), MAX_OPERATIONS):
        chunk = flat[start : start + MAX_OPERATIONS]
        for report, (_, view) in zip(chunk, at_once(timed.store.call(chunk)), strict=True):
            views[report.upstream] = view
    timed.client.close()

    assert {"/".join(pieces): "fff" in text for text, pieces in cases} == {
        name: view.state is OPEN for name, view in views.items()
    }
