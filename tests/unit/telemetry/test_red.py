"""RED and SLO metrics: what counts, what is good, and how many series there can be."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sentinel_ext.core.decision import Reason
from sentinel_ext.core.ended import Outcome, Result
from sentinel_ext.core.model import Tier
from sentinel_ext.telemetry.labels import MAX_ROUTES
from sentinel_ext.telemetry.red import MAX_SERIES, LogCollector, Red

GET, POST = 1, 3
SLO_US = 200_000


def samples(*collectors) -> dict[str, float]:
    registry = CollectorRegistry()
    for collector in collectors:
        if isinstance(collector, Red):
            collector.register(registry)
        else:
            registry.register(collector)
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def requests(red: Red) -> dict[tuple[str, str, str], float]:
    return {key: count for key, (count,) in red._requests.items()}


def slo(red: Red, tier: Tier = Tier.VITAL) -> tuple[float, float]:
    found = samples(red)
    labels = f"[('tier', '{tier.value}')]"
    return found[f"sentinel_slo_good_total{labels}"], found[f"sentinel_slo_requests_total{labels}"]


@pytest.fixture
def red() -> Red:
    return Red()


def test_requests_count_by_method_route_and_status(red):
    red.request(GET, "orders", 200, 1_500)
    red.request(GET, "orders", 200, 2_000)
    red.request(POST, "", 0, None)
    red.request(77, "orders", 999, 1)

    assert {("GET", "orders", "200"): 2, ("POST", "unknown", "0"): 1, ("other", "orders", "other"): 1} == (
        requests(red)
    )


def test_durations_are_a_histogram_by_route(red):
    red.request(GET, "orders", 200, 1_500)
    red.request(GET, "orders", 503, 40_000_000)
    red.request(GET, "orders", 200, None)

    found = samples(red)
    name = "sentinel_http_request_duration_seconds"
    assert 2 == found[f"{name}_count[('route', 'orders')]"]
    assert 40.0015 == pytest.approx(found[f"{name}_sum[('route', 'orders')]"])
    assert 0 == found[f"{name}_bucket[('le', '0.001'), ('route', 'orders')]"]
    assert 1 == found[f"{name}_bucket[('le', '0.0025'), ('route', 'orders')]"]
    assert 1 == found[f"{name}_bucket[('le', '30.0'), ('route', 'orders')]"]


def test_routes_are_bounded(red):
    for number in range(MAX_ROUTES + 10):
        red.request(GET, f"route-{number}", 200, 1)
        red.request(GET, f"route-{number}", 200, 1)

    assert 20 == requests(red)["GET", "other", "200"]
    assert MAX_ROUTES + 1 == len(red._by_route)
    assert 20 == red.routes_left_out


def test_series_are_bounded_and_nothing_is_lost(red):
    count = 0
    for status in range(100, 600):
        for number in range(MAX_ROUTES):
            red.request(GET, f"route-{number}", status, 1)
            count += 1

    assert count == sum(requests(red).values())
    assert MAX_SERIES + 1 == len(requests(red))
    assert count - MAX_SERIES == requests(red)["other", "other", "other"]
    assert len(red._known) <= MAX_SERIES


@pytest.mark.parametrize(
    ("outcome", "latency_us", "expected"),
    [
        (Outcome.OK, 0, (1, 1)),
        (Outcome.OK, SLO_US, (1, 1)),
        (Outcome.OK, SLO_US + 1, (0, 1)),
        (Outcome.OK, None, (0, 0)),
        (Outcome.FAILED, 1, (0, 1)),
        (Outcome.FAILED, None, (0, 1)),
        (Outcome.OVERFLOW, 1, (0, 1)),
        (Outcome.IGNORED, SLO_US, (0, 0)),
        (Outcome.IGNORED, None, (0, 0)),
        # The client gave up on an answer that took too long.
        (Outcome.IGNORED, SLO_US + 1, (0, 1)),
    ],
)
def test_what_is_good(red, outcome, latency_us, expected):
    red.served(Tier.VITAL, outcome, latency_us, SLO_US)

    assert expected == slo(red)
    assert (0, 0) == slo(red, Tier.ECONOMY)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.LOCAL_RATE_LIMITED, (0, 0)),
        (Reason.RATE_LIMITED, (0, 0)),
        (Reason.SHED, (0, 1)),
        (Reason.CIRCUIT_OPEN, (0, 1)),
        (Reason.STORE_UNAVAILABLE, (0, 1)),
    ],
)
def test_a_tenants_own_quota_is_no_event_and_what_we_refuse_for_others_is(red, reason, expected):
    red.refused(Tier.VITAL, reason.value)

    assert expected == slo(red)


def test_every_tier_is_there_from_the_start(red):
    assert [(0, 0)] * 3 == [slo(red, tier) for tier in Tier]


class Counts:
    """A log service that heard something."""

    def __init__(self) -> None:
        self.streams, self.messages, self.garbled, self.anonymous = 2, 30, 1, 1
        self.results = {**dict.fromkeys(Result, 0), Result.COUNTED: 5}


def test_what_the_log_service_counts_is_published():
    found = samples(LogCollector(Counts()))

    assert 5 == found["sentinel_access_log_entries_total[('result', 'counted')]"]
    assert len(Result) == sum(name.startswith("sentinel_access_log_entries_total") for name in found)
    assert (2, 30, 1, 1) == (
        found["sentinel_access_log_streams[]"],
        found["sentinel_access_log_messages_total[]"],
        found["sentinel_access_log_garbled_messages_total[]"],
        found["sentinel_access_log_anonymous_streams_total[]"],
    )
