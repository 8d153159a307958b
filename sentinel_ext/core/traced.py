"""Stages with tracing on: the same decisions, and a record of the sampled ones.

With tracing off none of this exists. With it on, a request that is not sampled pays for the decision not to,
and for one attribute test in begin and in resume.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.core.decision import Decision, Reason
from sentinel_ext.core.model import Mode, Stage
from sentinel_ext.core.pipeline import Pipeline
from sentinel_ext.core.shedding import Shedding
from sentinel_ext.core.trace import StageName, StageSpan, Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.core.circuit import Circuit
    from sentinel_ext.core.controller import Controller
    from sentinel_ext.core.decision import ShadowDenial
    from sentinel_ext.core.identify import Check
    from sentinel_ext.core.pipeline import Pending
    from sentinel_ext.core.policy import Policy
    from sentinel_ext.core.shedding import Hold
    from sentinel_ext.core.trace import Value
    from sentinel_ext.core.window import WindowReply

_OFF = Mode.OFF
# Bound once: they run for every request.
_begin, _resume = Pipeline.begin, Pipeline.resume
_NO_CIRCUIT: dict[str, Value] = {"sentinel.breaker.state": "none"}


class TracedPipeline(Pipeline):
    """A Pipeline that records the stages of sampled checks; `now_ns` is a monotonic clock."""

    __slots__ = ("_now_ns", "_recording")

    def __init__(self, policy: Policy, controller: Controller | None, now_ns: Callable[[], int]) -> None:
        """Take the stages' modes from `policy`."""
        Pipeline.__init__(self, policy, controller)
        self._now_ns = now_ns
        self._recording = _Recording(policy, controller, now_ns)

    def begin(self, check: Check, now_ns: int) -> Decision | Pending:
        """Run the local stages, as Pipeline does."""
        trace = check.trace
        if trace is None:
            return _begin(self, check, now_ns)
        return self._begin_recorded(check, trace, now_ns)

    def _begin_recorded(self, check: Check, trace: Trace, now_ns: int) -> Decision | Pending:
        trace.started_ns, start_ns = now_ns, self._now_ns()
        step = self._recording.begin(check, now_ns)
        end_ns, local = self._now_ns(), trace.stages
        if check.tenant.bucket is not None and self._bucket is not _OFF:
            local.insert(0, _bucket_span(check, step, start_ns, trace.admit_ns or end_ns))
        decided = step if isinstance(step, Decision) else step.passed
        if decided is None:
            trace.asked_ns = end_ns
        elif decided.stage is Stage.WINDOW:
            trace.add(_window_span(decided, trace.last_ns, end_ns))
        return step

    def resume(self, pending: Pending, reply: WindowReply, now_ns: int) -> Decision:
        """End a check with the store's answer, as Pipeline does."""
        decision = _resume(self, pending, reply, now_ns)
        trace = pending.check.trace
        if trace is not None:
            numbers: dict[str, Value] = {
                "sentinel.window.granted": reply.granted,
                "sentinel.window.used": reply.used,
            }
            trace.add(_window_span(decision, trace.asked_ns, now_ns, numbers, asked=True))
        return decision

    def resume_without_store(self, pending: Pending, instances: int, now_ns: int) -> Decision:
        """End a check that the store did not answer, as Pipeline does."""
        decision = Pipeline.resume_without_store(self, pending, instances, now_ns)
        trace = pending.check.trace
        if trace is not None:
            end_ns = max(now_ns, trace.asked_ns)  # refused at once: `now_ns` is when the Check came
            numbers: dict[str, Value] = {"sentinel.store.answered": False, "sentinel.instances": instances}
            trace.add(_window_span(decision, trace.asked_ns, end_ns, numbers, asked=True))
        return decision

    def resume_with_permit(self, pending: Pending, permit: str, now_ns: int) -> Decision:
        """End a check whose permit was asked for, as Pipeline does."""
        trace = pending.check.trace
        asked_ns = 0 if trace is None else trace.last_ns
        decision = Pipeline.resume_with_permit(self, pending, permit, now_ns)
        if trace is not None:
            attributes: dict[str, Value] = {"sentinel.breaker.permit": bool(permit)}
            denied = "" if decision.allowed else decision.reason.value
            trace.add(
                StageSpan(
                    StageName.BREAKER, asked_ns, max(asked_ns, now_ns), attributes, denied, asked_store=True
                )
            )
        return decision


class _Recording(Pipeline):
    """Begins sampled checks: its stages 3 and 4 record."""

    __slots__ = ()

    def __init__(self, policy: Policy, controller: Controller | None, now_ns: Callable[[], int]) -> None:
        Pipeline.__init__(self, policy)
        self._shedding = None if controller is None else TracedShedding(policy, controller, now_ns)


class TracedShedding(Shedding):
    """Stages 3 and 4 that record; for sampled checks only."""

    __slots__ = ("_clock",)

    def __init__(self, policy: Policy, controller: Controller, now_ns: Callable[[], int]) -> None:
        """Take the modes from `policy`."""
        Shedding.__init__(self, policy, controller)
        self._clock = now_ns

    def admit(self, check: Check, shadow: tuple[ShadowDenial, ...], now_ns: int) -> Decision | Hold:
        """Start the request at its upstream or refuse it, as Shedding does.

        It is one step, so one of its stages has its time: the admission. Looking at the pressure comes before
        it and at a closed breaker behind it; each is a moment, and its span has no length.
        """
        trace = check.trace
        assert trace is not None  # noqa: S101  TracedPipeline sends no others here
        clock, is_on = self._clock, self._pressure is not _OFF
        start_ns = trace.admit_ns = clock()
        load = self._controller.upstream(check.upstream).load
        if is_on:
            attributes: dict[str, Value] = {
                "sentinel.pressure.score": load.shared.pressure,
                "sentinel.pressure.local": self._controller.local,
                "sentinel.in_flight": load.flight.total,
            }
            trace.add(StageSpan(StageName.PRESSURE, start_ns, start_ns, attributes))
            start_ns = clock()  # what was recorded is no part of the admission
        held = Shedding.admit(self, check, shadow, now_ns)
        end_ns = clock()
        breaker_ns = trace.breaker_ns or end_ns
        if is_on:
            trace.add(_priority_span(check, held, load.cause.value, start_ns, breaker_ns))
        if not (isinstance(held, Decision) and held.stage is Stage.PRESSURE) and self._breaker is not _OFF:
            trace.add(self._breaker_span(check, held, breaker_ns, end_ns))
        return held

    def _half_open(
        self, check: Check, hold: Hold, circuit: Circuit, shadow: tuple[ShadowDenial, ...], now_ns: int
    ) -> Decision | Hold:
        if check.trace is not None:
            check.trace.breaker_ns = self._clock()
        return super()._half_open(check, hold, circuit, shadow, now_ns)

    def _breaker_span(self, check: Check, held: Decision | Hold, start_ns: int, end_ns: int) -> StageSpan:
        circuit = self._controller.upstream(check.upstream).circuit
        attributes, denied = _NO_CIRCUIT, ""
        if circuit is not None:
            attributes = {
                "sentinel.breaker.state": circuit.state.value,
                "sentinel.breaker.epoch": circuit.epoch,
            }
        if isinstance(held, Decision):
            denied = held.reason.value
        elif any(denial.stage is Stage.BREAKER for denial in held.shadow):
            denied = Reason.CIRCUIT_OPEN.value
        return StageSpan(StageName.BREAKER, start_ns, end_ns, attributes, denied)


def _bucket_span(check: Check, step: Decision | Pending, start_ns: int, end_ns: int) -> StageSpan:
    bucket, burst = check.tenant.bucket, check.tenant.plan.burst
    attributes: dict[str, Value] = {"sentinel.bucket.burst": burst or 0}
    if bucket is not None:
        attributes["sentinel.bucket.tokens"] = bucket.tokens
    refused = isinstance(step, Decision) and step.stage is Stage.BUCKET and not step.allowed
    shadowed = any(denial.stage is Stage.BUCKET for denial in step.shadow)
    denied = Reason.LOCAL_RATE_LIMITED.value if refused or shadowed else ""
    return StageSpan(StageName.BUCKET, start_ns, end_ns, attributes, denied)


def _priority_span(check: Check, held: Decision | Hold, cause: str, start_ns: int, end_ns: int) -> StageSpan:
    plan = check.tenant.plan
    attributes: dict[str, Value] = {"sentinel.tier": plan.tier.value, "sentinel.weight": plan.weight}
    shed = (
        held.stage is Stage.PRESSURE
        if isinstance(held, Decision)
        else any(denial.stage is Stage.PRESSURE for denial in held.shadow)
    )
    if shed:
        attributes["sentinel.shed.cause"] = cause
    return StageSpan(StageName.PRIORITY, start_ns, end_ns, attributes, Reason.SHED.value if shed else "")


def _window_span(
    decision: Decision,
    start_ns: int,
    end_ns: int,
    numbers: dict[str, Value] | None = None,
    *,
    asked: bool = False,
) -> StageSpan:
    attributes = numbers or {}
    if decision.limit is not None:
        attributes["sentinel.limit"] = decision.limit
    if decision.remaining is not None:
        attributes["sentinel.remaining"] = decision.remaining
    if decision.fallback is not None:
        attributes["sentinel.fallback"] = decision.fallback.value
    denied = "" if decision.allowed else decision.reason.value
    for denial in decision.shadow:
        if denial.stage is Stage.WINDOW:
            denied = denial.reason.value
    return StageSpan(StageName.WINDOW, start_ns, end_ns, attributes, denied, asked)
