"""Spans as they may leave: the last thing before the exporter, for ours and those of instrumentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, overload

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sentinel_ext.telemetry.redaction import Redactor

# Values of clients go into spans; what is longer is cut, as OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT would.
MAX_VALUE: Final = 256
# OpenTelemetry's semantic conventions for exceptions: a stack says the most at its end.
_STACK: Final = "exception.stacktrace"
MAX_STACK: Final = 4096


class _Texts:
    """All that a span says: one text, states, mappings and names, in the order of the span, events, links."""

    def __init__(self, description: Any, states: list[Any], attributes: list[Any], names: list[Any]) -> None:  # noqa: ANN401
        self.description, self.states, self.attributes, self.names = description, states, attributes, names

    @classmethod
    def of(cls, span: ReadableSpan) -> _Texts:
        """Take them out of a span."""
        holders: tuple[ReadableSpan | Event | Link, ...] = (span, *span.events, *span.links)
        return cls(
            span.status.description,
            [_states(span.context, span.parent), *(_state(link.context) for link in span.links)],
            [_lists(holder.attributes or {}) for holder in holders],
            [span.name, *(event.name for event in span.events)],
        )

    def shown(self, redactor: Redactor) -> _Texts:
        """Return them as they may leave."""
        parts = iter(redactor.parts(self.description, *self.states, *self.attributes, names=self.names))
        return _Texts(
            _cut("", next(parts)),
            [next(parts) for _ in self.states],
            [{name: _cut(name, value) for name, value in next(parts).items()} for _ in self.attributes],
            [_cut("", name) for name in parts],
        )

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


def redacting(redactor: Redactor) -> Callable[[ReadableSpan], ReadableSpan]:
    """Return what makes a span fit to leave. Its ids, kind, times and resource stay as they are."""

    def redacted(span: ReadableSpan) -> ReadableSpan:
        given = _Texts.of(span)
        shown = given.shown(redactor)
        return span if shown == given else _copy(span, given, shown)

    return redacted


def _lists(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Several values are a tuple in a span, and a list when they come out of the redactor."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in attributes.items()}


def _state(context: SpanContext | None) -> str:
    return "" if context is None or not context.trace_state else context.trace_state.to_header()


def _states(context: SpanContext | None, parent: SpanContext | None) -> str:
    """Return the tracestate of both, which is the same but for a span that somebody made by hand."""
    state, other = _state(context), _state(parent)
    return state if other in ("", state) else f"{state},{other}"


def _cut(name: str, value: Any) -> Any:  # noqa: ANN401  what an attribute may be
    if isinstance(value, str) and len(value) > MAX_VALUE:
        return value[-MAX_STACK:] if name == _STACK else value[:MAX_VALUE]
    if isinstance(value, list):
        return [_cut(name, each) for each in value]
    return value


def _copy(span: ReadableSpan, given: _Texts, shown: _Texts) -> ReadableSpan:
    is_hidden, *are_hidden = [old != new for old, new in zip(given.states, shown.states, strict=True)]
    attributes = iter(shown.attributes)
    name, *names = shown.names
    return ReadableSpan(
        name,
        _stateless(span.context) if is_hidden else span.context,
        _stateless(span.parent) if is_hidden else span.parent,
        span.resource,
        next(attributes),
        [Event(new, next(attributes), old.timestamp) for old, new in zip(span.events, names, strict=True)],
        [
            Link(_stateless(old.context) if is_hidden else old.context, next(attributes))
            for old, is_hidden in zip(span.links, are_hidden, strict=True)
        ],
        kind=span.kind,
        status=Status(span.status.status_code, shown.description),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


@overload
def _stateless(context: SpanContext) -> SpanContext: ...
@overload
def _stateless(context: None) -> None: ...
def _stateless(context: SpanContext | None) -> SpanContext | None:
    """A tracestate with something hidden in it is none."""
    if context is None:
        return None
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)
