"""A fleet with leases, crashes, lost replies and a store that loses data never admits more than its bound."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from support.limits import START_US, Instance, SharedCounters, entry, limit, rules

from sentinel_ext.core.ratelimit.outcome import Outcome
from sentinel_ext.core.ratelimit.pending import Pending
from sentinel_ext.core.ratelimit.rules import Algorithm, Node, Rules

if TYPE_CHECKING:
    from sentinel_ext.core.ratelimit.plan import Plan

WINDOW_US = 1_000_000
HOUR_US = 3_600 * WINDOW_US
USER, OTHER = entry("user"), entry("other")

# (who, what, microseconds that pass before)
STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(
            ["burst", "burst", "crowd", "one", "pair", "large", "crash", "lost", "cancel", "sweep", "close"]
        ),
        st.integers(0, 150_000),
    ),
    min_size=20,
    max_size=80,
)
LIMITS = st.integers(1, 2_000)


class Fleet:
    """Four instances; notes when each hit was admitted, by the store's clock."""

    def __init__(self, admitted_by: Rules) -> None:
        self.shared = SharedCounters()
        self.rules = admitted_by
        self.members = [self._new() for _ in range(4)]
        self.admitted: list[tuple[int, int]] = []
        self.losses: list[int] = []

    def _new(self) -> Instance:
        return Instance(self.shared, self.rules, instances=4)

    def act(self, who: int, what: str) -> None:
        member = self.members[who]
        if what == "crash":
            self.members[who] = self._new()
        elif what == "sweep":
            member.limiter.sweep(member.now_ns)
        elif what == "close":
            member.limiter.close()
        elif what == "crowd":
            self.admitted += [(self.shared.now_us, 1)] * member.at_once(member.plan(USER), 60)
        elif what in {"lost", "cancel"}:
            self._unanswered(member, is_lost=what == "lost")
        else:
            self._send(member, what)

    def _send(self, member: Instance, what: str) -> None:
        count, hits = {"burst": (120, 1), "one": (1, 1), "pair": (20, 1), "large": (3, 50)}[what]
        plan = member.plan(USER, OTHER, hits=hits) if what == "pair" else member.plan(USER, hits=hits)
        for _ in range(count):
            outcome = member.run(plan)
            assert isinstance(outcome, Outcome)
            if not outcome.over:
                self.admitted.append((self.shared.now_us, hits))
            self.shared.now_us += 150

    def _unanswered(self, member: Instance, *, is_lost: bool) -> None:
        """The store counts and its word comes late, or the caller leaves before it comes."""
        plan: Plan = member.plan(USER)
        step = member.limiter.begin(plan, member.now_ns)
        if not isinstance(step, Pending):
            self.admitted.append((self.shared.now_us, 0 if step.over else 1))
            return
        answers = self.shared.decide(step.asks)
        if is_lost:
            member.limiter.resume_without_store(
                step, member.now_ns
            )  # error: the request is not ours to admit
        else:
            member.limiter.cancel(step)
        member.limiter.late(step, answers, member.now_ns, is_wanted=False)


def run(fleet: Fleet, steps: list[tuple[int, str, int]]) -> None:
    for who, what, passes_us in steps:
        fleet.shared.now_us += passes_us
        fleet.act(who, what)


@settings(max_examples=150, deadline=None)
@given(LIMITS, STEPS, st.booleans())
def test_no_fixed_window_admits_more_than_its_limit(requests, steps, count_denied):
    made = limit(requests, window_us=WINDOW_US, count_denied=count_denied)
    fleet = Fleet(
        rules(Node("user", limits=(made,)), Node("other", limits=(limit(50, window_us=WINDOW_US),)))
    )
    run(fleet, steps)

    by_window: dict[int, int] = defaultdict(int)
    for at_us, hits in fleet.admitted:
        by_window[at_us // WINDOW_US] += hits
    assert all(hits <= requests for hits in by_window.values())


@settings(max_examples=150, deadline=None)
@given(LIMITS, STEPS)
def test_no_window_at_all_admits_more_than_a_sliding_limit(requests, steps):
    made = limit(requests, window_us=WINDOW_US, algorithm=Algorithm.SLIDING_WINDOW, count_denied=False)
    fleet = Fleet(
        rules(Node("user", limits=(made,)), Node("other", limits=(limit(50, window_us=WINDOW_US),)))
    )
    run(fleet, steps)

    admitted, first, inside = sorted(fleet.admitted), 0, 0
    for at_us, hits in admitted:
        inside += hits
        while admitted[first][0] <= at_us - WINDOW_US:
            inside -= admitted[first][1]
            first += 1
        assert inside <= requests


@settings(max_examples=100, deadline=None)
@given(LIMITS, STEPS, st.sets(st.integers(0, 79), max_size=3))
def test_a_store_that_loses_its_data_renews_a_window_once_for_each_loss(requests, steps, losses):
    made = limit(requests, window_us=HOUR_US)
    fleet = Fleet(rules(Node("user", limits=(made,)), Node("other", limits=(limit(50),))))
    fleet.shared.now_us = -(-START_US // HOUR_US) * HOUR_US
    lost = 0
    for number, step in enumerate(steps):
        if number in losses:
            fleet.shared.lose_data()
            lost += 1
        run(fleet, [step])

    assert sum(hits for _, hits in fleet.admitted) <= requests * (1 + lost)


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 2_000), st.integers(1, 4))
def test_what_leases_strand_is_bounded_so_nearly_the_whole_limit_is_used(requests, members):
    fleet = Fleet(rules(Node("user", limits=(limit(requests, window_us=HOUR_US),))))
    fleet.shared.now_us = -(-START_US // HOUR_US) * HOUR_US
    for _ in range(3 + 2 * requests // (120 * members)):
        for who in range(members):
            fleet.act(who, "burst")
    for member in fleet.members:
        member.limiter.close()
    fleet.shared.now_us += 1_000_000
    for _ in range(3 + requests // 120):
        fleet.act(0, "burst")
        fleet.shared.now_us += 1_000_000

    assert requests == sum(hits for _, hits in fleet.admitted)
