"""A limit under pressure: down no faster than the window slides, up at once, never above the plan's."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.build import NS_PER_S, make_plan, make_tenant

from sentinel_ext.core.scaling import HEADROOM, scaled_limit

WINDOW_S = 60
START_NS = 1_000 * NS_PER_S


def limits(rates: list[tuple[float | None, float]], limit: int = 6_000) -> list[int]:
    """The limit after each (rate, second)."""
    tenant = make_tenant(make_plan(limit=limit, window_us=WINDOW_S * 1_000_000))
    return [scaled_limit(tenant, limit, rate, START_NS + int(at_s * NS_PER_S)) for rate, at_s in rates]


def test_who_gets_all_it_asks_for_keeps_the_plan_s_limit():
    assert [6_000, 6_000] == limits([(None, 0), (None, 1)])


def test_the_limit_comes_down_as_the_window_slides():
    """30 requests per second over a minute are 1,800, and some room above."""
    at = limits([(30.0, second) for second in range(0, 91, 15)])

    assert 6_000 == at[0]
    assert sorted(at, reverse=True) == at
    assert HEADROOM * 1_800 == pytest.approx(at[-1], rel=0.06)
    assert at[2] > 2 * 1_800 > at[5]


def test_no_second_takes_more_than_the_window_has_slid():
    at = limits([(10.0, second) for second in range(60)])

    assert max(before - after for before, after in itertools.pairwise(at)) <= 6_000 / WINDOW_S + 1


def test_the_limit_goes_up_at_once():
    low, high = limits([(10.0, second) for second in range(200)] + [(50.0, 200.0)])[-2:]

    assert low < 1_000 < HEADROOM * 50 * WINDOW_S < high


def test_pressure_that_ends_gives_the_plan_s_limit_back_and_forgets():
    tenant = make_tenant(make_plan(limit=6_000))
    for second in range(100):
        scaled_limit(tenant, 6_000, 10.0, START_NS + second * NS_PER_S)

    assert 6_000 == scaled_limit(tenant, 6_000, None, START_NS + 100 * NS_PER_S)
    assert tenant.scaled is None
    assert 6_000 == scaled_limit(tenant, 6_000, 10.0, START_NS + 101 * NS_PER_S), "the window is full again"


def test_a_rate_of_nothing_still_leaves_one():
    assert 1 == limits([(0.0, second) for second in range(0, 300, 10)])[-1]


@given(
    st.integers(1, 10**6),
    st.lists(
        st.tuples(st.one_of(st.none(), st.floats(0, 1e6)), st.floats(-10, 100)), min_size=1, max_size=20
    ),
)
def test_whatever_rates_and_clocks_say_the_limit_is_between_one_and_the_plan_s(limit, rates):
    assert all(1 <= held <= limit for held in limits(rates, limit))
