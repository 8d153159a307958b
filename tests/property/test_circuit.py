"""A fleet of instances around one breaker: late, lost and repeated calls break none of its promises."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from support.circuits import COOLDOWN_MS, JUMPY, TTL_MS, Timed, at_once

from sentinel_ext.core.breaker import BreakerOptions, CircuitState
from sentinel_ext.core.circuit import NS_PER_MS, Circuit
from sentinel_ext.core.tally import Batch

CLOSED, OPEN = CircuitState.CLOSED, CircuitState.OPEN
SETTINGS = settings(max_examples=300, deadline=None, derandomize=True)
advances = st.one_of(st.integers(0, 2 * TTL_MS), st.sampled_from([COOLDOWN_MS * 11 // 10, 20_000]))


@dataclass
class Instance:
    """A Sentinel as the breaker knows one: a circuit, and requests under way."""

    circuit: Circuit
    number: int
    requests: list[tuple[int, str]] = field(default_factory=list)
    ended: int = 0


class Fleet:
    """Instances around one shared breaker. Calls fail before or after they arrived, replies come late."""

    def __init__(self, options: BreakerOptions) -> None:
        self.options = options
        self.timed = Timed()
        self.serials = itertools.count()
        self.probes: Counter[int] = Counter()
        self.counted = 0
        self.instances = [Instance(Circuit(options, self.now_ns), i) for i in range(3)]
        self.newest: dict[int, int] = {}

    @property
    def now_ns(self) -> int:
        return self.timed.now_ms * NS_PER_MS

    def request(self, one: Instance, vital: bool, fails: bool) -> None:
        circuit, permit = one.circuit, f"{one.number}-{next(self.serials)}"
        if not circuit.is_closed:
            if not circuit.wants_permit(vital, self.now_ns):
                return
            done, view = at_once(self.timed.acquire(permit, self.options))
            if fails:
                circuit.permit_failed(permit)
                return
            circuit.permit_reply(permit, done, view, self.now_ns)
            if not circuit.is_closed and not circuit.holds(permit):
                return
        held = permit if circuit.holds(permit) else ""
        if held:
            self.probes[circuit.epoch] += 1
        one.requests.append((circuit.epoch, held))

    def end(self, one: Instance, ok: bool, twice: bool) -> None:
        if not one.requests:
            return
        epoch, permit = one.requests.pop(0)
        before = one.circuit.stale
        one.circuit.ended(epoch, permit, ok, False, self.now_ns)
        one.ended += not permit and before == one.circuit.stale
        if twice and permit:
            one.circuit.ended(epoch, permit, not ok, False, self.now_ns)

    def report(self, one: Instance, arrives: bool, answered: bool) -> None:
        """Results first, as the store serves them in order; each instance has serials of its own."""
        circuit = one.circuit
        results, batch = circuit.take_results(), circuit.take_batch()
        if arrives:
            for result in results:
                if result.ok is None:
                    at_once(self.timed.release(result.permit))
                else:
                    at_once(self.timed.result(result.epoch, result.permit, result.ok))
            fresh = batch.serial > self.newest.get(one.number, 0)
            sent = msgspec.structs.replace(batch, serial=0) if fresh else Batch()
            counted, view = at_once(self.timed.report(circuit.epoch, sent, self.options))
            if counted and fresh:
                self.newest[one.number] = batch.serial
                self.counted += batch.ok + batch.failed
        if arrives and answered:
            circuit.adopt(view, self.now_ns)
        else:
            circuit.put_back(batch)
            circuit.put_back_results(results)


turns = st.tuples(
    st.integers(0, 2),
    st.one_of(
        st.tuples(st.just("request"), st.booleans(), st.sampled_from([False] * 5 + [True])),
        st.tuples(st.just("request"), st.just(True), st.just(False)),
        st.tuples(st.just("end"), st.booleans(), st.sampled_from([False] * 5 + [True])),
        st.tuples(st.just("report"), st.just(True), st.just(True)),
        st.tuples(st.just("report"), st.booleans(), st.booleans()),
        st.tuples(st.just("wait"), advances),
    ),
)
NEVER = BreakerOptions(consecutive_failures=10**6, min_requests=10**6)


def play(fleet: Fleet, turn: tuple[int, tuple[Any, ...]]) -> None:
    one = fleet.instances[turn[0]]
    match turn[1]:
        case "request", vital, fails:
            fleet.request(one, vital, fails)
        case "end", ok, twice:
            fleet.end(one, ok, twice)
        case "report", arrives, answered:
            fleet.report(one, arrives, answered)
        case _:
            fleet.timed.now_ms += turn[1][1]


@SETTINGS
@given(st.lists(turns, max_size=150))
def test_a_fleet_sends_no_more_probes_than_permits_and_nothing_else_while_half_open(rows):
    fleet = Fleet(JUMPY)
    for turn in rows:
        before = [(one.circuit.state, len(one.requests)) for one in fleet.instances]
        play(fleet, turn)
        for one, (state, count) in zip(fleet.instances, before, strict=True):
            if len(one.requests) > count and one.circuit.state is not CLOSED:
                assert one.requests[-1][1], "passed without a permit"
            assert not (state is OPEN and len(one.requests) > count and one.circuit.state is OPEN)

    assert all(count <= JUMPY.half_open_max for count in fleet.probes.values())


@SETTINGS
@given(st.lists(turns, max_size=150))
def test_a_fleet_counts_what_ended_exactly_once_whatever_happens_to_reports(rows):
    fleet = Fleet(NEVER)
    for turn in rows:
        play(fleet, turn)
    for one in fleet.instances:
        for _ in range(2):  # what came back, then what was counted since
            fleet.report(one, arrives=True, answered=True)

    assert sum(one.ended for one in fleet.instances) == fleet.counted
