"""Spans as they may leave: the last thing before the exporter, for ours and those of instrumentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.telemetry.redaction import Redactor

# Values of clients go into spans; what is longer is cut, as OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT would.
MAX_VALUE: Final = 256
# OpenTelemetry's semantic conventions for exceptions: a stack says the most at its end.
_STACK: Final = "exception.stacktrace"
MAX_STACK: Final = 4096


def redacting(redactor: Redactor) -> Callable[[ReadableSpan], ReadableSpan]:
    """Return what makes a span fit to leave. Its ids, kind, times and resource stay as they are."""

    def redacted(span: ReadableSpan) -> ReadableSpan:
        given = _texts_of(span)
        shown = redactor.parts(*given)
        shown[3:] = [{name: _cut(name, value) for name, value in each.items()} for each in shown[3:]]
        return span if shown == given else _copy(span, shown)

    return redacted


def _texts_of(span: ReadableSpan) -> list[Any]:
    """List name, status, tracestate, and all attributes: the span's, events', links'."""
    return [
        span.name,
        span.status.description,
        _states(span.context, span.parent),
        dict(span.attributes or {}),
        *(dict(event.attributes or {}) for event in span.events),
        *(dict(link.attributes or {}) for link in span.links),
    ]


def _state(context: SpanContext | None) -> str:
    return "" if context is None or not context.trace_state else context.trace_state.to_header()


def _states(context: SpanContext | None, parent: SpanContext | None) -> str:
    """Return the tracestate of both, which is the same but for a span that somebody made by hand."""
    state, other = _state(context), _state(parent)
    return state if other in ("", state) else f"{state},{other}"


def _cut(name: str, value: Any) -> Any:  # noqa: ANN401  what an attribute may be
    if isinstance(value, str) and len(value) > MAX_VALUE:
        return value[-MAX_STACK:] if name == _STACK else value[:MAX_VALUE]
    return value


def _copy(span: ReadableSpan, shown: list[Any]) -> ReadableSpan:
    name, description, state, attributes, *others = shown
    is_hidden = state != _states(span.context, span.parent)
    events, links = others[: len(span.events)], others[len(span.events) :]
    return ReadableSpan(
        name,
        _stateless(span.context) if is_hidden else span.context,
        _stateless(span.parent) if is_hidden else span.parent,
        span.resource,
        attributes,
        [Event(old.name, new, old.timestamp) for old, new in zip(span.events, events, strict=True)],
        [Link(old.context, new) for old, new in zip(span.links, links, strict=True)],
        kind=span.kind,
        status=Status(span.status.status_code, None if description is None else description[:MAX_VALUE]),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _stateless(context: SpanContext | None) -> SpanContext | None:
    """A tracestate with something hidden in it is none."""
    if context is None:
        return None
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)
