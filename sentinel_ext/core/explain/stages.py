"""Looks at the stages one by one: what pipeline.py and shedding.py would do, and nothing changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.breaker import CircuitState
from sentinel_ext.core.controller import Protected
from sentinel_ext.core.decision import Reason, StoreFault
from sentinel_ext.core.explain.looks import (
    BreakerNumbers,
    BucketNumbers,
    PressureNumbers,
    StageLook,
    Verdict,
    WindowNumbers,
)
from sentinel_ext.core.explain.words import duration, many
from sentinel_ext.core.identify import Check
from sentinel_ext.core.model import FailureMode, Mode, Stage
from sentinel_ext.core.outlook import look_ahead
from sentinel_ext.core.pipeline import NEVER_RETRY_MS, STORE_RETRY_MS
from sentinel_ext.core.scaling import looked_limit
from sentinel_ext.core.shedding import shed_retry_ms
from sentinel_ext.core.window import WindowQuery, WindowReply

if TYPE_CHECKING:
    from sentinel_ext.core.outlook import Outlook

_FULL = 100.0


class Scene(msgspec.Struct, frozen=True):
    """One request before the stages.

    Attributes:
        modes: of the stages, as they run.
        protected: the request's upstream.
        instances: how many share the store.
        now_ns: the time that counts.
    """

    check: Check
    modes: dict[Stage, Mode]
    protected: Protected
    instances: int
    now_ns: int

    @property
    def is_denied(self) -> bool:
        """Limit 0: the window refuses before anybody looks at the upstream."""
        return self.check.tenant.plan.limit == 0 and self.modes[Stage.WINDOW] is Mode.ENFORCE


def window_query(scene: Scene) -> WindowQuery | None:
    """Return what the store is to be asked; None where no window counts."""
    tenant, limit = scene.check.tenant, scene.check.tenant.plan.limit
    if limit is None or scene.modes[Stage.WINDOW] is Mode.OFF:
        return None
    if limit:
        rates = scene.protected.load.shared.rates if scene.modes[Stage.PRESSURE] is Mode.ENFORCE else {}
        limit = looked_limit(tenant, limit, rates.get(tenant.name), scene.now_ns)
    return WindowQuery(tenant.key, tenant.sub_us, limit, scene.check.hits)


def bucket(scene: Scene) -> StageLook:
    """Look at the local bucket."""
    check, mode, plan = scene.check, scene.modes[Stage.BUCKET], scene.check.tenant.plan
    kept = check.tenant.bucket
    if mode is Mode.OFF or kept is None or plan.burst is None:
        return _silent(Stage.BUCKET, mode, "This plan has no bucket.")
    tokens, wait_ms = kept.look(check.hits, scene.now_ns)
    refill = plan.refill_nano / 1e9
    numbers = BucketNumbers(tokens, plan.burst, refill, check.hits)
    text = f"{tokens} of {many(plan.burst, 'token')} left on this instance, {refill:g} more per second."
    if wait_ms == 0:
        return StageLook(Stage.BUCKET, mode, Verdict.PASS, text, numbers=numbers)
    retry_ms = NEVER_RETRY_MS if wait_ms is None else max(1, wait_ms)
    text += " It never fits." if wait_ms is None else f" The next request fits in {duration(wait_ms)}."
    return StageLook(Stage.BUCKET, mode, Verdict.REFUSE, text, Reason.LOCAL_RATE_LIMITED, retry_ms, numbers)


def pressure(scene: Scene) -> StageLook:
    """Look at the upstream's load and the tenant's part in it."""
    check, mode = scene.check, scene.modes[Stage.PRESSURE]
    tenant, load = check.tenant, scene.protected.load
    ahead = look_ahead(load, tenant.name, tenant.tier, tenant.plan.guaranteed_per_s)
    numbers = _pressure_numbers(scene, ahead)
    if mode is Mode.OFF:
        return msgspec.structs.replace(_silent(Stage.PRESSURE, mode, ""), numbers=numbers)
    if scene.is_denied:
        text = "Not asked: the limit of 0 refuses before."
        return StageLook(Stage.PRESSURE, mode, Verdict.NONE, text, numbers=numbers)
    text = _pressure_text(numbers, check.upstream, ahead)
    if ahead.passes:
        return StageLook(Stage.PRESSURE, mode, Verdict.PASS, text, numbers=numbers)
    retry_ms = shed_retry_ms(tenant.tier, check.decision_id)
    return StageLook(Stage.PRESSURE, mode, Verdict.REFUSE, text, Reason.SHED, retry_ms, numbers)


def _pressure_numbers(scene: Scene, ahead: Outlook) -> PressureNumbers:
    load, shared = scene.protected.load, scene.protected.load.shared
    return PressureNumbers(
        shared.pressure,
        ahead.shed_probability,
        scene.check.tenant.plan.tier.value,
        "" if ahead.cause is None else ahead.cause.value,
        shared.credit,
        shared.offered,
        int(ahead.in_flight),
        ahead.places,
        load.is_blind,
        {name: _FULL * value for name, value in shared.signals.items()},
    )


def _pressure_text(numbers: PressureNumbers, upstream: str, ahead: Outlook) -> str:
    text = f"Upstream {upstream!r} is at pressure {numbers.score:.0f} of 100"
    if numbers.is_blind:
        text += " (its access log has gone quiet)"
    if ahead.cause is None:
        return f"{text}; nobody of tier {numbers.tier} is shed."
    if ahead.is_full:
        return f"{text}; all places in flight for tier {numbers.tier} are taken here: all are shed."
    shed = f"{numbers.shed_probability:.0%} of this tenant's requests are shed"
    return f"{text}; {shed}, this one {'is not' if ahead.passes else 'is'}."


def breaker(scene: Scene) -> StageLook:
    """Look at the upstream's breaker."""
    check, mode, circuit = scene.check, scene.modes[Stage.BREAKER], scene.protected.circuit
    if mode is Mode.OFF or circuit is None:
        text = f"Upstream {check.upstream!r} has no breaker."
        silent = _silent(Stage.BREAKER, mode, text)
        return msgspec.structs.replace(silent, numbers=BreakerNumbers("none"))
    state, may_pass = circuit.look(check.tenant.tier == 0, scene.now_ns)
    view = circuit.view
    retry_ms = 0 if may_pass else max(1, circuit.refusal_ms(scene.now_ns))
    numbers = BreakerNumbers(
        state.value,
        view.forced.value,
        "" if view.reason is None else view.reason.value,
        retry_ms,
        view.ok,
        view.failed,
        view.slow,
        view.consecutive,
        view.permits if state is CircuitState.HALF_OPEN else 0,
        1 if circuit.is_local else circuit.options.half_open_max,
        circuit.is_local,
    )
    if scene.is_denied:
        text = "Not asked: the limit of 0 refuses before."
        return StageLook(Stage.BREAKER, mode, Verdict.NONE, text, numbers=numbers)
    text = _breaker_text(numbers, check.upstream, may_pass=may_pass)
    if may_pass:
        return StageLook(Stage.BREAKER, mode, Verdict.PASS, text, numbers=numbers)
    return StageLook(Stage.BREAKER, mode, Verdict.REFUSE, text, Reason.CIRCUIT_OPEN, retry_ms, numbers)


def _breaker_text(numbers: BreakerNumbers, upstream: str, *, may_pass: bool) -> str:
    name = f"The breaker of upstream {upstream!r}"
    if numbers.forced != "auto":
        return f"{name} is {numbers.state}: an operator forced it."
    if numbers.state == "closed":
        return f"{name} is closed."
    why = f" ({numbers.reason.replace('_', ' ')})" if numbers.reason else ""
    if numbers.state == "half_open":
        tries = f"{numbers.permits} of {numbers.permits_max} tries are under way"
        return f"{name} is half-open{why}: {tries}; this request {'may be' if may_pass else 'is not'} one."
    return f"{name} is open{why}: tried again in {duration(numbers.retry_ms)}."


def window(scene: Scene, query: WindowQuery | None, said: WindowReply | StoreFault | None) -> StageLook:
    """Look at the window; `said` is what the store answered to `query`."""
    mode, plan = scene.modes[Stage.WINDOW], scene.check.tenant.plan
    if query is None or plan.limit is None:
        return _silent(Stage.WINDOW, mode, "This plan is unlimited.")
    fault, fallback, limit = None, None, query.limit
    if limit == 0:
        said = WindowReply(granted=False, used=0, reset_us=0, retry_us=0, slot=0)
    elif isinstance(said, StoreFault) or said is None:
        fault, fallback = said or StoreFault.UNREACHABLE, plan.on_store_failure
        if fallback is not FailureMode.LOCAL:
            return _without_store(scene, query, fault, fallback)
        said, limit = scene.check.tenant.look_locally(scene.check.hits, scene.instances, scene.now_ns)
        # It tells of a request that was counted.
        used = said.used - (scene.check.hits if said.granted else 0)
        said = msgspec.structs.replace(said, used=used)
    fits = said.granted if fault else said.used + query.hits <= limit
    numbers = WindowNumbers(
        plan.limit, limit, said.used, max(0, limit - said.used), -(-said.reset_us // 1000),
        plan.window_us // 1000, query.hits, query.key.decode("utf-8", "replace"), fault, fallback,
    )  # fmt: skip
    text = _window_text(numbers)
    if fits:
        return StageLook(Stage.WINDOW, mode, Verdict.PASS, text, numbers=numbers)
    retry_ms = -(-said.retry_us // 1000) or NEVER_RETRY_MS
    return StageLook(Stage.WINDOW, mode, Verdict.REFUSE, text, Reason.RATE_LIMITED, retry_ms, numbers)


def _window_text(numbers: WindowNumbers) -> str:
    if not numbers.limit:
        return "The limit is 0: all requests are refused."
    window = duration(numbers.window_ms)
    text = f"{numbers.used} of {many(numbers.effective_limit, 'request')} used in the last {window}"
    if numbers.fault is not None:
        return f"{text} on this instance: the store does not answer ({numbers.fault.value})."
    if numbers.effective_limit < numbers.limit:
        return f"{text} over all instances; the plan's {numbers.limit} are lowered under load."
    return f"{text} over all instances."


def _without_store(scene: Scene, query: WindowQuery, fault: StoreFault, fallback: FailureMode) -> StageLook:
    mode, plan = scene.modes[Stage.WINDOW], scene.check.tenant.plan
    numbers = WindowNumbers(
        plan.limit or 0, query.limit, 0, 0, 0, plan.window_us // 1000, query.hits,
        query.key.decode("utf-8", "replace"), fault, fallback,
    )  # fmt: skip
    text = f"The store does not answer ({fault.value}); on_store_failure of the plan is {fallback.value}."
    if fallback is FailureMode.OPEN:
        return StageLook(Stage.WINDOW, mode, Verdict.PASS, text, numbers=numbers)
    return StageLook(
        Stage.WINDOW, mode, Verdict.REFUSE, text, Reason.STORE_UNAVAILABLE, STORE_RETRY_MS, numbers
    )


def _silent(stage: Stage, mode: Mode, text: str) -> StageLook:
    return StageLook(stage, mode, Verdict.NONE, "The stage is off." if mode is Mode.OFF else text)
