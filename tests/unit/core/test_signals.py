"""Signals: ramps, the soft maximum, and levels for people."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_ext.core.signals import (
    DWELL_NS,
    FULL,
    HYSTERESIS,
    Level,
    LevelMeter,
    LocalSignals,
    local_ramps,
    ramp,
    soft_max,
)

shares = st.floats(0.0, 1.0)
NONE = LocalSignals()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-1e9, 0.0),
        (20, 0.0),
        (65, 0.25),
        (110, 0.5),
        (200, 1.0),
        (1e12, 1.0),
        (math.inf, 1.0),
        (-math.inf, 0.0),
    ],
)
def test_a_ramp_is_nothing_below_full_above_and_in_proportion_between(value, expected):
    assert expected == pytest.approx(ramp(value, 20.0, 200.0))


@given(st.lists(shares, max_size=10))
def test_the_score_is_between_the_largest_signal_and_full(signals):
    assert FULL * max(signals, default=0.0) <= soft_max(signals) * (1 + 1e-12) + 1e-9
    assert 0.0 <= soft_max(signals) <= FULL


@given(st.lists(shares, min_size=1, max_size=10), st.integers(0, 9), shares)
def test_the_score_rises_with_every_signal(signals, which, value):
    which %= len(signals)
    raised = [*signals[:which], max(signals[which], value), *signals[which + 1 :]]

    assert soft_max(signals) <= soft_max(raised)


@given(st.lists(shares, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_signals_does_not_matter(signals, random):
    shuffled = list(signals)
    random.shuffle(shuffled)

    assert soft_max(signals) == soft_max(shuffled)


@given(st.lists(shares, max_size=8))
def test_an_absent_signal_changes_nothing_and_nor_does_one_at_rest(signals):
    assert soft_max(signals) == soft_max([*signals, 0.0])


def test_two_half_bad_signals_are_worse_than_one():
    assert 50.0 == pytest.approx(soft_max([0.5]))
    assert 59.46 == pytest.approx(soft_max([0.5, 0.5]), abs=0.01)


def test_nothing_measured_is_no_signal():
    assert {} == local_ramps(NONE)
    assert 0.0 == soft_max(local_ramps(NONE).values())


@pytest.mark.parametrize(
    ("signals", "name", "expected"),
    [
        (LocalSignals(loop_lag_ms=110), "loop_lag", 0.5),
        (LocalSignals(cpu=0.85), "cpu", 0.5),
        (LocalSignals(psi_cpu=0.5), "psi_cpu", 0.5),
        (LocalSignals(psi_memory=0.15), "psi_memory", 1.0),
        (LocalSignals(psi_io=0.3), "psi_io", 0.5),
        (LocalSignals(store_ms=27.5), "store", 0.3),
    ],
)
def test_each_measurement_has_its_ramp_and_alone_is_all_there_is(signals, name, expected):
    assert {name: pytest.approx(expected)} == local_ramps(signals)


def test_a_slow_store_alone_is_never_full_pressure():
    assert 60.0 == pytest.approx(soft_max(local_ramps(LocalSignals(store_ms=1e9)).values()))


@pytest.mark.parametrize(
    ("score", "level"),
    [
        (0, Level.NORMAL),
        (49.9, Level.NORMAL),
        (50, Level.ELEVATED),
        (69.9, Level.ELEVATED),
        (70, Level.HIGH),
        (84.9, Level.HIGH),
        (85, Level.CRITICAL),
        (100, Level.CRITICAL),
    ],
)
def test_a_level_is_entered_at_once(score, level):
    meter = LevelMeter()

    assert (level is not Level.NORMAL) == meter.update(score, 0)
    assert level is meter.level


def test_a_level_is_left_only_well_below_it_and_after_a_while():
    meter = LevelMeter()
    meter.update(90.0, 0)

    assert not meter.update(85 - HYSTERESIS, DWELL_NS), "not far enough below"
    assert not meter.update(0.0, DWELL_NS - 1), "not long enough"
    assert meter.update(0.0, DWELL_NS)
    assert Level.NORMAL is meter.level


def test_a_level_rises_without_waiting():
    meter = LevelMeter()
    meter.update(50.0, 0)

    assert meter.update(85.0, 1)
    assert Level.CRITICAL is meter.level


def test_a_score_at_the_edge_does_not_flap():
    meter = LevelMeter()
    changes = [meter.update(70.0 + (1 if n % 2 else -1), n * 1_000_000_000) for n in range(100)]

    assert 2 == sum(changes), "normal to elevated, elevated to high, and no more"
