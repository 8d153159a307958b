"""The usual requests, answered without the general path: leased, passed, or known to be over.

In place of limiter.py's loops and answers.finish: spending a leased hit takes 0.8 µs (docs/performance.md).
tests/property/test_ratelimit_usual.py holds both ways to the same answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.core.ratelimit import answers
from sentinel_ext.core.ratelimit.outcome import Outcome, Status

if TYPE_CHECKING:
    from sentinel_ext.core.ratelimit.pending import Options
    from sentinel_ext.core.ratelimit.plan import Line, Part, Plan
    from sentinel_ext.core.ratelimit.tallies import Tally

_NS_PER_US = 1000
_NS_PER_S = 1_000_000_000


def all_leased(plan: Plan, now_ns: int) -> Outcome | None:
    """Several limits, hits leased of all of them; None, with nothing spent, if of one there are none."""
    parts = plan.parts
    for part in parts:
        known = part.known
        if known.lease < part.hits or now_ns >= known.lease_until_ns:
            return None
    statuses = []
    for part, line in zip(parts, plan.lines, strict=True):
        known = part.known
        known.seen += part.hits
        known.lease -= part.hits
        statuses.append(
            _passed(line, part, known.used - known.lease, (known.reset_ns - now_ns) // _NS_PER_US)
        )
    return Outcome(False, tuple(statuses))


def one_passed(plan: Plan, part: Part, used: int, reset_us: int, options: Options) -> Outcome:
    """The usual request: one limit, and it passes."""
    status = _passed(plan.lines[0], part, used, reset_us)
    if plan.lines[0].quota or options.metadata:
        named = answers.metadata(plan, [False], options) if options.metadata else None
        return Outcome(False, (status,), quota=(0,) if plan.lines[0].quota else (), metadata=named)
    return Outcome(False, (status,))


def one_over(plan: Plan, part: Part, options: Options, now_ns: int) -> Outcome:
    """One limit, known to be over: the same answer until a number in it changes, which are seconds."""
    if plan.refusal is not None and now_ns < plan.refusal_until_ns:
        tally: Tally = plan.lines[0].tally  # type: ignore[assignment]  # as above
        tally.refuse(part.hits)
        if plan.lines[0].shadow:
            tally.shadow += part.hits
        return plan.refusal
    known = part.known
    plan.refusal = outcome = answers.finish(plan, [known.from_over(now_ns)], options)
    same_ns = min((known.reset_ns - now_ns) % _NS_PER_S, (known.retry_ns - now_ns) % _NS_PER_S)
    plan.refusal_until_ns = min(now_ns + same_ns, known.over_until_ns)
    return outcome


def _passed(line: Line, part: Part, used: int, reset_us: int) -> Status:
    """Describe a descriptor with one limit that passes, and count it."""
    hits = part.hits
    remaining = part.known.capacity - used
    tally: Tally = line.tally  # type: ignore[assignment]  # a line with a part has one
    tally.total += hits
    tally.within += hits
    if used > part.near:
        tally.near += min(hits, used - part.near)
    return Status(False, part.limit, remaining if remaining > 0 else 0, reset_us if reset_us > 0 else 0)
