"""In flight: what is counted, what expires, what cannot be undone twice."""

from __future__ import annotations

import pytest

from sentinel_ext.core.flight import DUE_GENERATIONS, MAX_GENERATIONS, TICK_NS, Flight

SECOND = 1_000_000_000
FAR = 1_000


def test_a_start_and_its_end_leave_nothing():
    flight = Flight(7)
    flight.start(1)

    assert [0, 1, 0] == flight.open
    assert 1 == flight.end(7, 1)
    assert 0 == flight.total


def test_an_end_counts_once():
    flight = Flight(7)
    flight.start(0)

    assert [1, 0] == [flight.end(7, 0) for _ in range(2)]
    assert 0 == flight.total


@pytest.mark.parametrize(("generation", "tier"), [(8, 0), (6, 0), (-1, 0), (10**12, 0), (7, 1)], ids=str)
def test_an_end_of_what_never_started_changes_nothing(generation, tier):
    flight = Flight(7)
    flight.start(0)

    assert 0 == flight.end(generation, tier)
    assert 1 == flight.total


def test_more_ends_than_starts_end_no_more_than_started():
    flight = Flight(7)
    flight.start(0)
    flight.start(0)

    assert 2 == flight.end(7, 0, 1_000_000)
    assert 0 == flight.total


def test_a_withdrawal_of_an_expired_start_takes_nothing_from_others():
    flight = Flight(0)
    counts = flight.start(0)
    flight.advance(50, lifetime=10)
    flight.start(0)
    flight.withdraw(counts, 0)

    assert 1 == flight.total


def test_what_is_older_than_a_request_may_be_is_lost_and_counted():
    flight = Flight(0)
    flight.start(0)
    flight.start(2)

    assert 0 == flight.advance(10, lifetime=10)
    assert 2 == flight.advance(11, lifetime=10)
    assert (0, 2) == (flight.total, flight.lost)
    assert 0 == flight.end(0, 0), "it comes too late"


def test_time_that_does_not_move_or_goes_back_changes_nothing():
    flight = Flight(5)
    flight.start(0)
    flight.advance(5, lifetime=10)
    flight.advance(3, lifetime=10)

    assert (5, 1, 0) == (flight.generation, flight.total, flight.lost)


def test_a_jump_of_the_clock_drops_what_is_too_old_and_no_more():
    flight = Flight(0)
    flight.start(0)
    flight.advance(10**9, lifetime=10)
    flight.start(1)

    assert [0, 1, 0] == flight.open


def test_an_idle_upstream_keeps_nothing():
    flight = Flight(0)
    for generation in range(1, 10_000):
        flight.advance(generation, FAR)

    assert 1 == len(flight)


def test_memory_is_bounded_however_long_requests_may_take():
    flight = Flight(0)
    for generation in range(1, MAX_GENERATIONS + 500):
        flight.start(0)
        flight.advance(generation, lifetime=10**9)

    assert MAX_GENERATIONS + 1 >= len(flight)
    assert MAX_GENERATIONS == flight.total


def test_what_is_forgotten_is_not_what_goes_on():
    flight = Flight(0)
    for generation in range(1, 5):
        flight.start(0)
        flight.advance(generation, FAR)
    flight.start(1)

    assert 2 == flight.forget_before(2)
    assert [2, 1, 0] == flight.open
    assert 2 == flight.forget_before(10**9), "the current generation stays"
    assert [0, 1, 0] == flight.open


def test_a_queue_is_many_that_should_have_ended_and_have_not():
    flight = Flight(0)
    for generation in range(1, 20):
        for _ in range(10):
            flight.start(0)
        flight.end(generation - 1, 0, 6)
        flight.advance(generation, FAR)

    overdue = flight.overdue(3 * TICK_NS)

    assert overdue.is_queue
    assert 4 * DUE_GENERATIONS == overdue.due
    assert 10 * DUE_GENERATIONS == overdue.started
    assert 0 == overdue.stuck, "a queue explains them"


def test_old_ones_among_many_that_ended_are_streams_and_no_queue():
    flight = Flight(0)
    for _ in range(7):
        flight.start(1)
    for generation in range(1, 40):
        for _ in range(10):
            flight.start(0)
        flight.end(generation - 1, 0, 10)
        flight.advance(generation, FAR)

    overdue = flight.overdue(SECOND)

    assert not overdue.is_queue
    assert 7 == overdue.stuck


def test_of_a_few_nothing_is_said():
    flight = Flight(0)
    flight.start(0)
    flight.advance(40, FAR)

    assert 0 == flight.overdue(SECOND).stuck


def test_the_youngest_are_counted_by_when_they_started():
    flight = Flight(0)
    for generation in range(6):
        flight.advance(generation, 100)
        for _ in range(generation + 1):
            flight.start(1)
    flight.end(5, 1, 2)

    assert [4, 4 + 5, 4 + 5 + 4, 4 + 5 + 4 + 3 + 2 + 1] == [
        flight.younger_than(age * TICK_NS) for age in (0, 1, 2, 50)
    ]
