"""From what counters said to the answer: statuses, the overall code, tallies, metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sentinel_ext.core.ratelimit.outcome import Cause, Outcome, Status
from sentinel_ext.core.ratelimit.plan import UNMATCHED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sentinel_ext.core.ratelimit.known import PartResult
    from sentinel_ext.core.ratelimit.pending import Options
    from sentinel_ext.core.ratelimit.plan import Line, Plan
    from sentinel_ext.core.ratelimit.rules import Limit

# Under our own name in the dynamic metadata: what people and the access log read.
METADATA_KEY = "sentinel"


def finish(plan: Plan, results: Sequence[PartResult], options: Options) -> Outcome:
    """Make the answer from the results of all parts."""
    statuses, shadow_over, quotas, overs = [], [], [], []
    refused, quotas_over, retry_us = False, True, 0
    for at, line in enumerate(plan.lines):
        status = line.fixed if line.fixed is not None else _status(plan, line, results)
        overs.append(status.over)
        if status.over and line.shadow:
            shadow_over.append(at)
            status = msgspec.structs.replace(status, over=False)
        if line.quota:
            quotas.append(at)
            quotas_over = quotas_over and status.over
        elif status.over:
            refused = True
        if status.over and status.retry_us > retry_us:
            retry_us = status.retry_us
        statuses.append(status)
    refused = refused or (bool(quotas) and quotas_over)
    is_over = refused and not options.shadow
    return Outcome(
        is_over,
        tuple(statuses),
        Cause.RATE_LIMITED if is_over else None,
        retry_us if refused else 0,
        tuple(quotas),
        tuple(shadow_over),
        refused and not is_over,
        metadata(plan, overs, options) if options.metadata else None,
    )


def _status(plan: Plan, line: Line, results: Sequence[PartResult]) -> Status:
    """Describe a descriptor by its tightest limit: one that is over, else the one with least left."""
    best: tuple[PartResult, Limit, int] | None = None
    left_of_best = 0
    for at in range(line.first, line.last):
        result, part = results[at], plan.parts[at]
        left = part.known.capacity - result[1]
        is_tighter = best is None or (
            (result[0], result[3]) > (best[0][0], best[0][3])
            if result[0] or best[0][0]
            else left < left_of_best
        )
        if is_tighter:
            best, left_of_best = (result, part.known.limit, at), left
    if best is None:
        return UNMATCHED
    (is_over, _, reset_us, retry_us, _), limit, at = best
    _count(plan, line, at, results[at])
    remaining = 0 if is_over or left_of_best < 0 else left_of_best
    return Status(is_over, limit, remaining, reset_us, retry_us)


def _count(plan: Plan, line: Line, at: int, result: PartResult) -> None:
    tally, part = line.tally, plan.parts[at]
    if tally is None:
        return
    is_over, used, _, _, is_cached = result
    hits = max(0, part.hits)
    if is_cached:
        tally.refuse(hits)  # none of them was counted, so all are over
    else:
        tally.count(part.known.capacity, part.near, hits, used, over=is_over)
    if is_over and line.shadow:
        tally.shadow += hits


def shed(plan: Plan, retry_us: int, options: Options) -> Outcome:
    """Refuse a request because its tier is shed."""
    statuses = []
    for line in plan.lines:
        parts = plan.parts[line.first : line.last]
        is_shed = any(part.known.limit.tier is not None for part in parts)
        statuses.append(Status(over=is_shed, retry_us=retry_us if is_shed else 0))
    named = metadata(plan, [status.over for status in statuses], options) if options.metadata else None
    if options.shadow:
        return Outcome(False, tuple(statuses), refused=True, metadata=named)
    return Outcome(True, tuple(statuses), Cause.SHED, retry_us, metadata=named)


def with_ticket(outcome: Outcome, plan: Plan, ticket: Mapping[str, Any]) -> Outcome:
    """Add what ties the request's end to this decision, for the access log."""
    words = {**ticket, "allowed": not outcome.over}
    if outcome.cause is not None:
        words["reason"] = outcome.cause.value
    # Beside what there may be already, and not below a key of its own: the log reads the same names of Check.
    named = {"domain": plan.domain, **(outcome.metadata or {}), **words}
    return msgspec.structs.replace(outcome, metadata=named)


def metadata(plan: Plan, overs: Sequence[bool], options: Options) -> dict[str, Any]:
    """Return what Envoy gets as dynamic metadata: the request, what its rules say, and which of them fired.

    Args:
        overs: descriptors that are over, in shadow too.
    """
    descriptors: list[dict[str, Any]] = []
    merged: dict[str, Any] = {}
    fired = [line.rule for line, over in zip(plan.lines, overs, strict=True) if over]
    for line, over in zip(plan.lines, overs, strict=True):
        descriptors.append(_described(line))
        if line.metadata is not None and (not over or line.shadow):
            merged = _merged(merged, line.metadata)
    words: dict[str, Any] = {
        "domain": plan.domain,
        "descriptors": descriptors,
        "quotaModeEnabled": options.quota,
    }
    if plan.addend:
        words["hitsAddend"] = plan.addend
    if merged:
        words["metadata"] = merged
    if fired:
        words[METADATA_KEY] = {"domain": plan.domain, "rules": fired}
    return words


def _described(line: Line) -> dict[str, Any]:
    descriptor = line.descriptor
    described: dict[str, Any] = {"entries": [f"{key}={value}" for key, value in descriptor.entries]}
    if descriptor.override is not None:
        own = descriptor.override
        described["limit"] = f"requests_per_unit:{own.requests} unit:{own.unit.value.upper()}"
    if descriptor.hits is not None:
        described["hitsAddend"] = descriptor.hits
    return described


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Merge deeply into a new map: the first value of a scalar wins, and no rule's own map is touched."""
    merged = dict(first)
    for key, value in second.items():
        have = merged.get(key)
        if isinstance(have, dict) and isinstance(value, dict):
            merged[key] = _merged(have, value)
        elif key not in merged:
            merged[key] = value
    return merged
