"""One upstream at one instance: what is admitted and counted, the guard, blindness, expiry, its share."""

from __future__ import annotations

import pytest

from sentinel_ext.core.ended import Outcome
from sentinel_ext.core.fill import Demand
from sentinel_ext.core.hearing import Hearing
from sentinel_ext.core.report import Shared
from sentinel_ext.core.upstream import MIN_BLIND, MIN_SHARE, ShedCause, Upstream, UpstreamOptions

NS_PER_MS = 1_000_000
OPTIONS = UpstreamOptions(slo_ms=500.0, timeout_ms=1_000.0)
VITAL, STANDARD, ECONOMY = range(3)
OK, FAILED, OVERFLOW, IGNORED = Outcome.OK, Outcome.FAILED, Outcome.OVERFLOW, Outcome.IGNORED
# Pressed by a queue; by Little's law 24 + 2 sqrt(24), so 33 places, for an upstream of 100/s and 40 ms.
PRESSED = Shared(at_ms=1.0, pressure=90.0, baseline_ms=40.0, peak=100.0, credit=100.0, instances=1)


class Driven:
    """An upstream with a clock and ears."""

    def __init__(self, options: UpstreamOptions = OPTIONS) -> None:
        self.upstream = Upstream("up", options, 0)
        self.hearing = Hearing(100.0)
        self.now_ms = 0.0

    def go(self, milliseconds: float, *, hears: bool = True, local: float = 0.0) -> None:
        """Tick every 100 ms."""
        for _ in range(round(milliseconds / 100)):
            self.now_ms += 100
            now_ns = int(self.now_ms * NS_PER_MS)
            if hears:
                self.hearing.heard("envoy", 10, now_ns)
            self.hearing.tick(now_ns)
            self.upstream.tick(self.hearing, local, now_ns)

    def publish(self):
        return self.upstream.publish(int(self.now_ms * NS_PER_MS))

    def admitted(self, count: int, tier: int = STANDARD, name: str = "a") -> int:
        return sum(self.upstream.admit(name, tier) is not None for _ in range(count))


@pytest.fixture
def driven() -> Driven:
    return Driven()


def test_nothing_known_lets_everything_pass(driven):
    assert 10_000 == driven.admitted(10_000, ECONOMY)
    assert 10_000 == driven.upstream.flight.total


def test_a_share_of_a_tenants_requests_passes_and_the_reason_is_told(driven):
    driven.upstream.adopt(Shared(tier_share=(1.0, 0.25, 0.0)))

    assert 100 == driven.admitted(100, VITAL, "v")
    assert 25 == pytest.approx(driven.admitted(100, STANDARD, "s"), abs=1)
    assert 0 == driven.admitted(100, ECONOMY, "e")
    assert ShedCause.SHARE is driven.upstream.cause


def test_new_shares_hold_for_tenants_already_known(driven):
    driven.admitted(1)
    driven.upstream.adopt(Shared(shares={"a": 0.0}))

    assert 0 == driven.admitted(10)


def test_an_instance_short_of_breath_sheds_and_says_so(driven):
    driven.go(100, local=100.0)

    assert 0 == driven.admitted(10, ECONOMY)
    assert ShedCause.LOCAL is driven.upstream.cause


def test_a_contract_stands_even_then(driven):
    driven.go(100, local=100.0)

    assert all(driven.upstream.admit("v", VITAL, 1.0, 50.0) is not None for _ in range(10))


def test_the_guard_bounds_what_is_in_flight_by_tier(driven):
    driven.upstream.adopt(PRESSED)
    driven.go(100)
    limits = driven.upstream.limits

    assert limits is not None
    economy = driven.admitted(100, ECONOMY)
    standard = driven.admitted(100, STANDARD)
    vital = driven.admitted(100, VITAL)
    assert [-(-limit // 1) for limit in reversed(limits)] == [
        economy,
        economy + standard,
        economy + standard + vital,
    ]
    assert ShedCause.GUARD is driven.upstream.cause


def test_an_end_frees_a_place(driven):
    driven.upstream.adopt(PRESSED)
    driven.go(100)
    driven.admitted(100, VITAL)

    assert driven.upstream.end(driven.upstream.flight.generation, VITAL, OK, 40_000)
    assert 1 == driven.admitted(5, VITAL)


def test_requests_given_up_at_the_timeout_keep_their_place_until_the_upstream_had_time_for_them(driven):
    driven.upstream.adopt(PRESSED)
    driven.go(100)
    places = driven.admitted(100, VITAL)
    generation = driven.upstream.flight.generation
    for _ in range(places):
        driven.upstream.end(generation, VITAL, FAILED, 1_000_000)

    assert 0 == driven.admitted(5, VITAL), "the upstream may still be at it"
    driven.go(1_500)
    assert 0 < driven.admitted(100, VITAL)


def test_requests_that_fail_at_once_leave_no_dead_work(driven):
    driven.upstream.adopt(PRESSED)
    driven.go(100)
    places = driven.admitted(100, VITAL)
    for _ in range(places):
        driven.upstream.end(driven.upstream.flight.generation, VITAL, FAILED, 1_000)

    assert places == driven.admitted(100, VITAL)


def test_without_pressure_there_is_no_guard(driven):
    driven.upstream.adopt(Shared(at_ms=1.0, baseline_ms=40.0, peak=100.0))
    driven.go(300)

    assert driven.upstream.limits is None


def test_a_log_that_was_never_heard_switches_the_guard_off(driven):
    driven.upstream.adopt(PRESSED)
    driven.go(500, hears=False)

    assert driven.upstream.limits is None
    assert not driven.publish().is_logged


def test_an_end_counts_once_and_a_forged_one_never(driven):
    driven.admitted(1)
    generation = driven.upstream.flight.generation

    assert [True, False] == [driven.upstream.end(generation, STANDARD, OK, 1_000) for _ in range(2)]
    assert not driven.upstream.end(generation + 7, STANDARD, OK, 1_000)
    assert not driven.upstream.end(-1, STANDARD, FAILED, 1_000)
    report = driven.publish()
    assert (1, 0, 1) == (report.ok, report.failed, report.timed)


def test_what_outcomes_count_as(driven):
    driven.admitted(4)
    generation = driven.upstream.flight.generation
    for outcome, latency_us in ((OK, 300_000), (FAILED, 10_000), (OVERFLOW, 0), (IGNORED, 5_000)):
        assert driven.upstream.end(generation, STANDARD, outcome, latency_us)
    report = driven.publish()

    assert (1, 2, 1) == (report.ok, report.failed, report.slow), "slow is half the objective"
    assert (2, 310.0) == (report.timed, report.latency_ms), "an overflow took no time at the upstream"
    assert (0, 0, 0) == report.inflight


def test_a_latency_that_is_not_known_is_not_counted_as_nothing(driven):
    driven.admitted(2)
    for _ in range(2):
        driven.upstream.end(driven.upstream.flight.generation, STANDARD, OK, None)
    report = driven.publish()

    assert (2, 0, 0.0) == (report.ok, report.timed, report.latency_ms)


def test_a_slow_upstreams_answers_are_slow_only_at_twice_its_own_latency(driven):
    driven.upstream.adopt(Shared(baseline_ms=200.0))
    driven.admitted(2)
    for latency_us in (399_000, 401_000):
        driven.upstream.end(driven.upstream.flight.generation, STANDARD, OK, latency_us)

    assert 1 == driven.publish().slow


def test_a_withdrawal_takes_all_back_that_was_counted(driven):
    counts = driven.upstream.admit("a", STANDARD)
    assert counts is not None
    driven.upstream.withdraw("a", STANDARD, counts)
    report = driven.publish()

    assert (0, (0, 0, 0), ()) == (report.admitted, report.inflight, report.demands)
    driven.upstream.withdraw("a", STANDARD, counts)
    assert 0 == driven.upstream.flight.total, "once only"


def test_an_end_that_is_never_heard_costs_a_place_for_one_timeout(driven):
    driven.admitted(50)
    driven.go(1_000)
    assert 50 == driven.upstream.flight.total

    driven.go(600)
    assert 0 == driven.upstream.flight.total
    assert 50 == driven.upstream.flight.lost


def test_silence_with_requests_in_flight_is_blindness_and_the_guard_goes_off(driven):
    driven.go(1_000)
    driven.upstream.adopt(PRESSED)
    driven.admitted(MIN_BLIND + 1, VITAL)
    driven.go(900, hears=False)
    assert not driven.upstream.is_blind

    driven.go(300, hears=False)
    assert driven.upstream.is_blind
    assert driven.upstream.limits is None
    assert driven.publish().is_blind


def test_silence_says_nothing_while_little_is_in_flight_and_none_of_it_should_have_ended(driven):
    driven.go(1_000)
    driven.upstream.adopt(Shared(baseline_ms=5_000.0))
    driven.admitted(MIN_BLIND, VITAL)
    driven.go(1_200, hears=False)

    assert not driven.upstream.is_blind


def test_after_blindness_what_ended_unheard_is_no_longer_in_flight(driven):
    driven.go(1_000)
    for _ in range(12):
        driven.admitted(10)
        driven.go(100, hears=False)
    assert driven.upstream.is_blind

    driven.admitted(10)
    driven.go(100)
    assert not driven.upstream.is_blind
    assert driven.upstream.flight.total <= 40, "only the last moments' requests can still be on their way"


def test_a_report_covers_four_periods(driven):
    for _ in range(6):
        driven.admitted(10)
        driven.go(200)
        report = driven.publish()

    assert (800.0, 40) == (report.span_ms, report.admitted)
    assert (Demand("a", STANDARD, 50.0),) == report.demands


def test_an_upstream_nobody_asks_is_idle_after_a_while(driven):
    driven.admitted(1)
    driven.upstream.end(driven.upstream.flight.generation, STANDARD, OK, 1_000)
    assert not driven.upstream.is_idle

    for _ in range(6):
        driven.go(200)
        driven.publish()
    assert driven.upstream.is_idle


def test_an_instances_part_of_the_traffic_is_its_own_over_all(driven):
    assert 1.0 == driven.upstream.share, "alone until it hears of others"
    driven.upstream.adopt(Shared(instances=4))
    assert 0.25 == driven.upstream.share

    for _ in range(4):
        driven.admitted(20)
        driven.go(200)
        driven.publish()
    driven.upstream.adopt(Shared(offered=400.0, admitted=400.0, instances=4))
    assert 0.25 == pytest.approx(driven.upstream.share)


def test_an_instance_that_wakes_up_has_places(driven):
    driven.upstream.adopt(Shared(offered=400.0, admitted=400.0, instances=4))
    driven.go(200)
    driven.publish()

    assert MIN_SHARE / 2 == driven.upstream.share


def test_ends_heard_elsewhere_free_places(driven):
    driven.admitted(5)

    assert 3 == driven.upstream.ended_elsewhere(driven.upstream.flight.generation, STANDARD, 3)
    assert 2 == driven.upstream.ended_elsewhere(driven.upstream.flight.generation, STANDARD, 99)
    assert 0 == driven.upstream.flight.total


def test_another_instances_end_counts_as_an_outcome_and_takes_nothing_from_what_is_in_flight(driven):
    driven.admitted(1)
    driven.upstream.end(driven.upstream.flight.generation, STANDARD, OK, 1_000, ours=False)
    report = driven.publish()

    assert (1, (0, 1, 0), 1) == (report.ok, report.inflight, report.relayed)


def test_a_clock_that_goes_back_changes_nothing(driven):
    driven.go(1_000)
    driven.admitted(3)
    driven.upstream.tick(driven.hearing, 0.0, 0)

    assert 3 == driven.upstream.flight.total
    assert driven.upstream.publish(0).span_ms >= 1.0
