"""The compiled policy: who gets which plan, how callers are identified, which stages run."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from sentinel_ext.core.breaker import BreakerOptions
from sentinel_ext.core.model import Mode, Plan, Stage
from sentinel_ext.core.ratelimit.rules import Rules

# How long Envoy may keep an access log entry back; slower logs are too late for the control loop. A permit is
# waited for twice that beyond the timeout: one that is given up too early opens the breaker for nothing.
MAX_FLUSH_MS = 250


class SourceKind(StrEnum):
    """Where a tenant's name can come from."""

    HEADER = "header"
    CONTEXT_EXTENSION = "context_extension"
    PRINCIPAL = "principal"
    JWT_CLAIM = "jwt_claim"


class Source(msgspec.Struct, frozen=True):
    """One place to look for the tenant's name.

    Attributes:
        kind: which part of the CheckRequest.
        name: header name (lower case), context extension key or claim name; "" for the principal.
        payload: JWT_CLAIM only: the key under which jwt_authn put the payload into its metadata.
    """

    kind: SourceKind
    name: str = ""
    payload: str = "jwt_payload"


class Pattern(msgspec.Struct, frozen=True):
    """A tenant pattern with `*` for any run of characters, split at its stars."""

    text: str
    plan: Plan

    def matches(self, tenant: str) -> bool:
        """Say whether the whole of `tenant` matches. Stars match greedily, left to right."""
        head, *middle, tail = self.text.split("*")
        if not (tenant.startswith(head) and tenant.endswith(tail) and len(tenant) >= len(head) + len(tail)):
            return False
        at, end = len(head), len(tenant) - len(tail)
        for part in middle:
            found = tenant.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True


class UpstreamRules(msgspec.Struct, frozen=True):
    """What an upstream is held to, and when it is left alone.

    Attributes:
        name: of the entry in the policy file; "default" for an upstream that has none.
        slo_us: what a good request takes at most, microseconds.
        timeout_us: after which Envoy gives a request up, microseconds.
        count_500: whether status 500 counts as a failure.
        capacity_per_s: what it was planned for; contracts are checked against it, decisions never read it.
        slow_us: from where on a request counts as slow for the breaker, microseconds; None counts none.
        breaker: None leaves the upstream without one.
    """

    name: str = "default"
    slo_us: int = 200_000
    timeout_us: int = 30_000_000
    count_500: bool = False
    capacity_per_s: float | None = None
    slow_us: int | None = None
    breaker: BreakerOptions | None = BreakerOptions(probe_ttl_ms=30_000 + 2 * MAX_FLUSH_MS)


class UpstreamDefaults(msgspec.Struct, frozen=True):
    """What an upstream has where the policy file leaves it out; from the environment.

    Attributes:
        slo_us: what a good request takes at most, microseconds.
        timeout_us: Envoy's route timeout, microseconds.
        failure_threshold: share of failed requests that opens a breaker.
        consecutive_failures: failures without a success between them that open it, too.
        cooldown_ms: how long it stays open at first, milliseconds.
        half_open_max: requests let through to try the upstream, over all instances.
    """

    slo_us: int = 200_000
    timeout_us: int = 30_000_000
    failure_threshold: float = 0.5
    consecutive_failures: int = 10
    cooldown_ms: int = 30_000
    half_open_max: int = 5


class PlanDefaults(msgspec.Struct, frozen=True):
    """What a plan has where the policy file leaves it out, and what upstreams have; from the environment.

    Attributes:
        limit: admitted hits per window over all instances; 0 denies all, None is unlimited.
        window_us: length of the limit window, microseconds.
        burst: size of the local token bucket, tokens; 0 denies all.
        refill_nano: bucket refill, billionths of a token per second.
        upstream: of upstreams.
    """

    limit: int | None
    window_us: int
    burst: int
    refill_nano: int
    upstream: UpstreamDefaults = UpstreamDefaults()


class Policy(msgspec.Struct, frozen=True):
    """Everything a decision needs from the policy file, compiled.

    Attributes:
        plans: every plan by name, those of the file and those made for tenants with their own numbers.
        tenants: exact tenant name → plan; wins over any pattern.
        patterns: most literal characters first; the first that matches wins.
        sources: places to look for the tenant's name, in order.
        modes: the mode of each stage that is not plain `enforce`.
        upstreams: those that the file names, "default" aside.
        default_upstream: of all others.
        warnings: what is allowed but looks like a mistake, one line each, for the log at start.
        ratelimit: limits of RateLimitService; None where nobody wrote any.
        digest: of the files, taken before they were read; empty where nobody took it.
        needs_store: nobody is served while the store is away: every plan that somebody has is `closed`.
    """

    plans: Mapping[str, Plan]
    default_plan: Plan
    tenants: Mapping[str, Plan]
    patterns: tuple[Pattern, ...]
    sources: tuple[Source, ...]
    modes: Mapping[Stage, Mode]
    upstreams: Mapping[str, UpstreamRules] = {}
    default_upstream: UpstreamRules = UpstreamRules()
    warnings: tuple[str, ...] = ()
    ratelimit: Rules | None = None
    digest: bytes = b""
    needs_store: bool = False

    def plan_for(self, tenant: str) -> Plan:
        """Return the tenant's plan: its own entry, else the most literal pattern's, else the default."""
        plan = self.tenants.get(tenant)
        if plan is not None:
            return plan
        for pattern in self.patterns:
            if pattern.matches(tenant):
                return pattern.plan
        return self.default_plan

    def rule_for(self, tenant: str) -> str:
        """Name the entry that gives the tenant its plan, as the policy file writes it."""
        if tenant in self.tenants:
            return f"tenants.{tenant}" if tenant.isidentifier() else f'tenants."{tenant}"'
        for pattern in self.patterns:
            if pattern.matches(tenant):
                return f'tenants."{pattern.text}"'
        return "default_plan"

    def mode(self, stage: Stage) -> Mode:
        """Return how `stage` runs; `enforce` unless the policy says otherwise."""
        return self.modes.get(stage, Mode.ENFORCE)

    def upstream(self, name: str) -> UpstreamRules:
        """Return the upstream's rules: its own entry's, else the default's."""
        return self.upstreams.get(name, self.default_upstream)
