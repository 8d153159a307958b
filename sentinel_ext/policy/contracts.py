"""Contracts: what plans guarantee, held against their limits and against what upstreams were planned for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.core.model import Tier
from sentinel_ext.core.token_bucket import NANO
from sentinel_ext.policy.kinds import length, per_second
from sentinel_ext.settings_types import MICRO

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sentinel_ext.core.model import Plan
    from sentinel_ext.policy.findings import Findings
    from sentinel_ext.policy.schema import PlanSpec, UpstreamSpec

# Of a capacity, in tenths. The rest is for all others, and for what the capacity turns out to lack.
_GUARANTEED_TENTHS = 7


def guaranteed_nano(plan: Plan) -> int:
    """Return the plan's contract in billionths of a request per second."""
    return round(plan.guaranteed_per_s * NANO)


def contract_of(plan: Plan, path: tuple[str, ...], specs: tuple[PlanSpec, ...], findings: Findings) -> float:
    """Return what `plan` guarantees, requests per second.

    Args:
        plan: all of it but its contract.
        path: where it stands in the file.
        specs: its own values, and those of the plan below it if it is a tenant's.
        findings: where to tell what is wrong.
    """
    own = specs[0].guaranteed
    nano = next((spec.guaranteed for spec in specs if spec.guaranteed is not None), 0)
    # A tenant that is taken out of tier vital or denied all leaves its plan's contract behind.
    if not nano or (own is None and (plan.tier is not Tier.VITAL or plan.limit == 0)):
        return 0.0
    where = (*path, "guaranteed")
    if plan.tier is not Tier.VITAL:
        findings.wrong(where, f"goes with tier vital only (the tier is {plan.tier})")
    if plan.limit is not None and nano * plan.window_us > plan.limit * NANO * MICRO:
        limit = f"{plan.limit} in {length(plan.window_us)}"
        allowed = per_second(plan.limit * NANO * MICRO // plan.window_us)
        message = f"a contract of {per_second(nano)} is above the limit of {limit}, which is {allowed}"
        findings.wrong(where, message)
    changed = any(value is not None for value in (own, specs[0].refill, specs[0].burst))
    if changed and plan.burst is not None and nano > plan.refill_nano:
        refill = per_second(plan.refill_nano)
        message = f"{per_second(nano)} is more than the refill of {refill}, all that one instance lets pass"
        findings.doubtful(where, message)
    return nano / NANO


def check_contracts(
    tenants: Mapping[str, Plan],
    others: tuple[tuple[str, ...], Plan],
    upstreams: Mapping[str, UpstreamSpec | None],
    findings: Findings,
) -> None:
    """Hold the sum of all contracts against each capacity.

    Args:
        tenants: plan by tenant or pattern.
        others: the plan of everybody else, and where it is named.
        upstreams: as the file has them; a capacity is checked where it is written.
        findings: where to tell what is wrong.
    """
    contracts = [nano for plan in tenants.values() if (nano := guaranteed_nano(plan))]
    for path, plan in _shared(tenants, others):
        contract = per_second(guaranteed_nano(plan))
        message = f"each tenant of it has a contract of {contract}, which is counted only once"
        findings.doubtful(path, message)
    if nano := guaranteed_nano(others[1]):
        contracts.append(nano)
    total = sum(contracts)
    capacities = {name: spec.capacity for name, spec in upstreams.items() if spec and spec.capacity}
    if total and not capacities:
        message = f"contracts of {per_second(total)} are checked against nothing: no upstream has a capacity"
        findings.doubtful(("upstreams",), message)
    for name, capacity in capacities.items():
        if total * 10 > capacity * _GUARANTEED_TENTHS:
            allowed = per_second(capacity * _GUARANTEED_TENTHS // 10)
            message = (
                f"the contracts (guaranteed) of {len(contracts)} tenants add up to {per_second(total)}, "
                f"which is more than 0.7 of {per_second(capacity)}: {allowed}"
            )
            findings.wrong(("upstreams", name, "capacity"), message)


def _shared(
    tenants: Mapping[str, Plan], others: tuple[tuple[str, ...], Plan]
) -> Iterable[tuple[tuple[str, ...], Plan]]:
    """Return contracts that stand for any number of tenants."""
    entries = [(("tenants", name), plan) for name, plan in tenants.items() if "*" in name]
    return [(path, plan) for path, plan in (*entries, others) if plan.guaranteed_per_s]
