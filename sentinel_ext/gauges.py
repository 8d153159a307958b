"""Metrics that are read off the running parts when somebody scrapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentinel_ext.core.tenant import Tenants
    from sentinel_ext.engine import Engine
    from sentinel_ext.server.lean import LeanServer
    from sentinel_ext.store.base import Store
    from sentinel_ext.store.presence import Presence
    from sentinel_ext.telemetry.logging import LogWriter
    from sentinel_ext.telemetry.metrics import Metrics


def publish_wire(metrics: Metrics, server: LeanServer) -> None:
    """Publish what the lean server counts."""
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


def publish_gauges(
    metrics: Metrics, store: Store, presence: Presence, tenants: Tenants, engine: Engine, logs: LogWriter
) -> None:
    """Publish what the store, the engine and the log say of themselves."""
    gauge, total = metrics.gauge, metrics.counter_of
    gauge("sentinel_store_up", "1 while the store can be asked.", lambda: float(store.is_available()))
    gauge(
        "sentinel_instances",
        "Instances that share the store, as last heard.",
        lambda: float(presence.instances),
    )
    gauge("sentinel_tenants", "Tenants remembered by this instance.", lambda: float(len(tenants)))
    total("sentinel_tenants_evicted", "Tenants forgotten for others.", lambda: float(tenants.evicted))
    total("sentinel_checks_cancelled", "Checks the caller gave up.", lambda: float(engine.cancelled))
    total(
        "sentinel_log_lines_dropped",
        "Log lines lost to a full queue or to an output that takes none.",
        lambda: float(logs.dropped),
    )
