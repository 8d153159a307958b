"""The compiled policy: who gets which plan, how callers are identified, which stages run."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from sentinel_ext.core.model import Mode, Plan, Stage


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


class PlanDefaults(msgspec.Struct, frozen=True):
    """What a plan has where the policy file leaves it out; from the environment.

    Attributes:
        limit: admitted hits per window over all instances; 0 denies all, None is unlimited.
        window_us: length of the limit window, microseconds.
        burst: size of the local token bucket, tokens; 0 denies all.
        refill_nano: bucket refill, billionths of a token per second.
    """

    limit: int | None
    window_us: int
    burst: int
    refill_nano: int


class Policy(msgspec.Struct, frozen=True):
    """Everything a decision needs from the policy file, compiled.

    Attributes:
        plans: every plan by name, those of the file and those made for tenants with their own numbers.
        tenants: exact tenant name → plan; wins over any pattern.
        patterns: most literal characters first; the first that matches wins.
        sources: places to look for the tenant's name, in order.
        modes: the mode of each stage that is not plain `enforce`.
    """

    plans: Mapping[str, Plan]
    default_plan: Plan
    tenants: Mapping[str, Plan]
    patterns: tuple[Pattern, ...]
    sources: tuple[Source, ...]
    modes: Mapping[Stage, Mode]

    def plan_for(self, tenant: str) -> Plan:
        """Return the tenant's plan: its own entry, else the most literal pattern's, else the default."""
        plan = self.tenants.get(tenant)
        if plan is not None:
            return plan
        for pattern in self.patterns:
            if pattern.matches(tenant):
                return pattern.plan
        return self.default_plan

    def mode(self, stage: Stage) -> Mode:
        """Return how `stage` runs; `enforce` unless the policy says otherwise."""
        return self.modes.get(stage, Mode.ENFORCE)
