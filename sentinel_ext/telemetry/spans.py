"""Metrics of tracing: what became of spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import Metric


class SpanCounts(Protocol):
    """What the exporter's queue keeps count of."""

    exported: int
    failures: int

    @property
    def dropped(self) -> Mapping[Any, int]:
        """Lost spans by why."""
        ...

    @property
    def waiting(self) -> int:
        """Spans in the queue."""
        ...


class SpanCollector(Collector):
    """Publishes a SpanPipe."""

    def __init__(self, counts: SpanCounts, reasons: tuple[str, ...]) -> None:
        """Read `counts` at each scrape; every one of `reasons` is a series from the start."""
        self._counts, self._reasons = counts, reasons

    def collect(self) -> Iterator[Metric]:
        """Read it, as prometheus_client's Collector."""
        counts = self._counts
        yield CounterMetricFamily(
            "sentinel_spans_exported", "Spans that the collector took.", value=counts.exported
        )
        yield CounterMetricFamily(
            "sentinel_span_export_failures", "Batches of spans that could not be sent.", value=counts.failures
        )
        dropped = CounterMetricFamily(
            "sentinel_spans_dropped",
            "Spans that were lost: queue_full, export_failed, shutdown, fault.",
            labels=["reason"],
        )
        for reason in self._reasons:
            dropped.add_metric([reason], counts.dropped.get(reason, 0))
        yield dropped
        yield GaugeMetricFamily("sentinel_spans_waiting", "Spans in the queue.", value=counts.waiting)
