"""Metrics of the lean server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentinel_ext.server.lean import LeanServer
    from sentinel_ext.telemetry.metrics import Metrics


def publish_wire(metrics: Metrics, server: LeanServer) -> None:
    """Join the metrics of the process."""
    gauge, total = metrics.gauge, metrics.counter_of
    gauge("sentinel_wire_connections", "Open connections.", lambda: float(server.connections))
    gauge(
        "sentinel_wire_in_flight",
        "Calls whose handler has not returned.",
        lambda: float(server.in_flight),
    )
    total("sentinel_wire_calls", "Calls given to a handler.", lambda: float(server.calls))
    total(
        "sentinel_wire_uncached_headers",
        "Header blocks that were not answered by the cache.",
        lambda: float(server.cache_misses),
    )
