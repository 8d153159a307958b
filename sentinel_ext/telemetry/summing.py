"""The metrics of several workers as one: what a scrape of all of them shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.samples import Sample

    Key = tuple[str, tuple[tuple[str, str], ...]]

# Gauges whose sum would say nothing. Everything else adds up: counters, histograms, memory, CPU, tenants.
_JOINED_BY: dict[str, Callable[[float, float], float]] = {
    "sentinel_store_up": min,
    "sentinel_instances": max,
    # All workers see the same fleet; the one that sees it worst is the one to look at.
    "sentinel_pressure_global": max,
    "sentinel_pressure_local": max,
    "sentinel_pressure": max,
    "sentinel_pressure_signal": max,
    "sentinel_credit_requests_per_second": max,
    "sentinel_offered_requests_per_second": max,
    "sentinel_baseline_latency_seconds": max,
    "sentinel_access_log_cadence_seconds": max,
    "sentinel_blind": max,
    "sentinel_circuit_breaker_state": max,
    "sentinel_stage_mode": max,
    "sentinel_config_last_reload_ok": min,
    "sentinel_config_last_success_timestamp_seconds": min,
    "sentinel_config_generation": min,
    "sentinel_build_info": max,
    "python_info": max,
    "process_start_time_seconds": min,
    "process_max_fds": min,
}
# A series starts with the process: summed, these would be dates in the far future.
_LEFT_OUT = "_created"


class WorkerMetrics(Collector):
    """Adds the workers' expositions up; what an ended worker had counted stays counted.

    Without that a restart would look to Prometheus like a counter that was reset, and a rate over it would
    count all other workers' totals again.
    """

    def __init__(self, count: int) -> None:
        """Expect `count` workers."""
        self._last: list[dict[str, Metric]] = [{} for _ in range(count)]
        self._ended: list[dict[str, Metric]] = [{} for _ in range(count)]

    def update(self, worker: int, text: str) -> None:
        """Take a worker's exposition (Prometheus text format 0.0.4)."""
        self._last[worker] = {family.name: family for family in text_string_to_metric_families(text)}

    def ended(self, worker: int) -> None:
        """Keep what the worker had counted; its gauges end with it."""
        kept = [self._ended[worker], _accumulating(self._last[worker])]
        self._ended[worker] = {family.name: family for family in _summed(kept)}
        self._last[worker] = {}

    def collect(self) -> Iterator[Metric]:
        """Return the sum, as prometheus_client's Collector."""
        yield from _summed([*self._last, *self._ended])


def _accumulating(families: dict[str, Metric]) -> dict[str, Metric]:
    return {name: family for name, family in families.items() if family.type in {"counter", "histogram"}}


def _summed(sources: Sequence[dict[str, Metric]]) -> Iterable[Metric]:
    names = dict.fromkeys(name for source in sources for name in source)
    for name in names:
        found = [source[name] for source in sources if name in source]
        total = Metric(name, found[0].documentation, found[0].type)
        join = _JOINED_BY.get(name, float.__add__)
        values: dict[Key, float] = {}
        for sample in (sample for family in found for sample in family.samples):
            if not sample.name.endswith(_LEFT_OUT):
                key = _key(sample)
                value = float(sample.value)
                values[key] = join(values[key], value) if key in values else value
        for (sample_name, labels), value in values.items():
            total.add_sample(sample_name, dict(labels), value)
        yield total


def _key(sample: Sample) -> Key:
    return sample.name, tuple(sample.labels.items())
