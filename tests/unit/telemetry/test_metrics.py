"""What Prometheus reads: bounded labels, honest buckets, and text that its own parsers take."""

from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from support.build import HEADER, make_check, make_decision, make_denial, make_plan, make_tenant

from sentinel_ext.core.decision import Reason, ShadowDenial, StoreFault
from sentinel_ext.core.identify import NameProblem
from sentinel_ext.core.model import FailureMode, Stage, Tier
from sentinel_ext.telemetry.hot import HotHistogram, HotHistograms
from sentinel_ext.telemetry.metrics import BATCH_BUCKETS, DECISION_BUCKETS, STORE_BUCKETS, Metrics

US = 1_000
SHADOW = (ShadowDenial(Stage.BUCKET, Reason.LOCAL_RATE_LIMITED),)
DURATION = "sentinel_decision_duration_seconds"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


def exposition(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def samples(metrics: Metrics) -> dict[str, float]:
    """Samples by `name{label=value,...}`, as parsed by prometheus_client."""
    found = {}
    for family in text_string_to_metric_families(exposition(metrics)):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert key not in found, "a series twice"
            found[key] = sample.value
    return found


def check_of(number: int, tier: Tier = Tier.STANDARD):
    """A request that is unlike all others in everything a client or a file can choose."""
    plan = make_plan(f"plan-{number}", tier=tier, limit=number)
    return make_check(
        make_tenant(plan, f"tenant-{number}"),
        upstream=f"upstream-{number}",
        correlation_id=f"corr-{number}",
        decision_id=f"{number:016x}",
    )


def test_ten_thousand_tenants_make_no_series_of_their_own(metrics):
    def one_of_each(number: int) -> None:
        check = check_of(number)
        metrics.decided(make_decision(check=check, limit=number), number)
        metrics.decided(make_denial(check=check, limit=number), number)
        metrics.decided(make_decision(check=check, shadow=SHADOW, fallback=FailureMode.OPEN), number)

    one_of_each(0)
    before = set(samples(metrics))

    for number in range(1, 10_001):
        one_of_each(number)

    assert before == set(samples(metrics))
    assert not re.search(r"(tenant|plan|upstream|corr)-\d", exposition(metrics))


# What stages can say (DESIGN §3): a refusal has the reasons of its stage, a pass names the last stage asked.
REFUSALS = {
    Stage.BUCKET: (Reason.LOCAL_RATE_LIMITED,),
    Stage.WINDOW: (Reason.RATE_LIMITED, Reason.STORE_UNAVAILABLE),
    Stage.PRESSURE: (Reason.SHED,),
    Stage.BREAKER: (Reason.CIRCUIT_OPEN,),
}
PASSES = (Stage.IDENTIFY, Stage.BUCKET, Stage.WINDOW, Stage.BREAKER)
# Each refusal as itself and as a shadow of itself, and each pass, for each tier; a counter has two samples.
DECISION_SERIES = 2 * len(Tier) * (2 * sum(map(len, REFUSALS.values())) + len(PASSES))
# Histograms, modes, faults and what is published once; none of them has a label that multiplies another's.
OTHER_SERIES = 120


def test_every_word_of_every_label_together_stays_small(metrics):
    """Every refusal and pass that stages can make, for every tier and failure mode: what labels grow to."""
    assert {Reason.ALLOWED, *(reason for reasons in REFUSALS.values() for reason in reasons)} == set(Reason)
    for tier in Tier:
        check = make_check(make_tenant(make_plan(tier=tier)), problem=NameProblem(HEADER, "too_long"))
        for stage in PASSES:
            for mode in FailureMode:
                metrics.decided(make_decision(check=check, stage=stage, fallback=mode), 1)
        for stage, reasons in REFUSALS.items():
            for reason in reasons:
                shadow = (ShadowDenial(stage, reason),)
                metrics.decided(make_decision(check=check, shadow=shadow), 1)
                metrics.decided(make_decision(allowed=False, check=check, stage=stage, reason=reason), 1)

    found = [name for name in samples(metrics) if name.startswith("sentinel_")]
    decisions = [n for n in found if n.startswith(("sentinel_decisions_", "sentinel_shadow_denials_"))]
    assert len(decisions) <= DECISION_SERIES
    assert len(found) - len(decisions) < OTHER_SERIES


@pytest.mark.parametrize(
    ("decision", "labels"),
    [
        (make_decision(), "reason=allowed,stage=window,tier=standard,verdict=allow"),
        (
            make_denial(Reason.LOCAL_RATE_LIMITED),
            "reason=local_rate_limited,stage=bucket,tier=standard,verdict=deny",
        ),
        (
            make_denial(check=check_of(1, Tier.VITAL)),
            "reason=rate_limited,stage=window,tier=vital,verdict=deny",
        ),
    ],
    ids=["allow", "bucket", "window"],
)
def test_a_decision_is_counted_once_under_its_own_words(metrics, decision, labels):
    metrics.decided(decision, 1)

    counted = {n: v for n, v in samples(metrics).items() if n.startswith("sentinel_decisions_total")}
    assert {f"sentinel_decisions_total{{{labels}}}": 1} == counted


def test_fallbacks_shadow_denials_problems_and_faults_are_counted(metrics):
    check = make_check(problem=NameProblem(HEADER, "not_printable"))
    metrics.decided(make_decision(check=check, shadow=SHADOW * 2, fallback=FailureMode.LOCAL), 1)
    metrics.failed()

    found = samples(metrics)
    assert 2 == found["sentinel_shadow_denials_total{reason=local_rate_limited,stage=bucket,tier=standard}"]
    assert 1 == found["sentinel_store_fallbacks_total{mode=local}"]
    assert 1 == found["sentinel_identify_problems_total{problem=not_printable,source=header}"]
    assert 1 == found["sentinel_internal_errors_total"]


def test_a_usual_decision_counts_none_of_that(metrics):
    metrics.decided(make_decision(), 1)

    counted = {name for name, value in samples(metrics).items() if "_total" in name and value}
    ours = {name for name in counted if name.startswith("sentinel_")}
    assert {"sentinel_decisions_total{reason=allowed,stage=window,tier=standard,verdict=allow}"} == ours


# --- Buckets ---


@pytest.mark.parametrize("bounds", [DECISION_BUCKETS, STORE_BUCKETS, BATCH_BUCKETS])
def test_bounds_ascend(bounds):
    assert sorted(set(bounds)) == list(bounds)


def test_decisions_are_told_apart_from_50_us_on():
    assert 50e-6 == DECISION_BUCKETS[0]


@pytest.mark.parametrize(
    ("elapsed_ns", "first_bucket"),
    [(0, "5e-05"), (50 * US, "5e-05"), (50 * US + 1, "0.0001"), (100 * US, "0.0001"), (10**9, "1.0"),
     (10**9 + 1, "+Inf")],
)  # fmt: skip
@pytest.mark.parametrize(("decision", "verdict"), [(make_decision(), "allow"), (make_denial(), "deny")])
def test_a_duration_falls_into_the_bucket_that_reaches_it(
    metrics, decision, verdict, elapsed_ns, first_bucket
):
    metrics.decided(decision, elapsed_ns)

    found = samples(metrics)
    bounds = [*map(str, DECISION_BUCKETS), "+Inf"]
    counts = [found[f"{DURATION}_bucket{{le={bound},verdict={verdict}}}"] for bound in bounds]
    at = bounds.index(first_bucket)
    assert [0] * at + [1] * (len(bounds) - at) == counts
    assert 1 == found[f"{DURATION}_count{{verdict={verdict}}}"]
    assert elapsed_ns * 1e-9 == pytest.approx(found[f"{DURATION}_sum{{verdict={verdict}}}"])
    other = "deny" if verdict == "allow" else "allow"
    assert 0 == found[f"{DURATION}_count{{verdict={other}}}"]


def test_our_histogram_exposes_what_prometheus_own_would():
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = HotHistogram(DECISION_BUCKETS)
    ours.register(HotHistograms("seconds", "Time.", "verdict", {"allow": mine}))
    reference = Histogram("seconds", "Time.", ["verdict"], buckets=DECISION_BUCKETS, registry=theirs)
    for value in [0.0, *DECISION_BUCKETS, *(bound * 1.5 for bound in DECISION_BUCKETS), 99.0]:
        mine.observe(value)
        reference.labels("allow").observe(value)

    def lines(registry: CollectorRegistry) -> list[str]:
        return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]

    assert lines(theirs) == lines(ours)


# --- The store ---


def test_store_errors_are_counted_by_fault(metrics):
    for times, fault in enumerate(StoreFault, start=1):
        for _ in range(times):
            metrics.store_called(0.004, 3, fault)

    found = samples(metrics)
    for times, fault in enumerate(StoreFault, start=1):
        assert times == found[f"sentinel_store_errors_total{{fault={fault.value}}}"]


def test_a_call_that_worked_is_no_error_but_is_measured(metrics):
    metrics.store_called(0.004, 3, None)
    metrics.store_called(0.004, 512, StoreFault.TIMEOUT)

    found = samples(metrics)
    assert 1 == sum(value for name, value in found.items() if name.startswith("sentinel_store_errors_total"))
    assert 2 == found["sentinel_store_duration_seconds_count"]
    assert 0 == found["sentinel_store_duration_seconds_bucket{le=0.0035}"]
    assert 2 == found["sentinel_store_duration_seconds_bucket{le=0.005}"]
    assert 515 == found["sentinel_store_batch_entries_sum"]
    assert 1 == found["sentinel_store_batch_entries_bucket{le=4.0}"]


# --- The exposition ---


def filled(metrics: Metrics) -> Metrics:
    metrics.decided(make_decision(shadow=SHADOW, fallback=FailureMode.OPEN), 80 * US)
    metrics.decided(make_denial(check=make_check(problem=NameProblem(HEADER, "too_long"))), 80 * US)
    metrics.store_called(0.001, 2, StoreFault.ERROR)
    metrics.failed()
    metrics.gauge("sentinel_store_up", "1 while the store can be asked.", lambda: 1.0)
    metrics.counter_of("sentinel_tenants_evicted", "Tenants forgotten for others.", lambda: 7.0)
    return metrics


def test_both_formats_parse_and_say_the_same(metrics):
    filled(metrics)
    openmetrics = generate_openmetrics(metrics.registry).decode()

    def values(families) -> dict[tuple[str, str], float]:
        return {
            (sample.name, str(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith("sentinel_") and not sample.name.endswith("_created")
        }

    plain = values(text_string_to_metric_families(exposition(metrics)))
    assert plain
    assert plain == values(parse_openmetrics(openmetrics))


def test_every_metric_says_what_it_is(metrics):
    families = list(text_string_to_metric_families(exposition(filled(metrics))))
    ours = [family for family in families if family.name.startswith("sentinel_")]

    assert len(ours) > 10
    assert all(family.documentation.endswith(".") for family in ours), "one sentence each"
    assert all(family.type != "unknown" for family in ours)
    assert all(re.match("sentinel_|process_|python_", family.name) for family in families)


def test_the_version_is_told(metrics):
    assert 1 == samples(metrics)["sentinel_build_info{version=1.2.3}"]


def test_what_others_keep_is_read_at_each_scrape(metrics):
    values = {"up": 1.0, "evicted": 2.0}
    metrics.gauge("sentinel_store_up", "Up.", lambda: values["up"])
    metrics.counter_of("sentinel_tenants_evicted", "Evicted.", lambda: values["evicted"])
    first = samples(metrics)

    values.update(up=0.0, evicted=5.0)

    second = samples(metrics)
    assert (1, 0) == (first["sentinel_store_up"], second["sentinel_store_up"])
    assert (2, 5) == (first["sentinel_tenants_evicted_total"], second["sentinel_tenants_evicted_total"])


def test_two_instances_in_one_process_count_apart():
    one, other = Metrics("1"), Metrics("2")

    one.failed()

    assert (1, 0) == tuple(samples(each)["sentinel_internal_errors_total"] for each in (one, other))
