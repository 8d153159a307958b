"""What an operator reads of a rate limit request: a sentence, advice, and why each rule applies or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.core.explain.words import duration, many
from sentinel_ext.core.ratelimit.outcome import Cause, Problem

if TYPE_CHECKING:
    from sentinel_ext.core.ratelimit.explain import LimitLook, LimitsLook, LineLook

_REFUSED = "The request would be refused"


def sentence(looked: LimitsLook) -> str:
    """Say what it comes to."""
    outcome, shed = looked.outcome, looked.shed
    if isinstance(outcome, Problem):
        return "The store does not answer; `on_store_failure: error` leaves it to Envoy's failure_mode_deny."
    if outcome.over and shed is not None:
        where = f"upstream {shed.upstream!r} is at pressure {shed.pressure:.0f}"
        return f"{_REFUSED} (shed): {where}, and tier {shed.tier.value} is shed."
    if not outcome.over:
        return _passes(looked)
    line, look = _refusing(looked)
    if outcome.cause is Cause.STORE_UNAVAILABLE:
        return f"{_REFUSED} with 429: the store does not answer, and {_rule(line)} says closed."
    if look.fault is not None:
        share = "this instance's share is used up, and the store does not answer"
        return f"{_REFUSED} with 429: of {_rule(line)} {share}."
    return f"{_REFUSED} with 429: {_rule(line)} has {_used(look)}; it fits in {duration(look.retry_ms)}."


def advice(looked: LimitsLook) -> str:
    """Say what would have to change; "" when the request passes."""
    outcome = looked.outcome
    if isinstance(outcome, Problem):
        return "Bring Redis back, or choose another on_store_failure."
    if not outcome.over:
        return ""
    if looked.shed is not None:
        return "Give the upstream more capacity, or the limit a higher `tier`."
    line, look = _refusing(looked)
    if look.fault is not None:
        return "Bring Redis back, or choose another on_store_failure."
    if not look.limit.requests:
        return f"{_rule(line)} has requests_per_unit 0, which denies all."
    place = (line.found.node.place if line.found is not None else "") or "its place"
    return f"Wait {duration(look.retry_ms)}, raise the limit at {place}, or reset it."


def why(line: LineLook) -> str:
    """Say why a rule applies to a descriptor, or why none does."""
    found = line.found
    if found is None:
        return "No rule of the domain matches these entries in this order, or the one that does has no limit."
    if not line.limits:
        names = ", ".join(limit.name for limit in found.limits if limit.name)
        if not line.applies:
            return f"The rule matches, but another descriptor's limit replaces {names}."
        return "The rule is unlimited."
    node = found.node
    if not node.key:
        return "The request brings its own limit, which overrides the rules."
    how = "its key alone" if not node.value else "a pattern" if "*" in node.value else "its very value"
    return f"The rule at {node.place or 'the file'} matches by {how}."


def _refusing(looked: LimitsLook) -> tuple[LineLook, LimitLook]:
    """The limit that keeps the request away longest, of a descriptor that can refuse it."""
    found = [(line, look) for line in looked.lines if not line.shadow for look in line.limits if look.over]
    binding = [pair for pair in found if not pair[0].quota] or found
    return max(binding, key=lambda pair: pair[1].retry_ms)


def _passes(looked: LimitsLook) -> str:
    if any(look.over for line in looked.lines for look in line.limits):
        return "The request would pass, although a limit is over: shadow mode, or not all quotas are over."
    counted = [(line, look) for line in looked.lines for look in line.limits if look.fault is None]
    if not counted:
        return "The request would pass: nothing limits it."
    line, look = min(counted, key=lambda pair: pair[1].remaining)
    return f"The request would pass: the tightest limit, {_rule(line)}, has {_used(look)}."


def _used(look: LimitLook) -> str:
    window = duration(look.limit.window_us // 1000)
    return f"{look.used} of {many(look.limit.capacity, 'hit')} used in {window}"


def _rule(line: LineLook) -> str:
    return f"rule {'' if line.found is None else line.found.rule!r}"
