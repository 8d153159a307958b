"""A sampled decision as OpenTelemetry spans. Runs in the exporter's thread, with time to spare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from sentinel_ext import __version__, clock
from sentinel_ext.core.decision import Decision, Reason
from sentinel_ext.core.identify import Check
from sentinel_ext.core.trace import MAX_STAGES, StageSpan, Trace, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opentelemetry.sdk.resources import Resource

DECISION: Final = "proxy_request"
LIMIT: Final = "rate_limit_request"
_SCOPE: Final = InstrumentationScope("sentinel", __version__)
# HTTP semantic conventions: a server's 4xx is the caller's fault and no error of the span.
_QUOTA: Final = frozenset({Reason.LOCAL_RATE_LIMITED, Reason.RATE_LIMITED})
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_OK: Final = Status(StatusCode.UNSET)
_ERROR: Final = StatusCode.ERROR


class Decided(msgspec.Struct, frozen=True):
    """A sampled decision, or a check that its caller gave up before (`decision` is None). Nanoseconds."""

    check: Check
    decision: Decision | None
    end_ns: int


class Limited(msgspec.Struct, frozen=True):
    """A sampled rate limit request: ids as in Trace, monotonic nanoseconds, and what is known of it."""

    trace: Trace
    span_id: str
    end_ns: int
    attributes: dict[str, Value]
    error: str = ""
    denied: str = ""


class SpanMaker:
    """Makes spans of what was recorded, as it was; what must not show is hidden in front of the exporter."""

    def __init__(self, resource: Resource, store: str = "redis") -> None:
        """All spans bear `resource`; `store` is what counts windows."""
        self._resource, self._store = resource, store
        self._random_hex = clock.hex_source()

    def make(self, item: Decided | Limited | ReadableSpan) -> Iterable[ReadableSpan]:
        """Return the spans of what ended; a finished span is one already."""
        if isinstance(item, ReadableSpan):
            return (item,)
        # Read anew for each: between both clocks stands whatever NTP does meanwhile.
        to_wall_ns = clock.wall_ns() - clock.monotonic_ns()
        if isinstance(item, Limited):
            return (self._limit(item, to_wall_ns),)
        return self._decision(item, to_wall_ns)

    def _decision(self, ended: Decided, to_wall_ns: int) -> Iterable[ReadableSpan]:
        check, decision = ended.check, ended.decision
        trace = check.trace
        assert trace is not None  # noqa: S101  only sampled ones come here
        state = TraceState.from_header([trace.state]) if trace.state else TraceState()
        context = _context(trace.trace_id, check.decision_id, state)
        attributes = self._described(check)
        events: tuple[Event, ...] = ()
        status = _OK
        if decision is None:
            attributes["sentinel.verdict"] = "cancelled"
            events = (Event("cancelled", {}, timestamp=ended.end_ns + to_wall_ns),)
            status = Status(_ERROR, "the caller gave up")
        else:
            attributes.update(_outcome(decision))
            if not decision.allowed:
                denial = {
                    "sentinel.stage": decision.stage.value,
                    "sentinel.reason": decision.reason.value,
                    "sentinel.retry_ms": decision.retry_ms,
                }
                events = (Event("denied", denial, timestamp=ended.end_ns + to_wall_ns),)
                if decision.reason not in _QUOTA:
                    status = Status(_ERROR, decision.reason.value)
        return (
            self._span(
                DECISION,
                context,
                _parent(trace, state),
                (trace.started_ns + to_wall_ns, ended.end_ns + to_wall_ns),
                attributes,
                SpanKind.SERVER,
                events,
                status,
            ),
            *(self._stage(stage, trace, context, state, to_wall_ns) for stage in trace.stages),
        )

    def _stage(
        self, stage: StageSpan, trace: Trace, parent: SpanContext, state: TraceState, to_wall_ns: int
    ) -> ReadableSpan:
        attributes, status = dict(stage.attributes), _OK
        events: tuple[Event, ...] = ()
        if stage.denied:
            attributes["sentinel.denied"] = stage.denied
            at_ns = stage.end_ns + to_wall_ns
            events = (Event("denied", {"sentinel.reason": stage.denied}, timestamp=at_ns),)
        if stage.attributes.get("sentinel.store.answered") is False:
            status = Status(_ERROR, "the store did not answer in time")
        if stage.asked_store:
            attributes["db.system.name"] = self._store
        return self._span(
            stage.name.value,
            _context(trace.trace_id, self._random_hex(8), state),
            parent,
            (stage.start_ns + to_wall_ns, stage.end_ns + to_wall_ns),
            attributes,
            SpanKind.CLIENT if stage.asked_store else SpanKind.INTERNAL,
            events,
            status,
        )

    def _limit(self, limited: Limited, to_wall_ns: int) -> ReadableSpan:
        trace = limited.trace
        state = TraceState.from_header([trace.state]) if trace.state else TraceState()
        denial = {"sentinel.reason": limited.denied}
        at_ns = limited.end_ns + to_wall_ns
        return self._span(
            LIMIT,
            _context(trace.trace_id, limited.span_id, state),
            _parent(trace, state),
            (trace.started_ns + to_wall_ns, at_ns),
            limited.attributes,
            SpanKind.SERVER,
            (Event("denied", denial, timestamp=at_ns),) if limited.denied else (),
            Status(_ERROR, limited.error) if limited.error else _OK,
        )

    def _span(  # noqa: PLR0913  the fields of a span
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        times: tuple[int, int],
        attributes: Mapping[str, Value],
        kind: SpanKind,
        events: tuple[Event, ...],
        status: Status,
    ) -> ReadableSpan:
        start, end = times
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            events,
            kind=kind,
            status=status,
            start_time=start,
            end_time=max(start, end),
            instrumentation_scope=_SCOPE,
        )

    def _described(self, check: Check) -> dict[str, Value]:
        plan = check.tenant.plan
        described: dict[str, Value] = {
            "sentinel.decision_id": check.decision_id,
            "sentinel.correlation_id": check.correlation_id,
            "sentinel.tenant": check.tenant.name,
            "sentinel.tier": plan.tier.value,
            "sentinel.plan": plan.name,
            "sentinel.upstream": check.upstream,
        }
        if check.route:
            described["sentinel.route"] = check.route
        if check.problem is not None:
            described["sentinel.problem"] = str(check.problem)
        return described


def spans_of(check: Check) -> int:
    """Return how many spans a check makes."""
    return 1 if check.trace is None else 1 + len(check.trace.stages)


assert MAX_STAGES < 16  # noqa: S101  a decision must stay small beside a batch


def _outcome(decision: Decision) -> dict[str, Value]:
    found: dict[str, Value] = {
        "sentinel.verdict": "allow" if decision.allowed else "deny",
        "sentinel.stage": decision.stage.value,
        "sentinel.reason": decision.reason.value,
    }
    if decision.limit is not None:
        found["sentinel.limit"] = decision.limit
    if decision.remaining is not None:
        found["sentinel.remaining"] = decision.remaining
    if decision.reset_ms is not None:
        found["sentinel.reset_ms"] = decision.reset_ms
    if decision.retry_ms:
        found["sentinel.retry_ms"] = decision.retry_ms
    if decision.fallback is not None:
        found["sentinel.fallback"] = decision.fallback.value
    if decision.shadow:
        found["sentinel.shadow"] = ",".join(
            f"{denial.stage.value}:{denial.reason.value}" for denial in decision.shadow
        )
    return found


def _context(trace_id: str, span_id: str, state: TraceState) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), False, _SAMPLED, state)


def _parent(trace: Trace, state: TraceState) -> SpanContext | None:
    if not trace.parent_id:
        return None
    return SpanContext(int(trace.trace_id, 16), int(trace.parent_id, 16), True, _SAMPLED, state)
