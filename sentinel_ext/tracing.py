"""Tracing, wired: who is sampled, what is recorded, and its way to a collector (docs/tracing.md)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sentinel_ext import clock
from sentinel_ext.core.identify import Identifier
from sentinel_ext.core.pipeline import Pipeline
from sentinel_ext.core.trace import Sampler
from sentinel_ext.core.traced import TracedPipeline
from sentinel_ext.core.traced_identify import TracingIdentifier
from sentinel_ext.services.ratelimit_traced import Tracing as LimitTracing
from sentinel_ext.telemetry.redaction import Redactor
from sentinel_ext.telemetry.spans import SpanCollector
from sentinel_ext.telemetry.tracing.intact import ensure_intact, sdk_settings
from sentinel_ext.telemetry.tracing.pipe import Dropped, SpanPipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc
    from opentelemetry.sdk.trace import ReadableSpan

    from sentinel_ext.core.controller import Controller
    from sentinel_ext.core.decision import Decision
    from sentinel_ext.core.identify import Check
    from sentinel_ext.core.policy import Policy, Source
    from sentinel_ext.core.trace import Trace, Value
    from sentinel_ext.engine import Observer
    from sentinel_ext.settings import Settings
    from sentinel_ext.settings_tracing import TracingOptions
    from sentinel_ext.telemetry.metrics import Metrics
    from sentinel_ext.telemetry.tracing.spans import Decided, Limited

logger = logging.getLogger("sentinel.tracing")


class NoTracing:
    """Tracing while it is off: everything is as if it did not exist.

    Attributes:
        is_on: decisions may be sampled.
        observers: of decisions.
        limits: for the rate limit service; None while off.
        interceptors: for grpcio's servers.
    """

    is_on: bool = False
    observers: Sequence[Observer] = ()
    limits: LimitTracing | None = None
    interceptors: Sequence[grpc.aio.ServerInterceptor[Any, Any]] = ()

    def identifier(self, sources: tuple[Source, ...]) -> Identifier:
        """Make the identifier of a policy."""
        return Identifier(sources, clock.random_hex)

    def pipeline(self, policy: Policy, controller: Controller) -> Pipeline:
        """Make the pipeline of a policy."""
        return Pipeline(policy, controller)

    def given_up(self, check: Check) -> None:
        """Hear that a caller gave its check up."""

    async def start(self) -> None:
        """Start to export."""

    async def close(self) -> None:
        """Export what is left, within a bound."""


class Tracing(NoTracing):
    """Tracing while it is on."""

    is_on = True

    def __init__(self, options: TracingOptions, settings: Settings, metrics: Metrics, worker: int) -> None:
        """Make exporter and queue; nothing is sent yet."""
        # Exporters and SDK take 10 MB: only who traces pays.
        from sentinel_ext.telemetry.tracing import exporter, instrumentation, spans  # noqa: PLC0415

        self._options, self._spans = options, spans
        self._sampler = Sampler.of(options.ratio, parent_based=options.parent_based)
        redactor = Redactor(settings.log_redact or ())
        resource = exporter.make_resource(worker, settings.workers, redactor)
        heard, sink = exporter.hear_sdk(), exporter.make_exporter(options.target)
        # What the SDK takes for wrong and ignores: its exporter over HTTP refuses nothing.
        self._doubt = heard.text
        store = "memory" if settings.redis_url.reveal().startswith("memory:") else "redis"
        maker = spans.SpanMaker(resource, store)
        self.pipe: SpanPipe[Decided | Limited | ReadableSpan, ReadableSpan] = SpanPipe(
            options, maker.make, exporter.sender(sink, redactor), sink.shutdown
        )
        self.pipe.last_error = lambda: heard.text
        self._provider = instrumentation.make_provider(options, resource, self.pipe.put)
        self.interceptors = instrumentation.server_interceptors(self._provider)
        self.observers = (self._decided,)
        self._exemplify = metrics.exemplify
        self.limits = LimitTracing(self._sampler, clock.random_hex, clock.monotonic_ns, self._limited)
        metrics.registry.register(SpanCollector(self.pipe, tuple(Dropped)))

    def identifier(self, sources: tuple[Source, ...]) -> Identifier:
        """Make the identifier of a policy."""
        return TracingIdentifier(sources, clock.random_hex, self._sampler)

    def pipeline(self, policy: Policy, controller: Controller) -> Pipeline:
        """Make the pipeline of a policy."""
        return TracedPipeline(policy, controller, clock.monotonic_ns)

    def given_up(self, check: Check) -> None:
        """Export what was recorded until then."""
        if check.trace is not None:
            self._put(check, None, clock.monotonic_ns())

    async def start(self) -> None:
        """Start the exporter's thread."""
        self.pipe.start()
        target = self._options.target
        logger.info("tracing", extra={"protocol": target.protocol, "endpoint": target.url})
        if self._doubt:
            logger.warning("a variable of the exporter is ignored", extra={"why": self._doubt})

    async def close(self) -> None:
        """Export what is left, for a few seconds at most."""
        await self.pipe.close()

    def _decided(self, decision: Decision, elapsed_ns: int) -> None:
        trace = decision.check.trace
        if trace is not None:
            self._put(decision.check, decision, trace.started_ns + elapsed_ns)
            self._exemplify(decision, elapsed_ns)

    def _put(self, check: Check, decision: Decision | None, end_ns: int) -> None:
        self.pipe.put(self._spans.Decided(check, decision, end_ns), self._spans.spans_of(check))

    def _limited(
        self, trace: Trace, span_id: str, attributes: dict[str, Value], denied: str, error: str
    ) -> None:
        ended = self._spans.Limited(trace, span_id, clock.monotonic_ns(), attributes, error, denied)
        self.pipe.put(ended, 1)


def make_tracing(settings: Settings, metrics: Metrics, worker: int) -> NoTracing:
    """Make what the settings ask for.

    Raises:
        StartError: what is installed cannot trace.
        SettingsError: the SDK refuses what its own variables say.
    """
    options = settings.tracing
    if options is None:
        return NoTracing()
    ensure_intact()
    with sdk_settings():
        return Tracing(options, settings, metrics, worker)
