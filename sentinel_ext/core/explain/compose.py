"""From looks at the stages to the decision that they come to, a sentence and advice."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from sentinel_ext.core.decision import Decision, Reason, ShadowDenial
from sentinel_ext.core.explain import stages
from sentinel_ext.core.explain.advice import advice
from sentinel_ext.core.explain.looks import BreakerNumbers, Explanation, StageLook, Verdict, WindowNumbers
from sentinel_ext.core.explain.words import duration
from sentinel_ext.core.model import FailureMode, Mode, Stage

if TYPE_CHECKING:
    from sentinel_ext.core.decision import StoreFault
    from sentinel_ext.core.explain.stages import Scene
    from sentinel_ext.core.window import WindowQuery, WindowReply

_HTTP = {
    Reason.LOCAL_RATE_LIMITED: 429,
    Reason.RATE_LIMITED: 429,
    Reason.STORE_UNAVAILABLE: 503,
    Reason.SHED: 503,
    Reason.CIRCUIT_OPEN: 503,
}


def explain(scene: Scene, query: WindowQuery | None, said: WindowReply | StoreFault | None) -> Explanation:
    """Look at every stage and say what it comes to.

    Args:
        query: of stages.window_query.
        said: the store's answer to it.
    """
    looks = (
        stages.bucket(scene),
        stages.pressure(scene),
        stages.breaker(scene),
        stages.window(scene, query, said),
    )
    refusing = next((look for look in looks if look.refuses), None)
    decision = _allowed(scene, looks) if refusing is None else _refused(scene, looks, refusing)
    return Explanation(
        decision,
        looks,
        None if refusing is None else refusing.stage,
        _sentence(decision, looks, refusing),
        "" if refusing is None else advice(scene, refusing),
    )


def _shadow(looks: tuple[StageLook, ...]) -> tuple[ShadowDenial, ...]:
    return tuple(
        ShadowDenial(look.stage, look.reason)
        for look in looks
        if look.verdict is Verdict.REFUSE and look.mode is Mode.SHADOW and look.reason is not None
    )


def _refused(scene: Scene, looks: tuple[StageLook, ...], refusing: StageLook) -> Decision:
    reason = refusing.reason
    assert reason is not None  # noqa: S101  a refusal has one
    before = _shadow(looks[: looks.index(refusing)])
    limit = remaining = reset_ms = fallback = None
    if refusing.stage is Stage.BUCKET:
        limit, remaining, reset_ms, before = scene.check.tenant.plan.burst, 0, refusing.retry_ms, ()
    elif isinstance(refusing.numbers, WindowNumbers):
        limit, fallback = refusing.numbers.effective_limit, refusing.numbers.fallback
        if reason is Reason.RATE_LIMITED:
            remaining, reset_ms = refusing.numbers.remaining, refusing.retry_ms
    return Decision(
        scene.check,
        False,
        refusing.stage,
        reason,
        limit,
        remaining,
        reset_ms,
        refusing.retry_ms,
        before,
        fallback,
    )


def _allowed(scene: Scene, looks: tuple[StageLook, ...]) -> Decision:
    check, window, breaker = scene.check, looks[3].numbers, looks[2].numbers
    stage, limit, remaining, reset_ms = Stage.IDENTIFY, None, None, None
    fallback: FailureMode | None = None
    bucket = check.tenant.bucket
    if isinstance(window, WindowNumbers):
        stage, limit, fallback = Stage.WINDOW, window.effective_limit, window.fallback
        if fallback is None or fallback is FailureMode.LOCAL:
            taken = window.hits if looks[3].verdict is Verdict.PASS else 0
            remaining, reset_ms = max(0, window.remaining - taken), window.reset_ms
            if taken and not window.used:
                # Nothing is counted yet: the request itself will be the oldest hit.
                sub_ms = window.window_ms / 10
                reset_ms = int(window.window_ms + sub_ms)
    elif bucket is not None and scene.modes[Stage.BUCKET] is Mode.ENFORCE:
        after = bucket.copy()
        after.try_acquire(check.hits, scene.now_ns)
        stage, limit, remaining = Stage.BUCKET, check.tenant.plan.burst, after.tokens
        reset_ms = after.wait_ms(after.tokens + 1) or 0
    if (
        isinstance(breaker, BreakerNumbers)
        and breaker.state == "half_open"
        and looks[2].verdict is Verdict.PASS
    ):
        stage = Stage.BREAKER
    return Decision(
        check, True, stage, Reason.ALLOWED, limit, remaining, reset_ms, 0, _shadow(looks), fallback
    )


def _sentence(decision: Decision, looks: tuple[StageLook, ...], refusing: StageLook | None) -> str:
    tenant = decision.check.tenant
    who = f"Tenant {tenant.name!r} (plan {tenant.plan.name}, tier {tenant.plan.tier.value})"
    if refusing is not None and refusing.reason is not None:
        answer = f"{_HTTP[refusing.reason]} {refusing.reason.value}"
        again = f" Asking again makes sense in {duration(refusing.retry_ms)}."
        return f"{who} would be refused with {answer} by the {_name(refusing.stage)}: {refusing.text}{again}"
    heard = [look.text for look in looks if look.verdict is not Verdict.NONE]
    shadow = [_name(look.stage) for look in looks if look.verdict is Verdict.REFUSE]
    passes = f"{who} would pass"
    if shadow:
        passes += f", although {' and '.join(shadow)} would refuse if enforced"
    return f"{passes}. {' '.join(heard)}".rstrip()


def _name(stage: Stage) -> str:
    match stage:
        case Stage.BUCKET:
            return "local token bucket"
        case Stage.WINDOW:
            return "window"
        case Stage.PRESSURE:
            return "pressure stage"
        case Stage.BREAKER:
            return "circuit breaker"
        case Stage.IDENTIFY:
            return "identification"
        case _:
            assert_never(stage)
