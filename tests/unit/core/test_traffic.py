"""Counters of a few periods: they overlap, they slide, and rates are what passed by the time it took."""

from __future__ import annotations

import pytest
from support.overload import START_NS, ms

from sentinel_ext.core.traffic import PERIODS, TOLD_LATE_S, Traffic

PERIOD_MS = 200


@pytest.fixture
def traffic() -> Traffic:
    return Traffic(START_NS)


def admit(traffic: Traffic, *counts: int) -> float:
    """Let so many pass in one period after the other; give when the last one ended, ms."""
    for number, count in enumerate(counts, start=1):
        traffic.now.admitted += count
        traffic.close(ms(number * PERIOD_MS))
    return len(counts) * PERIOD_MS


def test_a_report_covers_the_last_periods_and_no_more(traffic):
    admit(traffic, 1, 2, 3, 4, 5)
    traffic.now.admitted = 6

    periods, span_ms = traffic.close(ms(1_200))

    assert ([3, 4, 5, 6], PERIODS * PERIOD_MS) == ([p.admitted for p in periods], span_ms)


def test_the_first_report_covers_what_there_is(traffic):
    periods, span_ms = traffic.close(ms(50))

    assert (1, 50) == (len(periods), span_ms)


@pytest.mark.parametrize("at_ms", [0, -500])
def test_a_report_at_once_or_by_a_clock_set_back_divides_by_no_nothing(traffic, at_ms):
    assert 1 == traffic.close(ms(at_ms))[1]
    assert 0 == traffic.admitted_before()
    assert 0 == traffic.admitted(ms(at_ms))


def test_what_passed_in_periods_that_are_over_is_a_rate(traffic):
    assert 0 == traffic.admitted_before()
    admit(traffic, 100, 300)
    traffic.now.admitted = 10**6

    assert 400 / 0.4 == pytest.approx(traffic.admitted_before())


def test_what_passed_up_to_now_has_the_current_period_in_it(traffic):
    last_ms = admit(traffic, 10**6, 20, 20, 20)
    traffic.now.admitted = 10

    assert 70 / 0.7 == pytest.approx(traffic.admitted(ms(last_ms + 100)))


def test_completed_are_own_requests_wherever_their_end_was_heard(traffic):
    now = traffic.now
    now.ok, now.failed, now.relayed, now.told = 30, 5, 15, 20

    assert (30 + 5 - 15 + 20) / 0.2 == pytest.approx(traffic.completed(ms(200)))


def test_relayed_requests_whose_client_left_complete_nothing(traffic):
    """They are no outcome, so there can be more of them than completions."""
    traffic.now.relayed = 50

    assert 0 == traffic.completed(ms(200))


def test_what_others_have_heard_and_not_told_yet_is_estimated(traffic):
    traffic.now.admitted, traffic.now.told = 100, 50

    assert 50 / 0.2 * TOLD_LATE_S == pytest.approx(traffic.untold(ms(200)))


def test_traffic_that_has_just_begun_is_not_averaged_over_the_quiet_before_it(traffic):
    for number in range(1, 4):
        traffic.close(ms(200 * number))
    traffic.now.admitted = traffic.now.ok = 60

    periods, span_ms = traffic.close(ms(800))

    assert [60] == [period.admitted for period in periods]
    assert 200 == span_ms
    assert 60 / 0.2 == pytest.approx(traffic.admitted_before())


def test_quiet_between_traffic_is_averaged_over(traffic):
    traffic.now.admitted = 60
    traffic.close(ms(200))
    traffic.close(ms(400))
    traffic.now.admitted = 60

    _, span_ms = traffic.close(ms(600))

    assert 600 == span_ms
    assert 120 / 0.6 == pytest.approx(traffic.admitted_before())
