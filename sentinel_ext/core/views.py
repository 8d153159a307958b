"""What an instance shows of itself to people: plain values, made from state and keeping none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.breaker import CircuitState, Force
from sentinel_ext.core.model import Mode, Plan, Stage, Tier
from sentinel_ext.core.scaling import looked_limit

if TYPE_CHECKING:
    from sentinel_ext.core.circuit import Transition
    from sentinel_ext.core.controller import Controller, Protected
    from sentinel_ext.core.tenant import Tenant

# Changes of a breaker that are remembered, the latest.
MAX_CHANGES = 20
_TIERS = tuple(tier.value for tier in Tier)
_FULL = 100.0


class TenantView(msgspec.Struct, frozen=True):
    """One tenant.

    Attributes:
        rule: the policy's entry that gave the plan.
        rate: requests per second at this instance lately, allowed or not.
        allowed, denied: decided here since it was first seen.
        used: hits in its window over all instances; None when nothing is known.
        limit: that holds now; None is unlimited.
        tokens: in its bucket here; None without a bucket.
        is_known: this instance has seen it lately.
    """

    name: str
    plan: Plan
    rule: str
    rate: float
    allowed: int
    denied: int
    used: int | None
    limit: int | None
    tokens: int | None
    is_known: bool


class UpstreamView(msgspec.Struct, frozen=True):
    """How hard an upstream is pressed, over all instances. Rates are requests per second.

    Attributes:
        signals: the ramps behind the score, 0 to 100 each.
        credit: that may pass; None lets all pass.
        tier_share: which share of each tier's requests passes, 0 to 1.
    """

    name: str
    pressure: float
    signals: dict[str, float]
    offered: float
    admitted: float
    completed: float
    credit: float | None
    peak: float
    baseline_ms: float
    inflight: int
    tier_share: dict[str, float]
    is_blind: bool
    instances: int


class PressureView(msgspec.Struct, frozen=True):
    """The global score and what is behind it. Scores and signals are 0 to 100."""

    score: float
    level: str
    local: float
    local_signals: dict[str, float]
    upstreams: tuple[UpstreamView, ...]


class StageView(msgspec.Struct, frozen=True):
    """How a stage runs.

    Attributes:
        mode: that holds.
        policy_mode: as the files say.
        is_set: an operator set `mode`, be it the policy's own.
    """

    stage: Stage
    mode: Mode
    policy_mode: Mode
    is_set: bool


class Change(msgspec.Struct, frozen=True):
    """A change of a breaker that this instance saw; `at_s` is wall clock time, seconds."""

    at_s: float
    before: str
    after: str
    reason: str
    forced: str
    without_store: bool


class BreakerView(msgspec.Struct, frozen=True):
    """One breaker. `history` holds the latest changes, newest first."""

    upstream: str
    state: str
    forced: str
    reason: str
    retry_ms: int
    ok: int
    failed: int
    slow: int
    consecutive: int
    permits: int
    permits_max: int
    epoch: int
    backoff_level: int
    without_store: bool
    history: tuple[Change, ...] = ()


def tenant_view(
    tenant: Tenant, rule: str, now_ns: int, *, is_known: bool, rates: dict[str, float], used: int | None
) -> TenantView:
    """Show a tenant.

    Args:
        rates: requests per second that tenants may have, where that is less than they ask for.
        used: what the store has just said; None: what it said last.
    """
    plan = tenant.plan
    limit = plan.limit
    if limit:
        limit = looked_limit(tenant, limit, rates.get(tenant.name), now_ns)
    return TenantView(
        tenant.name,
        plan,
        rule,
        tenant.rate,
        tenant.allowed,
        tenant.denied,
        tenant.last_used(now_ns) if used is None else used,
        limit,
        None if tenant.bucket is None else tenant.bucket.look(1, now_ns)[0],
        is_known,
    )


def pressure_view(controller: Controller, upstream: str = "") -> PressureView:
    """Show the pressure; of one upstream, or of all."""
    shown = [p for name, p in controller.upstreams.items() if upstream in {"", name}]
    return PressureView(
        controller.pressure,
        controller.level.level,
        controller.local,
        {name: _FULL * value for name, value in controller.local_signals.items()},
        tuple(_upstream_view(protected) for protected in shown),
    )


def _upstream_view(protected: Protected) -> UpstreamView:
    load, shared = protected.load, protected.load.shared
    return UpstreamView(
        protected.name,
        shared.pressure,
        {name: _FULL * value for name, value in shared.signals.items()},
        shared.offered,
        shared.admitted,
        shared.completed,
        shared.credit,
        shared.peak,
        shared.baseline_ms,
        shared.inflight,
        dict(zip(_TIERS, shared.tier_share, strict=True)),
        load.is_blind,
        shared.instances,
    )


def breaker_view(protected: Protected, now_ns: int, history: tuple[Change, ...] = ()) -> BreakerView | None:
    """Show a breaker; None where the upstream has none."""
    circuit = protected.circuit
    if circuit is None:
        return None
    view, state = circuit.view, circuit.look(is_vital=False, now_ns=now_ns)[0]
    is_shut = state is CircuitState.CLOSED
    return BreakerView(
        protected.name,
        state.value,
        view.forced.value,
        "" if view.reason is None else view.reason.value,
        0 if is_shut or state is CircuitState.HALF_OPEN else circuit.refusal_ms(now_ns),
        view.ok,
        view.failed,
        view.slow,
        view.consecutive,
        view.permits if state is CircuitState.HALF_OPEN else 0,
        circuit.options.half_open_max,
        circuit.epoch,
        view.level,
        circuit.is_local,
        history,
    )


def change_view(transition: Transition, at_s: float) -> Change:
    """Show a change."""
    return Change(
        at_s,
        transition.before.value,
        transition.after.value,
        "" if transition.reason is None else transition.reason.value,
        "" if transition.forced is Force.AUTO else transition.forced.value,
        transition.is_local,
    )
