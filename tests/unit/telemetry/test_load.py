"""What Prometheus reads of overload control: the states by number, absent where nothing is known, bounded."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.build import make_policy
from support.overload import START_NS, UP, end_of, make_controller, ms, opened, see, trying

from sentinel_ext.core.breaker import CircuitState, Force, View
from sentinel_ext.core.circuit import Transition
from sentinel_ext.core.controller import MAX_UPSTREAMS, Controller
from sentinel_ext.core.policy import UpstreamRules
from sentinel_ext.core.report import Shared
from sentinel_ext.core.signals import LocalSignals
from sentinel_ext.telemetry.load import STATE_NUMBERS, LoadCollector
from sentinel_ext.telemetry.summing import WorkerMetrics


@pytest.fixture
def controller() -> Controller:
    return make_controller()


def samples(loads: Controller | LoadCollector) -> dict[str, float]:
    """Samples by `name{label=value,...}`, as prometheus_client's own parser reads the exposition."""
    registry = CollectorRegistry()
    registry.register(LoadCollector(loads) if isinstance(loads, Controller) else loads)
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        assert family.documentation.endswith("."), family.name
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_with_nothing_known_only_the_instance_is_told(controller):
    assert {
        "sentinel_pressure_global": 0,
        "sentinel_pressure_local": 0,
        "sentinel_access_log_cadence_seconds": 0.1,
        "sentinel_ends_dropped_total": 0,
    } == samples(controller)


def test_the_shared_state_is_told_by_upstream(controller):
    load = controller.upstream("orders").load
    load.adopt(
        Shared(pressure=71.5, credit=900.0, offered=1_200.0, baseline_ms=12.5, signals={"latency": 0.25})
    )

    found = samples(controller)

    assert (71.5, 71.5, 900, 1_200, 0.0125, 0.25, 0) == (
        found["sentinel_pressure_global"],
        found["sentinel_pressure{upstream=orders}"],
        found["sentinel_credit_requests_per_second{upstream=orders}"],
        found["sentinel_offered_requests_per_second{upstream=orders}"],
        found["sentinel_baseline_latency_seconds{upstream=orders}"],
        found["sentinel_pressure_signal{signal=latency,upstream=orders}"],
        found["sentinel_blind{upstream=orders}"],
    )


def test_while_all_may_pass_there_is_no_credit(controller):
    controller.upstream("orders").load.adopt(Shared(credit=None))

    assert not [name for name in samples(controller) if name.startswith("sentinel_credit")]


def test_the_instance_s_own_signals_have_no_upstream_and_what_cannot_be_measured_is_absent(controller):
    controller.tick(LocalSignals(loop_lag_ms=200.0, cpu=0.85), ms(100))

    found = samples(controller)

    signals = {name: value for name, value in found.items() if "signal" in name}
    assert {
        "sentinel_pressure_signal{signal=loop_lag,upstream=}": 1,
        "sentinel_pressure_signal{signal=cpu,upstream=}": pytest.approx(0.5),
    } == signals
    assert 100 == found["sentinel_pressure_local"] == found["sentinel_pressure_global"]


def test_what_is_in_flight_is_told_by_tier_and_what_was_never_heard_is_lost(controller):
    load = controller.upstream(UP).load
    for tier in (0, 1, 1):
        load.admit("acme", tier)
    found = samples(controller)
    assert [1, 2, 0] == [
        found[f"sentinel_active_requests{{tier={tier},upstream={UP}}}"]
        for tier in ("vital", "standard", "economy")
    ]

    for second in range(1, 4):
        controller.tick(LocalSignals(), ms(1_000 * second))

    found = samples(controller)
    assert (0, 3) == (
        found[f"sentinel_active_requests{{tier=standard,upstream={UP}}}"],
        found[f"sentinel_requests_lost_total{{upstream={UP}}}"],
    )


@pytest.mark.parametrize(
    ("view", "number"), [(View(), 0), (opened(), 1), (trying(), 2)], ids=["closed", "open", "half-open"]
)
def test_the_state_of_a_breaker_is_a_number(controller, view, number):
    see(controller, view)

    assert number == samples(controller)[f"sentinel_circuit_breaker_state{{upstream={UP}}}"]


def test_every_state_has_a_number():
    assert {0, 1, 2} == set(STATE_NUMBERS.values())
    assert set(CircuitState) == set(STATE_NUMBERS)


def test_an_upstream_without_a_breaker_has_no_state():
    controller = make_controller(make_policy(default_upstream=UpstreamRules(breaker=None)))
    controller.upstream(UP)

    assert not [name for name in samples(controller) if "circuit_breaker" in name]


def test_results_that_do_not_count_are_counted(controller):
    see(controller, View(epoch=5))
    controller.ended(end_of("i2.1.3"), START_NS)
    see(controller, trying())
    load = controller.upstream(UP).load
    load.admit("acme", 1)
    controller.ended(end_of(f"{controller.upstream(UP).ticket}.invented"), START_NS)

    assert 2 == samples(controller)[f"sentinel_circuit_breaker_stale_results_total{{upstream={UP}}}"]


def test_changes_are_counted_by_what_they_changed_to_from_nothing_on(controller):
    """An increase over a series that begins with its first change would miss that change."""
    loads, protected = LoadCollector(controller), controller.upstream(UP)

    def told() -> dict[str, float]:
        return {name: value for name, value in samples(loads).items() if "transitions" in name}

    def expected(**counts: int) -> dict[str, int]:
        return {
            f"sentinel_circuit_breaker_transitions_total{{to={to},upstream={UP}}}": count
            for to, count in counts.items()
        }

    assert expected(closed=0, open=0, half_open=0) == told()
    for after in (CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.OPEN):
        loads.changed(protected, Transition(CircuitState.CLOSED, after, 1, None, 0, Force.AUTO, False))

    assert expected(closed=0, open=2, half_open=1) == told()


def test_ends_that_found_no_place_are_counted(controller):
    controller.dropped_ends = 7

    assert 7 == samples(controller)["sentinel_ends_dropped_total"]


def test_series_are_bounded_by_the_table_of_upstreams(controller):
    controller.upstream(UP)
    of_one = len([name for name in samples(controller) if "upstream=" in name])
    for number in range(2 * MAX_UPSTREAMS):
        controller.upstream(f"u{number}")

    assert of_one * MAX_UPSTREAMS == len([name for name in samples(controller) if "upstream=" in name])


def test_of_several_workers_only_what_is_in_flight_adds_up(controller):
    """The rest is what all know together, or a ramp: two workers do not press twice as hard."""
    protected = controller.upstream(UP)
    protected.load.admit("acme", 1)
    protected.load.adopt(
        Shared(pressure=60.0, credit=90.0, offered=120.0, baseline_ms=40.0, signals={"queue": 0.4})
    )
    controller.tick(LocalSignals(loop_lag_ms=110.0), ms(100))
    registry = CollectorRegistry()
    registry.register(LoadCollector(controller))
    text = generate_latest(registry).decode()
    one, two = WorkerMetrics(1), WorkerMetrics(2)
    for worker, workers in ((0, one), (0, two), (1, two)):
        workers.update(worker, text)

    gauges = {family.name: family for family in one.collect() if family.type == "gauge"}
    joined = {family.name: family for family in two.collect()}

    assert len(gauges) > 8
    for name, family in gauges.items():
        times = 2 if name == "sentinel_active_requests" else 1
        expected = [(sample.labels, times * sample.value) for sample in family.samples]
        assert expected == [(sample.labels, sample.value) for sample in joined[name].samples], name
