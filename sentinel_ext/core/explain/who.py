"""Who calls, and what that means: the tenant, its plan, the upstream, each with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.identify import ANONYMOUS, DEFAULT_UPSTREAM
from sentinel_ext.core.policy import SourceKind

if TYPE_CHECKING:
    from sentinel_ext.core.identify import Caller, Check, Identity
    from sentinel_ext.core.policy import Policy, Source


class Who(msgspec.Struct, frozen=True):
    """Stage 0. `found_in` is "" for anonymous; `problem` a name that had to be ignored."""

    found_in: str
    sources: tuple[str, ...]
    problem: str
    rule: str
    why: str
    upstream_why: str
    is_known: bool


def who(
    check: Check, caller: Caller, found: tuple[Identity, Source | None], policy: Policy, *, is_known: bool
) -> Who:
    """Say where each fact comes from."""
    identity, source = found
    sources = tuple(_source(each) for each in policy.sources)
    rule = policy.rule_for(check.tenant.name)
    return Who(
        "" if source is None else _source(source),
        sources,
        "" if identity.problem is None else str(identity.problem),
        rule,
        _why(check.tenant.name, rule, sources, policy, named=source is not None),
        _upstream_why(check.upstream, caller, policy),
        is_known,
    )


def _source(source: Source) -> str:
    if source.kind is SourceKind.PRINCIPAL:
        return "the client certificate's principal"
    if source.kind is SourceKind.JWT_CLAIM:
        return f"jwt_claim {source.name} of {source.payload}"
    return f"{source.kind.value} {source.name}"


def _why(name: str, rule: str, sources: tuple[str, ...], policy: Policy, *, named: bool) -> str:
    if not named:
        looked = f"none of these names the tenant: {', '.join(sources)}"
        start = f"The caller is {ANONYMOUS}, for {looked}. "
    else:
        start = ""
    if rule == "default_plan" and not policy.tenants and not policy.patterns:
        return f"{start}No policy names any tenant (POLICY_FILE), so everybody has the default plan."
    if rule == "default_plan":
        return f"{start}No entry of `tenants` in the policy fits {name!r}, so default_plan holds."
    kind = "A pattern" if "*" in rule else "An entry"
    return f"{start}{kind} of the policy, {rule}, fits {name!r}."


def _upstream_why(upstream: str, caller: Caller, policy: Policy) -> str:
    said = caller.context_extensions.get("upstream", "")
    if said and said != upstream:
        start = "The route's context extension `upstream` cannot be used, so it is default"
    elif said:
        start = "The route's context extension `upstream` says so"
    else:
        start = f"The route has no context extension `upstream`, so it is {DEFAULT_UPSTREAM}"
    known = upstream in policy.upstreams
    return f"{start}; rules of upstreams.{upstream if known else DEFAULT_UPSTREAM} hold."
