"""The guard: places by Little's law, dead work, and the instance's own backstop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_ext.core.guard import HEADS, DeadWork, backstop, limits

LOCAL = st.floats(0.0, 100.0)


def test_places_are_the_rate_times_the_time_that_is_borne_and_two_sigma():
    """1000/s times (40 + 100 + 50) ms is 190, and 2 sqrt(190) more."""
    assert 217.57 == pytest.approx(limits(1_000.0, 1.0, 40.0, 100.0)[0], abs=0.01)


def test_economy_stops_first_and_vital_last():
    vital, standard, economy = limits(1_000.0, 1.0, 40.0, 100.0)

    assert economy < standard < vital
    assert HEADS == pytest.approx((1.0, standard / vital, economy / vital))


def test_of_an_upstream_slow_by_nature_twice_its_own_latency_is_borne():
    """100/s times (400 + 400 + 50) ms is 85."""
    assert 103.44 == pytest.approx(limits(100.0, 1.0, 400.0, 100.0)[0], abs=0.01)


def test_parts_of_the_traffic_have_together_at_least_the_places_of_the_whole():
    whole = limits(1_000.0, 1.0, 40.0, 100.0)[0]

    assert whole < 16 * limits(1_000.0, 1 / 16, 40.0, 100.0)[0] < 2 * whole


def test_without_a_part_in_the_traffic_there_are_no_places():
    assert (0.0, 0.0, 0.0) == limits(1_000.0, 0.0, 40.0, 100.0)


def test_dead_work_is_done_at_the_rate_that_living_work_leaves():
    dead = DeadWork()
    dead.count = 100.0
    dead.drain(capacity=1_000.0, completed=1_000.0, elapsed_s=0.1)

    assert 50.0 == pytest.approx(dead.count)
    dead.drain(capacity=1_000.0, completed=0.0, elapsed_s=1.0)
    assert 0.0 == dead.count


def test_more_completions_than_capacity_bring_no_dead_work_back():
    dead = DeadWork()
    dead.count = 10.0
    dead.drain(capacity=100.0, completed=1_000.0, elapsed_s=1.0)

    assert 10.0 == dead.count


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        (0, (0, 0, 0)),
        (60, (0, 0, 0)),
        (70, (0, 0, 0.125)),
        (80, (0, 0, 1)),
        (95, (0, 1, 1)),
        (98, (0, 1, 1)),
        (100, (0.5, 1, 1)),
        (1e9, (0.5, 1, 1)),
        (-1e9, (0, 0, 0)),
    ],
)
def test_an_instance_short_of_breath_sheds_late_steeply_and_never_all_of_vital(local, expected):
    assert expected == pytest.approx(backstop(local))


@given(LOCAL, LOCAL)
def test_the_backstop_rises_with_pressure_and_keeps_the_order_of_tiers(first, second):
    less, more = (backstop(local) for local in sorted((first, second)))

    assert all(before <= after for before, after in zip(less, more, strict=True))
    assert less[0] <= less[1] <= less[2]
