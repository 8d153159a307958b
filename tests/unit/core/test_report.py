"""Reports summed up: rates over different spans, blind instances, absent ones, bounds."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_ext.core.fill import Demand
from sentinel_ext.core.report import MAX_FILLED, Report, Shared, summed

counts = st.integers(0, 10**6)
reports = st.builds(
    Report,
    span_ms=st.one_of(st.just(0.0), st.floats(1.0, 1e7)),
    admitted=counts,
    ok=counts,
    failed=counts,
    slow=counts,
    timed=counts,
    latency_ms=st.floats(0.0, 1e12),
    inflight=st.tuples(counts, counts, counts),
    relayed=counts,
    demands=st.lists(
        st.builds(Demand, name=st.text("ab", max_size=2), tier=st.integers(0, 2), rate=st.floats(0.1, 1e6)),
        max_size=4,
    ).map(tuple),
    flush_ms=st.floats(10.0, 1_000.0),
    is_blind=st.booleans(),
    is_logged=st.booleans(),
    local=st.floats(0.0, 100.0),
)


def asks(*demands: Demand, span_ms: float = 1_000.0) -> Report:
    return Report(span_ms, demands=demands)


def test_counters_become_rates_over_each_reports_own_span():
    totals = summed(
        [
            Report(1_000.0, admitted=100, ok=90, failed=10, slow=5),
            Report(500.0, admitted=100, ok=90, failed=10, slow=5),
        ]
    )

    assert (300.0, 270.0, 30.0, 15.0) == (totals.admitted, totals.ok, totals.failed, totals.slow)
    assert (200, 300.0, 2) == (totals.ended, totals.completed, totals.instances)


def test_latency_is_the_mean_over_requests_and_not_over_instances():
    totals = summed([Report(1_000, timed=90, latency_ms=900), Report(1_000, timed=10, latency_ms=1_100)])

    assert 20.0 == pytest.approx(totals.mean_ms)


def test_what_was_offered_is_what_was_asked_for():
    totals = summed([asks(Demand("a", 0, 10.0)), asks(Demand("a", 0, 5.0), Demand("", 2, 7.0, 3))])

    assert 22.0 == totals.offered


@pytest.mark.parametrize("found", [[], [Report(0.0, admitted=10, ok=10)], [Report(-5.0, ok=10)]])
def test_no_report_or_one_of_no_time_is_no_rate(found):
    totals = summed(found)

    assert (0.0, 0.0, 0.0, 0.0) == (totals.offered, totals.admitted, totals.completed, totals.mean_ms)


def test_instances_that_see_stand_for_the_blind_ones():
    """Half of the traffic is unseen, so what was seen counts twice; what was admitted is known of both."""
    seen = Report(1_000, admitted=100, ok=80, inflight=(10, 0, 0), is_logged=True)
    totals = summed([seen, Report(1_000, admitted=100, ok=3, inflight=(900, 0, 0), is_blind=True)])

    assert (200.0, 160.0, 20, 0.5) == (totals.admitted, totals.ok, totals.inflight, totals.blind)


def test_all_blind_know_nothing_of_ends():
    totals = summed([Report(1_000, admitted=100, ok=50, inflight=(10, 0, 0), is_blind=True)] * 3)

    assert (300.0, 0.0, 0, 1.0) == (totals.admitted, totals.completed, totals.inflight, totals.blind)


def test_scaling_stands_for_instances_that_cannot_be_heard_but_invents_no_samples():
    report = Report(1_000, admitted=50, ok=50, timed=50, latency_ms=500, inflight=(1, 2, 3),
                    demands=(Demand("a", 1, 60.0, 2.0),))  # fmt: skip
    totals = summed([report], scale=4.0)

    assert (240.0, 200.0, 200.0, 24) == (totals.offered, totals.admitted, totals.ok, totals.inflight)
    assert (50, 50, 10.0) == (totals.ended, totals.timed, totals.mean_ms)
    assert (Demand("a", 1, 240.0, 2.0),) == totals.demands


def test_ends_told_by_others_are_not_in_flight_any_more_and_never_less_than_nothing():
    assert 7 == summed([Report(1_000, inflight=(10, 0, 0)), Report(1_000, relayed=3)]).inflight
    assert 0 == summed([Report(1_000, inflight=(1, 0, 0), relayed=99)]).inflight


def test_the_pressure_of_instances_counts_by_their_traffic():
    sick, well = Demand("a", 0, 10.0), Demand("a", 0, 90.0)
    totals = summed([Report(1_000, demands=(sick,), local=100), Report(1_000, demands=(well,), local=0)])

    assert 10.0 == pytest.approx(totals.local)


def test_the_slowest_log_counts():
    assert 250.0 == summed([Report(1_000, flush_ms=100), Report(1_000, flush_ms=250)]).flush_ms


def test_demands_of_a_tenant_add_up_over_instances():
    totals = summed([asks(Demand("a", 0, 10.0, 2, 5)), asks(Demand("a", 0, 5.0, 2, 5), Demand("b", 1, 1.0))])

    assert (Demand("a", 0, 15.0, 2, 5), Demand("b", 1, 1.0)) == totals.demands


def test_the_rest_of_a_tier_adds_up_but_its_weight_does_not():
    """Instances mostly see the same tenants."""
    totals = summed([asks(Demand("", 1, 10.0, 7)), asks(Demand("", 1, 5.0, 4)), asks(Demand("", 2, 1.0, 3))])

    assert (Demand("", 1, 15.0, 7), Demand("", 2, 1.0, 3)) == totals.demands


def test_beyond_the_bound_the_least_busy_count_with_the_rest_of_their_tier():
    named = [asks(Demand(f"t{n:03}", n % 3, 1_000.0 - n)) for n in range(MAX_FILLED + 6)]
    demands = summed(named).demands

    assert MAX_FILLED == sum(bool(demand.name) for demand in demands)
    assert [0, 1, 2] == [demand.tier for demand in demands if not demand.name]
    assert [2.0, 2.0, 2.0] == [demand.weight for demand in demands if not demand.name]
    assert sum(1_000.0 - n for n in range(MAX_FILLED + 6)) == pytest.approx(sum(d.rate for d in demands))


@given(st.lists(reports, max_size=5), st.floats(1.0, 50.0))
def test_whatever_is_reported_totals_are_never_negative_and_shares_are_shares(found, scale):
    totals = summed(found, scale)

    assert 0.0 <= totals.blind <= 1.0 + 1e-9
    assert 0.0 <= totals.local <= 100.0 * (1 + 1e-9)
    assert min(totals.offered, totals.admitted, totals.ok, totals.failed, totals.mean_ms) >= 0.0
    assert totals.inflight >= 0
    assert all(demand.rate > 0 for demand in totals.demands)


def test_a_shared_state_travels_and_what_is_not_set_takes_no_room():
    state = Shared(pressure=50.0, credit=100.0, shares={"a": 0.5}, peaks=((1, 2.0),), history=((1.0, 2),))

    assert state == msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=Shared)
    assert len(msgspec.msgpack.encode(Shared())) <= 3
