"""A Decision as HTTP: status, headers for client and upstream, and the problem body."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.decision import Reason
from sentinel_ext.core.identify import CORRELATION_HEADER, TRACEPARENT_HEADER

if TYPE_CHECKING:
    from sentinel_ext.core.decision import Decision

TIER_HEADER = "x-sentinel-tier"
REASON_HEADER = "x-sentinel-reason"
WARNING_HEADER = "x-sentinel-warning"
LIMIT_HEADER = "x-ratelimit-limit"
REMAINING_HEADER = "x-ratelimit-remaining"
RESET_HEADER = "x-ratelimit-reset"
RETRY_HEADER = "retry-after"
PROBLEM_TYPE = "application/problem+json"

_STATUS = {
    Reason.LOCAL_RATE_LIMITED: (429, "Too Many Requests"),
    Reason.RATE_LIMITED: (429, "Too Many Requests"),
    Reason.STORE_UNAVAILABLE: (503, "Service Unavailable"),
    Reason.SHED: (503, "Service Unavailable"),
    Reason.CIRCUIT_OPEN: (503, "Service Unavailable"),
}


class Problem(msgspec.Struct, frozen=True):
    """The body of a refusal (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    tenant: str
    correlation_id: str
    retry_after: int


def http_status(reason: Reason) -> int:
    """Return the HTTP status of a refusal."""
    return _STATUS[reason][0]


def client_headers(decision: Decision) -> list[tuple[str, str]]:
    """Return the headers that the client gets, allowed or not; unknown numbers are left out."""
    check = decision.check
    headers = [(CORRELATION_HEADER, check.correlation_id)]
    if decision.limit is not None:
        headers.append((LIMIT_HEADER, str(decision.limit)))
        if decision.remaining is not None:
            headers.append((REMAINING_HEADER, str(decision.remaining)))
        if decision.reset_ms is not None:
            headers.append((RESET_HEADER, str(_seconds(decision.reset_ms))))
    if check.problem is not None:
        headers.append((WARNING_HEADER, str(check.problem)))
    if not decision.allowed:
        headers.append((RETRY_HEADER, str(retry_after(decision))))
        headers.append((REASON_HEADER, decision.reason.value))
    return headers


def upstream_headers(decision: Decision) -> list[tuple[str, str]]:
    """Return the headers that the upstream gets; they overwrite what a client may have sent."""
    check = decision.check
    headers = [(CORRELATION_HEADER, check.correlation_id), (TIER_HEADER, check.tenant.plan.tier.value)]
    if check.traceparent:
        headers.append((TRACEPARENT_HEADER, check.traceparent))
    return headers


def retry_after(decision: Decision) -> int:
    """Return whole seconds, at least 1: `retry-after: 0` invites a tight loop."""
    return max(1, _seconds(decision.retry_ms))


def problem_body(decision: Decision) -> str:
    """Return the refusal as application/problem+json, in words the caller understands."""
    status, title = _STATUS[decision.reason]
    problem = Problem(
        type=f"urn:sentinel:problem:{decision.reason.value}",
        title=title,
        status=status,
        detail=_detail(decision),
        reason=decision.reason.value,
        tenant=decision.check.tenant.name,
        correlation_id=decision.check.correlation_id,
        retry_after=retry_after(decision),
    )
    return msgspec.json.encode(problem).decode()


def _detail(decision: Decision) -> str:
    tenant, again = decision.check.tenant, f"Try again in {retry_after(decision)} s."
    if decision.reason is Reason.SHED:
        tier = tenant.plan.tier.value
        return f"The service is overloaded and serves others before tier {tier}. {again}"
    if decision.reason is Reason.CIRCUIT_OPEN:
        return f"Upstream {decision.check.upstream!r} fails at the moment and is left alone. {again}"
    if decision.reason is Reason.STORE_UNAVAILABLE:
        return f"Tenant {tenant.name!r} cannot be counted at the moment. {again}"
    return f"Tenant {tenant.name!r} {_spent(decision, again)}"


def _spent(decision: Decision, again: str) -> str:
    """Say what a tenant has used up."""
    plan = decision.check.tenant.plan
    if decision.reason is Reason.LOCAL_RATE_LIMITED:
        if not decision.limit:
            return "may not send requests: its burst is 0."
        return f"sends faster than its burst of {decision.limit} requests allows. {again}"
    if not plan.limit:
        return "may not send requests: its limit is 0."
    window, why = plan.window_us / 1_000_000, ""
    if decision.limit != plan.limit:
        why = " (lowered under load)" if decision.fallback is None else " (this instance's share)"
    return f"has used its limit of {decision.limit} requests{why} per {window:g} s. {again}"


def _seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1000)
