"""What overload control knows, read when scraped: pressure, credit, breakers, what is in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sentinel_ext.core.breaker import CircuitState
from sentinel_ext.core.model import Tier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from sentinel_ext.core.circuit import Transition
    from sentinel_ext.core.controller import Controller, Protected

# As dashboards of other breakers number them.
STATE_NUMBERS = {CircuitState.CLOSED: 0, CircuitState.OPEN: 1, CircuitState.HALF_OPEN: 2}
_TIERS = tuple(tier.value for tier in Tier)


class LoadCollector(Collector):
    """Publishes a Controller. Upstreams are bounded by its table, so they may be labels."""

    def __init__(self, controller: Controller) -> None:
        """Read `controller` at each scrape."""
        self._controller = controller
        self._transitions: dict[tuple[str, str], int] = {}

    def changed(self, protected: Protected, transition: Transition) -> None:
        """Count a change of a breaker."""
        key = (protected.name, transition.after.value)
        self._transitions[key] = self._transitions.get(key, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """Read it, as prometheus_client's Collector."""
        controller = self._controller
        upstreams = list(controller.upstreams.values())
        yield GaugeMetricFamily(
            "sentinel_pressure_global",
            "Pressure over all upstreams by their traffic, and of the instances: 0 to 100.",
            value=controller.pressure,
        )
        yield GaugeMetricFamily(
            "sentinel_pressure_local", "Pressure of this instance itself: 0 to 100.", value=controller.local
        )
        yield GaugeMetricFamily(
            "sentinel_access_log_cadence_seconds",
            "Distance of access log messages; above 0.25 the control loop is too slow.",
            value=controller.hearing.flush_ms / 1000,
        )
        yield CounterMetricFamily(
            "sentinel_ends_dropped",
            "Ends heard for other instances that could not be passed on.",
            value=controller.dropped_ends,
        )
        yield self._signals(upstreams)
        yield from _by_upstream(upstreams)
        yield self._active(upstreams)
        yield _sheds(upstreams)
        yield from self._breakers(upstreams)

    def _signals(self, upstreams: list[Protected]) -> Metric:
        family = GaugeMetricFamily(
            "sentinel_pressure_signal",
            "The ramps behind pressure, 0 to 1; one that cannot be measured is absent. An empty upstream: of "
            "this instance itself.",
            labels=["upstream", "signal"],
        )
        for name, value in self._controller.local_signals.items():
            family.add_metric(["", name], value)
        for protected in upstreams:
            for name, value in protected.load.shared.signals.items():
                family.add_metric([protected.name, name], value)
        return family

    def _active(self, upstreams: list[Protected]) -> Metric:
        family = GaugeMetricFamily(
            "sentinel_active_requests",
            "Requests that this instance let pass and whose end it has not heard.",
            labels=["upstream", "tier"],
        )
        for protected in upstreams:
            for tier, count in zip(_TIERS, protected.load.flight.open, strict=True):
                family.add_metric([protected.name, tier], count)
        return family

    def _breakers(self, upstreams: list[Protected]) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            "sentinel_circuit_breaker_state",
            "The upstream's breaker: 0 closed, 1 open, 2 half-open.",
            labels=["upstream"],
        )
        stale = CounterMetricFamily(
            "sentinel_circuit_breaker_stale_results",
            "Results of an earlier epoch of the breaker, or of an unknown permit: not counted.",
            labels=["upstream"],
        )
        for protected in upstreams:
            if (circuit := protected.circuit) is not None:
                state.add_metric([protected.name], STATE_NUMBERS[circuit.state])
                stale.add_metric([protected.name], circuit.stale + circuit.unknown_permits)
        yield state
        yield stale
        changes = CounterMetricFamily(
            "sentinel_circuit_breaker_transitions",
            "Changes of breakers that this instance saw, by what they changed to.",
            labels=["upstream", "to"],
        )
        # increase() over a series that appears with its first event misses it, and most breakers trip once.
        none = {
            (each.name, to.value): 0 for each in upstreams if each.circuit is not None for to in CircuitState
        }
        for key, count in (none | self._transitions).items():
            changes.add_metric(list(key), count)
        yield changes


def _sheds(upstreams: list[Protected]) -> Metric:
    family = CounterMetricFamily(
        "sentinel_sheds",
        "Refusals of the tier stage: by the fair share, the in-flight guard, or this instance's own state.",
        labels=["upstream", "tier", "cause"],
    )
    for protected in upstreams:
        for (tier, cause), count in list(protected.sheds.items()):
            family.add_metric([protected.name, _TIERS[tier], cause.value], count)
    return family


def _by_upstream(upstreams: list[Protected]) -> Iterator[Metric]:
    """One gauge for each number of the shared state."""
    pressure = GaugeMetricFamily(
        "sentinel_pressure", "Pressure of an upstream: 0 to 100.", labels=["upstream"]
    )
    credit = GaugeMetricFamily(
        "sentinel_credit_requests_per_second",
        "What the upstream may get over all instances; absent while all may pass.",
        labels=["upstream"],
    )
    offered = GaugeMetricFamily(
        "sentinel_offered_requests_per_second",
        "What all instances were asked for: scale by this, not by what passed.",
        labels=["upstream"],
    )
    baseline = GaugeMetricFamily(
        "sentinel_baseline_latency_seconds", "Mean latency without load, as learned.", labels=["upstream"]
    )
    blind = GaugeMetricFamily(
        "sentinel_blind", "1 while access log entries should come and do not.", labels=["upstream"]
    )
    lost = CounterMetricFamily(
        "sentinel_requests_lost", "Requests whose end was never heard.", labels=["upstream"]
    )
    for protected in upstreams:
        load, shared = protected.load, protected.load.shared
        pressure.add_metric([protected.name], shared.pressure)
        if shared.credit is not None:
            credit.add_metric([protected.name], shared.credit)
        offered.add_metric([protected.name], shared.offered)
        baseline.add_metric([protected.name], shared.baseline_ms / 1000)
        blind.add_metric([protected.name], float(load.is_blind))
        lost.add_metric([protected.name], load.flight.lost)
    yield from (pressure, credit, offered, baseline, blind, lost)
