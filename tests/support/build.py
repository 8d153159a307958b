"""Values of the core with defaults, so that a test writes only what it is about."""

from __future__ import annotations

import itertools
import socket
from typing import TYPE_CHECKING

from sentinel_ext.core.decision import Decision, Reason
from sentinel_ext.core.identify import Check, Identifier, NameProblem
from sentinel_ext.core.model import FailureMode, Mode, Plan, Stage, Tier
from sentinel_ext.core.pipeline import Pipeline
from sentinel_ext.core.policy import Pattern, Policy, Source, SourceKind, UpstreamRules
from sentinel_ext.core.tenant import MAX_TENANTS, Tenant, Tenants
from sentinel_ext.engine import Engine
from sentinel_ext.store.batcher import Batcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sentinel_ext.core.decision import ShadowDenial
    from sentinel_ext.store.base import Store

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
HEADER = Source(SourceKind.HEADER, "x-tenant-id")


def make_plan(
    name: str = "silver",
    *,
    tier: Tier = Tier.STANDARD,
    limit: int | None = 100,
    window_us: int = 60_000_000,
    burst: int | None = 20,
    refill_nano: int = 10_000_000_000,
    on_store_failure: FailureMode = FailureMode.LOCAL,
    weight: int = 1,
    guaranteed_per_s: float = 0.0,
) -> Plan:
    return Plan(name, tier, limit, window_us, burst, refill_nano, on_store_failure, weight, guaranteed_per_s)


def make_policy(
    default: Plan | None = None,
    *,
    tenants: Mapping[str, Plan] | None = None,
    patterns: tuple[Pattern, ...] = (),
    sources: tuple[Source, ...] = (HEADER,),
    bucket: Mode = Mode.ENFORCE,
    window: Mode = Mode.ENFORCE,
    pressure: Mode = Mode.ENFORCE,
    breaker: Mode = Mode.ENFORCE,
    upstreams: Mapping[str, UpstreamRules] | None = None,
    default_upstream: UpstreamRules | None = None,
) -> Policy:
    plan = default or make_plan()
    named = tenants or {}
    plans = {each.name: each for each in (plan, *named.values())}
    modes = {
        Stage.BUCKET: bucket,
        Stage.WINDOW: window,
        Stage.PRESSURE: pressure,
        Stage.BREAKER: breaker,
    }
    others = default_upstream or UpstreamRules()
    return Policy(plans, plan, named, patterns, sources, modes, upstreams or {}, others)


def make_tenant(plan: Plan | None = None, name: str = "acme", now_ns: int = 0) -> Tenant:
    return Tenant(name, plan or make_plan(), now_ns)


def make_check(
    tenant: Tenant | None = None, hits: int = 1, problem: NameProblem | None = None, **fields: str
) -> Check:
    text = {
        "upstream": "default",
        "correlation_id": "corr-1",
        "decision_id": "00000000000000d1",
        "traceparent": "",
        **fields,
    }
    return Check(tenant or make_tenant(), hits=hits, problem=problem, **text)


def make_decision(
    *,
    allowed: bool = True,
    stage: Stage = Stage.WINDOW,
    reason: Reason = Reason.ALLOWED,
    check: Check | None = None,
    limit: int | None = 100,
    remaining: int | None = 99,
    reset_ms: int | None = 60_000,
    retry_ms: int = 0,
    shadow: tuple[ShadowDenial, ...] = (),
    fallback: FailureMode | None = None,
) -> Decision:
    return Decision(
        check or make_check(),
        allowed,
        stage,
        reason,
        limit,
        remaining,
        reset_ms,
        retry_ms,
        shadow,
        fallback,
    )


def make_denial(reason: Reason = Reason.RATE_LIMITED, retry_ms: int = 1500, **fields) -> Decision:
    stage = Stage.BUCKET if reason is Reason.LOCAL_RATE_LIMITED else Stage.WINDOW
    values = {"remaining": 0, "reset_ms": retry_ms, **fields}
    return make_decision(allowed=False, stage=stage, reason=reason, retry_ms=retry_ms, **values)


def counting_hex() -> Callable[[int], str]:
    """Return a source of "random" ids that counts: 1, 2, 3 in 16 digits, over and over."""
    numbers = itertools.count(1)
    return lambda count: (f"{next(numbers):016x}" * count)[: count * 2]


def make_engine(
    store: Store,
    now_ns: Callable[[], int],
    policy: Policy | None = None,
    *,
    timeout_s: float = 30.0,
    max_tenants: int = MAX_TENANTS,
) -> Engine:
    """Wire an engine around `store`; start and close its `batcher`. The deadline is out of the way."""
    policy = policy or make_policy()
    tenants = Tenants(policy, max_tenants)
    identifier = Identifier(policy.sources, counting_hex())
    return Engine(Pipeline(policy), identifier, tenants, Batcher(store, timeout_s), now_ns)


def free_tcp_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
