"""In flight by generation: the same as a list of requests would say, whatever the order of events."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_ext.core.fill import TIERS
from sentinel_ext.core.flight import Flight

SETTINGS = settings(max_examples=300, deadline=None, derandomize=True)
LIFETIME = 5

tiers = st.integers(0, TIERS - 1)
generations = st.integers(-3, 60)
events = st.lists(
    st.one_of(
        st.tuples(st.just("start"), tiers, st.just(0)),
        st.tuples(st.just("withdraw"), tiers, st.integers(0, 5)),
        st.tuples(st.just("end"), tiers, st.integers(0, 8)),
        st.tuples(st.just("forged"), tiers, generations),
        st.tuples(st.just("many"), tiers, generations),
        st.tuples(st.just("advance"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("forget"), tiers, generations),
    ),
    max_size=120,
)


class Model:
    """The same kept request by request."""

    def __init__(self) -> None:
        self.now = 0
        self.open: Counter[tuple[int, int]] = Counter()

    def take(self, generation: int, tier: int, count: int = 1) -> int:
        there = min(count, self.open[generation, tier])
        self.open[generation, tier] -= there
        return there

    def drop(self, before: int) -> int:
        gone = [key for key in self.open if key[0] < min(before, self.now)]
        return sum(self.open.pop(key) for key in gone)

    def in_flight(self) -> list[int]:
        return [sum(n for (_, t), n in self.open.items() if t == tier) for tier in range(TIERS)]


@SETTINGS
@given(events)
def test_in_flight_is_what_a_list_of_requests_would_say(schedule):
    """Rows of (what, tier or generations onward, which)."""
    flight, model, lost = Flight(0), Model(), 0
    tickets: list[tuple[int, list[int]]] = []

    for what, tier, which in schedule:
        if what == "start":
            tickets.append((flight.generation, flight.start(tier)))
            model.open[model.now, tier] += 1
        elif what == "withdraw" and tickets:
            generation, counts = tickets[which % len(tickets)]
            flight.withdraw(counts, tier)
            model.take(generation, tier)
        elif what == "end" and tickets:
            generation = tickets[which % len(tickets)][0]
            assert model.take(generation, tier) == flight.end(generation, tier)
        elif what == "forged":
            assert model.take(which, tier) == flight.end(which, tier)
        elif what == "many":
            assert model.take(which, tier, 3) == flight.end(which, tier, 3)
        elif what == "advance":
            model.now += tier
            expected = model.drop(model.now - LIFETIME)
            lost += expected
            assert expected == flight.advance(flight.generation + tier, LIFETIME)
        elif what == "forget":
            assert model.drop(which) == flight.forget_before(which)

        assert model.in_flight() == flight.open
        assert sum(flight.open) == flight.total
        assert lost == flight.lost
        assert len(flight) <= LIFETIME + 2


@SETTINGS
@given(events, st.integers(0, 12))
def test_what_is_overdue_adds_up_and_is_old_enough(schedule, age):
    flight = Flight(0)
    for what, tier, which in schedule:
        if what == "start":
            flight.start(tier)
        elif what in {"end", "forged", "many"}:
            flight.end(which, tier)
        elif what == "advance":
            flight.advance(flight.generation + tier, 1_000)

    overdue = flight.overdue(age * 100_000_000)

    assert 0 <= overdue.due <= overdue.started
    assert 0 <= overdue.due + overdue.older <= flight.total
    assert 0 <= overdue.stuck <= overdue.older
    assert overdue.due + overdue.older >= flight.overdue((age + 1) * 100_000_000).older
