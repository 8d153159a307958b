"""Stage 0 with tracing on: whose trace a request is in, and whether it is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.core.identify import Check, Identifier
from sentinel_ext.core.trace import Trace
from sentinel_ext.core.tracecontext import (
    B3,
    B3_FLAGS,
    B3_SAMPLED,
    B3_TRACE_ID,
    ODD,
    TRACEPARENT,
    TRACESTATE,
    from_b3,
    from_traceparent,
    headers_of,
    parent_of,
    unsampled,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.core.identify import Caller, NameProblem
    from sentinel_ext.core.policy import Source
    from sentinel_ext.core.tenant import Tenant
    from sentinel_ext.core.trace import Begun, Sampler
    from sentinel_ext.core.tracecontext import Fields, Parent

# Bound once: it runs for every request.
_check = Identifier.check


class TracingIdentifier(Identifier):
    """Continues the caller's trace, or begins one, and decides whether it is recorded.

    A caller may have `carried`: the fields of its proxy's own call to us. What they say of the trace is
    nearer to us than what stands in the request's headers, which the client sent.
    """

    __slots__ = ("_bound", "_parent_based", "_sampler")

    def __init__(
        self, sources: tuple[Source, ...], random_hex: Callable[[int], str], sampler: Sampler
    ) -> None:
        """Look at `sources`, as Identifier does."""
        Identifier.__init__(self, sources, random_hex)
        self._sampler, self._bound, self._parent_based = sampler, sampler.bound, sampler.parent_based

    def check(
        self, caller: Caller, tenant: Tenant, problem: NameProblem | None = None, _continued: bytes = b""
    ) -> Check:
        """Complete the check; a sampled one has a `trace`, and its span goes upstream as the parent."""
        carried = caller.carried
        if carried:
            given = unsampled(carried) if self._parent_based else b""
            if given:
                return _check(self, caller, tenant, problem, given)
            parent = parent_of(headers_of(carried))
            if parent is not None:
                return self._decide(_check(self, caller, tenant, problem), parent)
        made = _check(self, caller, tenant, problem)
        traceparent, headers = made.traceparent, caller.headers
        if not traceparent:  # the caller's own is valid
            own = headers[TRACEPARENT]
            if own[54] not in ODD and self._parent_based:
                return made
            return self._decide(made, from_traceparent(own, headers.get(TRACESTATE, "")))
        if B3 in headers or B3_TRACE_ID in headers or B3_SAMPLED in headers or B3_FLAGS in headers:
            parent = from_b3(headers)
            if parent is not None:
                return self._decide(made, parent)
        # sampler.takes in place
        return _recorded(made, traceparent[3:35], "", "", "01") if traceparent[19:35] < self._bound else made

    def _decide(self, made: Check, parent: Parent) -> Check:
        trace_id = parent.trace_id or made.traceparent[3:35] or made.decision_id * 2
        if self._sampler.follows(parent, trace_id):
            return _recorded(made, trace_id, parent.span_id, parent.state, parent.flags)
        if not made.traceparent or not parent.trace_id:
            return made  # the caller's own stands, or there is nothing to continue
        return _with(made, f"00-{trace_id}-{made.decision_id}-00", None)


def _recorded(made: Check, trace_id: str, parent_id: str, state: str, flags: str) -> Check:
    traceparent = f"00-{trace_id}-{made.decision_id}-{flags}"
    return _with(made, traceparent, Trace(trace_id, parent_id, state))


def _with(made: Check, traceparent: str, trace: Trace | None) -> Check:
    return Check(
        made.tenant,
        made.upstream,
        made.correlation_id,
        made.decision_id,
        traceparent,
        made.hits,
        made.problem,
        made.route,
        trace,
    )


def begin_trace(carried: Fields, sampler: Sampler, random_hex: Callable[[int], str]) -> Begun | None:
    """Continue a call's trace or begin one; return it and our span's id, or None where it is not sampled."""
    parent: Parent | None = None
    if carried:
        if sampler.parent_based and unsampled(carried):
            return None
        parent = parent_of(headers_of(carried))
    ids = random_hex(8 + 16)
    if parent is None:
        return (Trace(ids[16:]), ids[:16]) if sampler.takes(ids[16:]) else None
    trace_id = parent.trace_id or ids[16:]
    if not sampler.follows(parent, trace_id):
        return None
    return Trace(trace_id, parent.span_id, parent.state), ids[:16]
