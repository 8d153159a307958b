"""Several workers' expositions as one."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text

from sentinel_ext.telemetry.hot import HotHistogram, HotHistograms
from sentinel_ext.telemetry.summing import WorkerMetrics


def exposition(counted: int, up: int = 1, seconds: float = 0.5) -> str:
    registry = CollectorRegistry()
    counter = Counter("sentinel_decisions", "Decisions.", ["verdict"], registry=registry)
    counter.labels("allow").inc(counted)
    Gauge("sentinel_store_up", "Up.", registry=registry).set(up)
    Gauge("sentinel_tenants", "Tenants.", registry=registry).set(counted)
    Gauge("sentinel_instances", "Instances.", registry=registry).set(counted)
    Gauge("sentinel_pressure_global", "Pressure.", registry=registry).set(counted)
    Gauge("sentinel_access_log_streams", "Streams.", registry=registry).set(counted)
    Histogram("sentinel_seconds", "Time.", buckets=(0.1, 1.0), registry=registry).observe(seconds)
    return generate_latest(registry).decode()


def samples(metrics: WorkerMetrics) -> dict[str, float]:
    found = {}
    for family in metrics.collect():
        for sample in family.samples:
            found[f"{sample.name}{sorted(sample.labels.values())}"] = sample.value
    return found


@pytest.fixture
def both() -> WorkerMetrics:
    metrics = WorkerMetrics(2)
    metrics.update(0, exposition(3, up=1, seconds=0.05))
    metrics.update(1, exposition(5, up=0, seconds=0.5))
    return metrics


def test_counters_histograms_and_sizes_add_up(both):
    found = samples(both)

    assert 8 == found["sentinel_decisions_total['allow']"]
    assert (1, 2, 2) == tuple(found[f"sentinel_seconds_bucket['{le}']"] for le in ("0.1", "1.0", "+Inf"))
    assert (2, 0.55) == (found["sentinel_seconds_count[]"], pytest.approx(found["sentinel_seconds_sum[]"]))
    assert (8, 8) == (found["sentinel_tenants[]"], found["sentinel_access_log_streams[]"])


def test_what_cannot_be_added_is_joined_by_its_meaning(both):
    found = samples(both)

    assert 0 == found["sentinel_store_up[]"]  # one worker without its store is worth an alert
    assert (5, 5) == (found["sentinel_instances[]"], found["sentinel_pressure_global[]"])


def test_a_later_exposition_replaces_the_earlier(both):
    both.update(1, exposition(6))

    assert 9 == samples(both)["sentinel_decisions_total['allow']"]


def test_what_an_ended_worker_had_counted_stays_and_its_gauges_go(both):
    both.ended(1)

    found = samples(both)
    assert 8 == found["sentinel_decisions_total['allow']"]
    assert 2 == found["sentinel_seconds_count[]"]
    assert 3 == found["sentinel_tenants[]"]
    assert 1 == found["sentinel_store_up[]"]


def test_no_number_of_restarts_takes_counts_back_or_doubles_them(both):
    for restart in range(1, 6):
        both.ended(1)
        both.update(1, exposition(1))
        assert 3 + 5 + restart == samples(both)["sentinel_decisions_total['allow']"]


def test_an_end_without_a_word_changes_nothing(both):
    both.ended(1)
    both.ended(1)

    assert 8 == samples(both)["sentinel_decisions_total['allow']"]


def test_before_any_worker_spoke_there_is_nothing():
    assert {} == samples(WorkerMetrics(3))


def test_the_sum_can_be_exposed_and_read_again(both):
    again = WorkerMetrics(1)
    again.update(0, generate_latest(both).decode())

    assert samples(both) == samples(again)


def openmetrics(trace_id: str, at_s: float, count: int = 1) -> str:
    registry = CollectorRegistry()
    times = HotHistogram((0.1, 1.0))
    for _ in range(count):
        times.observe(0.05)
    times.exemplify(0.05, {"trace_id": trace_id}, at_s)
    registry.register(HotHistograms("sentinel_seconds", "Time.", "verdict", {"allow": times}))
    Info("sentinel_build", "Version.", registry=registry).info({"version": "1"})
    return openmetrics_text(registry).decode()


def test_of_exemplars_the_youngest_stays_and_counts_still_add_up():
    metrics = WorkerMetrics(2)
    metrics.update(0, openmetrics("older", 10.0, count=2), is_openmetrics=True)
    metrics.update(1, openmetrics("younger", 20.0, count=3), is_openmetrics=True)
    found = [sample for family in metrics.collect() for sample in family.samples]

    first = next(sample for sample in found if sample.labels.get("le") == "0.1")
    assert (5, "younger") == (first.value, first.exemplar.labels["trace_id"])
    assert [1] == [sample.value for sample in found if sample.name == "sentinel_build_info"]
    metrics.ended(1)
    registry = CollectorRegistry()
    registry.register(metrics)
    assert "younger" in openmetrics_text(registry).decode()
    assert "sentinel_seconds_count" in generate_latest(registry).decode()
