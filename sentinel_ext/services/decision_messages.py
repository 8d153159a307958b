"""Views and explanations → messages of sentinel.v1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentinel_ext._pb.sentinel.v1 import decision_service_pb2 as pb
from sentinel_ext.core.explain.looks import (
    BreakerNumbers,
    BucketNumbers,
    PressureNumbers,
    StageLook,
    WindowNumbers,
)
from sentinel_ext.core.ratelimit import explained
from sentinel_ext.core.ratelimit.outcome import Cause, Problem
from sentinel_ext.services import answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sentinel_ext.core.explain.looks import Explanation
    from sentinel_ext.core.explain.who import Who
    from sentinel_ext.core.model import Plan, Stage
    from sentinel_ext.core.ratelimit.explain import LimitLook, LimitsLook, LineLook
    from sentinel_ext.core.tenant import Tenant
    from sentinel_ext.core.views import BreakerView, Change, PressureView, StageView, TenantView, UpstreamView

_HTTP_OK: Final = 200
_HTTP_OVER: Final = 429


def _rounded(value: float) -> float:
    """People read these."""
    return round(value, 2)


def _all_rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: _rounded(value) for name, value in values.items()}


def plan_message(plan: Plan) -> pb.Plan:
    """Write a plan."""
    return pb.Plan(
        name=plan.name,
        tier=plan.tier.value,
        limit=plan.limit,
        window_ms=plan.window_us // 1000,
        burst=plan.burst,
        refill_per_s=plan.refill_nano / 1e9,
        on_store_failure=plan.on_store_failure.value,
        weight=plan.weight,
        guaranteed_per_s=plan.guaranteed_per_s,
    )


def explain_response(
    explanation: Explanation, who: Who, stages: Mapping[Stage, StageView], instance: str
) -> pb.ExplainResponse:
    """Write what was explained of a Check."""
    decision = explanation.decision
    passes = decision.allowed
    return pb.ExplainResponse(
        sentence=explanation.sentence,
        advice=explanation.advice,
        allowed=passes,
        stage=decision.stage.value,
        reason=decision.reason.value,
        http_status=_HTTP_OK if passes else answer.http_status(decision.reason),
        identity=_identity(decision.check.tenant, decision.check.upstream, who),
        stages=[
            _stage(look, stages[look.stage], decides=look.stage is explanation.decides)
            for look in explanation.looks
        ],
        client_headers=_headers(answer.client_headers(decision)),
        upstream_headers=_headers(answer.upstream_headers(decision)) if passes else (),
        body="" if passes else answer.problem_body(decision),
        instance=instance,
    )


def _identity(tenant: Tenant, upstream: str, who: Who) -> pb.Identity:
    return pb.Identity(
        tenant=tenant.name,
        found_in=who.found_in,
        sources=who.sources,
        problem=who.problem,
        plan=plan_message(tenant.plan),
        plan_rule=who.rule,
        plan_why=who.why,
        upstream=upstream,
        upstream_why=who.upstream_why,
        is_known=who.is_known,
    )


def _headers(headers: Iterable[tuple[str, str]]) -> list[pb.Header]:
    return [pb.Header(name=name, value=value) for name, value in headers]


def _stage(look: StageLook, view: StageView, *, decides: bool) -> pb.StageExplanation:
    message = pb.StageExplanation(
        stage=look.stage.value,
        mode=look.mode.value,
        is_mode_set=view.is_set,
        policy_mode=view.policy_mode.value,
        verdict=look.verdict.value,
        decides=decides,
        reason="" if look.reason is None else look.reason.value,
        text=look.text,
        retry_ms=look.retry_ms,
    )
    numbers = look.numbers
    if isinstance(numbers, BucketNumbers):
        message.bucket.CopyFrom(_bucket(numbers))
    elif isinstance(numbers, WindowNumbers):
        message.window.CopyFrom(_window(numbers))
    elif isinstance(numbers, PressureNumbers):
        message.pressure.CopyFrom(_pressure(numbers))
    elif isinstance(numbers, BreakerNumbers):
        message.breaker.CopyFrom(_breaker(numbers))
    return message


def _bucket(numbers: BucketNumbers) -> pb.BucketNumbers:
    return pb.BucketNumbers(
        tokens=numbers.tokens, burst=numbers.burst, refill_per_s=numbers.refill_per_s, hits=numbers.hits
    )


def _window(numbers: WindowNumbers) -> pb.WindowNumbers:
    return pb.WindowNumbers(
        limit=numbers.limit,
        effective_limit=numbers.effective_limit,
        used=numbers.used,
        remaining=numbers.remaining,
        reset_ms=numbers.reset_ms,
        window_ms=numbers.window_ms,
        hits=numbers.hits,
        store_fault="" if numbers.fault is None else numbers.fault.value,
        fallback="" if numbers.fallback is None else numbers.fallback.value,
        key=numbers.key,
    )


def _pressure(numbers: PressureNumbers) -> pb.PressureNumbers:
    return pb.PressureNumbers(
        score=_rounded(numbers.score),
        shed_probability=_rounded(numbers.shed_probability),
        tier=numbers.tier,
        cause=numbers.cause,
        credit_per_s=None if numbers.credit is None else _rounded(numbers.credit),
        offered_per_s=_rounded(numbers.offered),
        in_flight=numbers.in_flight,
        in_flight_limit=None if numbers.places is None else _rounded(numbers.places),
        is_blind=numbers.is_blind,
        signals=_all_rounded(numbers.signals),
    )


def _breaker(numbers: BreakerNumbers | BreakerView) -> pb.BreakerNumbers:
    return pb.BreakerNumbers(
        state=numbers.state,
        forced=numbers.forced,
        trip_reason=numbers.reason,
        retry_ms=numbers.retry_ms,
        ok=numbers.ok,
        failed=numbers.failed,
        slow=numbers.slow,
        consecutive_failures=numbers.consecutive,
        permits=numbers.permits,
        permits_max=numbers.permits_max,
        without_store=numbers.without_store,
    )


def limits_response(
    looked: LimitsLook, headers: Iterable[tuple[str, str]], instance: str
) -> pb.ExplainResponse:
    """Write what was explained of a rate limit request, and the headers that the client would get."""
    outcome = looked.outcome
    if isinstance(outcome, Problem):
        # Envoy's own answer, which nobody here knows.
        allowed, reason, http_status = False, Cause.STORE_UNAVAILABLE.value, 0
    else:
        allowed = not outcome.over
        reason = "allowed" if outcome.cause is None else outcome.cause.value
        http_status = _HTTP_OK if allowed else _HTTP_OVER
    return pb.ExplainResponse(
        sentence=explained.sentence(looked),
        advice=explained.advice(looked),
        allowed=allowed,
        reason=reason,
        http_status=http_status,
        descriptors=[_descriptor(line) for line in looked.lines],
        client_headers=_headers((name.lower(), value) for name, value in headers),
        instance=instance,
    )


def _descriptor(line: LineLook) -> pb.DescriptorExplanation:
    found = line.found
    return pb.DescriptorExplanation(
        entries=[f"{key}={value}" for key, value in line.entries],
        rule="" if found is None else found.rule,
        place="" if found is None else found.node.place,
        why=explained.why(line),
        verdict=line.verdict.value,
        shadow=line.shadow,
        quota=line.quota,
        limits=[_limit(look) for look in line.limits],
    )


def _limit(look: LimitLook) -> pb.LimitNumbers:
    return pb.LimitNumbers(
        name=look.limit.name,
        algorithm=look.limit.algorithm.value,
        limit=look.limit.requests,
        window_ms=look.limit.window_us // 1000,
        used=look.used,
        remaining=look.remaining,
        hits=look.hits,
        over=look.over,
        reset_ms=look.reset_ms,
        retry_ms=look.retry_ms,
        leased=look.leased,
        store_fault="" if look.fault is None else look.fault.value,
        on_store_failure=look.on_store_failure.value,
    )


def tenant_message(view: TenantView) -> pb.Tenant:
    """Write a tenant."""
    return pb.Tenant(
        tenant=view.name,
        plan=plan_message(view.plan),
        plan_rule=view.rule,
        rate_per_s=_rounded(view.rate),
        allowed=view.allowed,
        denied=view.denied,
        used=view.used,
        effective_limit=view.limit,
        tokens=view.tokens,
        is_known=view.is_known,
    )


def pressure_response(view: PressureView, instance: str) -> pb.GetPressureResponse:
    """Write the pressure."""
    return pb.GetPressureResponse(
        score=_rounded(view.score),
        level=view.level,
        local_score=_rounded(view.local),
        local_signals=_all_rounded(view.local_signals),
        upstreams=[_upstream(each) for each in view.upstreams],
        instance=instance,
    )


def _upstream(view: UpstreamView) -> pb.UpstreamPressure:
    return pb.UpstreamPressure(
        upstream=view.name,
        score=_rounded(view.pressure),
        signals=_all_rounded(view.signals),
        offered_per_s=_rounded(view.offered),
        admitted_per_s=_rounded(view.admitted),
        completed_per_s=_rounded(view.completed),
        credit_per_s=None if view.credit is None else _rounded(view.credit),
        peak_per_s=_rounded(view.peak),
        baseline_ms=_rounded(view.baseline_ms),
        in_flight=view.inflight,
        tier_share=_all_rounded(view.tier_share),
        is_blind=view.is_blind,
        instances=view.instances,
    )


def breakers_message(views: Sequence[BreakerView]) -> list[pb.Breaker]:
    """Write breakers."""
    return [
        pb.Breaker(
            upstream=view.upstream,
            numbers=_breaker(view),
            epoch=view.epoch,
            backoff_level=view.backoff_level,
            history=[_change(change) for change in view.history],
        )
        for view in views
    ]


def _change(change: Change) -> pb.BreakerChange:
    message = pb.BreakerChange(
        before=change.before,
        after=change.after,
        reason=change.reason,
        forced=change.forced,
        without_store=change.without_store,
    )
    message.time.FromMicroseconds(int(change.at_s * 1e6))
    return message
