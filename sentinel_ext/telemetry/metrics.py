"""Prometheus metrics. Every label has a fixed set of values: no tenant, path or key is ever a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from sentinel_ext import clock
from sentinel_ext.telemetry.hot import HotCounter, HotHistogram, HotHistograms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Metric

    from sentinel_ext.core.decision import Decision, StoreFault
    from sentinel_ext.core.timeline import Key

# From what a local decision takes (50 µs) to what a proxy's timeout cuts off.
DECISION_BUCKETS = (
    50e-6, 100e-6, 200e-6, 350e-6, 500e-6, 750e-6, 1e-3, 2e-3, 3.5e-3, 5e-3, 7.5e-3, 10e-3, 25e-3, 50e-3,
    100e-3, 250e-3, 1.0,
)  # fmt: skip
STORE_BUCKETS = (
    100e-6,
    200e-6,
    350e-6,
    500e-6,
    750e-6,
    1e-3,
    2e-3,
    3.5e-3,
    5e-3,
    10e-3,
    25e-3,
    50e-3,
    100e-3,
    250e-3,
)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

_NS = 1e-9


class Metrics:
    """The registry and what feeds it. Children are bound once per label set, not per request."""

    def __init__(self, version: str) -> None:
        """Make the metrics in a registry of their own."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        Info("sentinel_build", "Version of Sentinel.", registry=self.registry).info({"version": version})
        self._declare_decisions()
        self._declare_store()
        self._faults = 0
        self.counter_of(
            "sentinel_internal_errors", "Exceptions of Sentinel itself.", lambda: float(self._faults)
        )
        self._trips = Counter(
            "sentinel_wire_trips",
            "Limits against hostile or broken peers that tripped, by reason.",
            ["reason"],
            registry=self.registry,
        )

    def _declare_decisions(self) -> None:
        self._decisions = HotCounter(
            "sentinel_decisions",
            "Decisions by verdict (allow, deny), by the stage and reason that decided, and by tier.",
            ["verdict", "stage", "reason", "tier"],
        )
        self.registry.register(self._decisions)
        self._shadow = HotCounter(
            "sentinel_shadow_denials",
            "Requests that a stage in shadow mode would have refused.",
            ["stage", "reason", "tier"],
        )
        self.registry.register(self._shadow)
        self._allow_time, self._deny_time = HotHistogram(DECISION_BUCKETS), HotHistogram(DECISION_BUCKETS)
        self.registry.register(
            HotHistograms(
                "sentinel_decision_duration_seconds",
                "From the Check's arrival to its decision, the store's share included.",
                "verdict",
                {"allow": self._allow_time, "deny": self._deny_time},
            )
        )
        self._problems = Counter(
            "sentinel_identify_problems",
            "Tenant names that were ignored because they are too long or not printable.",
            ["source", "problem"],
            registry=self.registry,
        )

    def _declare_store(self) -> None:
        self._fallbacks = HotCounter(
            "sentinel_store_fallbacks",
            "Decisions made by a plan's on_store_failure because the store did not answer in time.",
            ["mode"],
        )
        self.registry.register(self._fallbacks)
        self._store_time = Histogram(
            "sentinel_store_duration_seconds",
            "One batched call to the store.",
            buckets=STORE_BUCKETS,
            registry=self.registry,
        )
        self._batch = Histogram(
            "sentinel_store_batch_entries",
            "Windows asked in one call to the store.",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self._store_errors = HotCounter(
            "sentinel_store_errors", "Calls to the store that failed, by fault.", ["fault"]
        )
        self.registry.register(self._store_errors)
        self._store_calls = 0

    def decided(self, decision: Decision, elapsed_ns: int) -> None:
        """Count a decision."""
        check = decision.check
        tier = check.tenant.plan.tier
        if decision.allowed:
            self._decisions.inc(("allow", decision.stage, decision.reason, tier))
            self._allow_time.observe(elapsed_ns * _NS)
        else:
            self._decisions.inc(("deny", decision.stage, decision.reason, tier))
            self._deny_time.observe(elapsed_ns * _NS)
        for denial in decision.shadow:
            self._shadow.inc((denial.stage, denial.reason, tier))
        if decision.fallback is not None:
            self._fallbacks.inc((decision.fallback,))
        if check.problem is not None:
            self._problems.labels(check.problem.source.kind.value, check.problem.problem).inc()

    def exemplify(self, decision: Decision, elapsed_ns: int) -> None:
        """Remember a sampled decision as an example of its bucket; an observer while tracing is on."""
        check = decision.check
        if check.trace is not None:
            ids = {"trace_id": check.trace.trace_id, "span_id": check.decision_id}
            times = self._allow_time if decision.allowed else self._deny_time
            times.exemplify(elapsed_ns * _NS, ids, clock.wall_s())

    @property
    def decision_count(self) -> int:
        """Decisions so far."""
        return sum(self._decisions.counts.values())

    def totals(self) -> dict[Key, int]:
        """Return what was counted so far, for core/timeline.py."""
        found: dict[Key, int] = {("store_call",): self._store_calls, ("fault",): self._faults}
        for kind, counter in (
            ("decision", self._decisions),
            ("shadow", self._shadow),
            ("fallback", self._fallbacks),
            ("store_error", self._store_errors),
        ):
            for key, count in counter.counts.items():
                found[kind, *key] = count
        return found

    def store_called(self, seconds: float, entries: int, fault: StoreFault | None) -> None:
        """Count a call to the store."""
        self._store_calls += 1
        self._store_time.observe(seconds)
        self._batch.observe(entries)
        if fault is not None:
            self._store_errors.inc((fault,))

    def failed(self) -> None:
        """Count an exception of our own."""
        self._faults += 1

    def wire_tripped(self, reason: str) -> None:
        """Count a limit of the wire that tripped; reasons are a fixed set of the wire's."""
        self._trips.labels(reason).inc()

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Publish a value that is read when scraped."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def counter_of(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Publish a running total that another object keeps."""
        self.registry.register(_Total(name, text, read))


class _Total(Collector):
    """A counter whose value lives elsewhere."""

    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._name, self._text, self._read = name, text, read

    def collect(self) -> Iterator[Metric]:
        """Read it, as prometheus_client's Collector."""
        yield CounterMetricFamily(self._name, self._text, value=self._read())
