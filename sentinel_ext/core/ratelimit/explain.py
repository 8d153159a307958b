"""Why a rate limit request would pass or not: what matches, what is counted, and nothing changes.

The overall verdict is made by answers.finish, as for every request; only its numbers come from looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.controller import Controller
from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.explain.looks import Verdict
from sentinel_ext.core.explain.words import duration, many
from sentinel_ext.core.model import TIER_INDEX
from sentinel_ext.core.outlook import look_ahead
from sentinel_ext.core.ratelimit.asks import BINDING, LOOK, CounterAnswer, CounterAsk
from sentinel_ext.core.ratelimit.keys import counter_key
from sentinel_ext.core.ratelimit.known import KINDS
from sentinel_ext.core.ratelimit.matching import Match
from sentinel_ext.core.ratelimit.outcome import Cause, Problem
from sentinel_ext.core.ratelimit.pending import Options
from sentinel_ext.core.ratelimit.planner import Planner
from sentinel_ext.core.ratelimit.rules import Limit, OnStoreFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentinel_ext.core.ratelimit.known import Known
    from sentinel_ext.core.ratelimit.query import Query


_FLAGS = BINDING | LOOK
_REFUSED = "The request would be refused"


class LimitLook(msgspec.Struct, frozen=True):
    """One limit of a rule; `fault` says why the store did not answer, `leased` hits need no answer of it."""

    limit: Limit
    hits: int
    used: int
    remaining: int
    over: bool
    reset_ms: int
    retry_ms: int
    leased: int
    fault: StoreFault | None
    on_store_failure: OnStoreFailure


class LineLook(msgspec.Struct, frozen=True):
    """One descriptor of a request."""

    entries: tuple[tuple[str, str], ...]
    rule: str
    place: str
    why: str
    verdict: Verdict
    shadow: bool
    quota: bool
    limits: tuple[LimitLook, ...]


class LimitsExplanation(msgspec.Struct, frozen=True):
    """All of it. `cause` is None when it passes; `is_undecided`: Envoy's failure_mode_deny decides."""

    lines: tuple[LineLook, ...]
    cause: Cause | None
    is_undecided: bool
    sentence: str
    advice: str


class Line(msgspec.Struct, frozen=True):
    """What applies to a descriptor, before the store is asked: (limit, key, ask) of each counted limit."""

    entries: tuple[tuple[str, str], ...]
    hits: int
    found: Match | None
    limits: tuple[Limit, ...]
    counted: tuple[tuple[Limit, bytes, CounterAsk], ...]


def lines_of(planner: Planner, query: Query) -> list[Line] | Problem:
    """Work out what is to be asked."""
    looked = planner.look(query)
    if isinstance(looked, Problem):
        return looked
    lines = []
    for descriptor, (found, limits) in zip(query.descriptors, looked, strict=True):
        hits = query.hits if descriptor.hits is None else descriptor.hits
        counted = []
        for limit in limits:
            if found is not None and not limit.unlimited:
                key = counter_key(query.domain, found.identity, limit)
                ask = CounterAsk(
                    key,
                    KINDS[limit.algorithm],
                    limit.window_us,
                    limit.requests,
                    limit.burst,
                    hits,
                    _FLAGS,
                )
                counted.append((limit, key, ask))
        lines.append(Line(descriptor.entries, hits, found, limits, tuple(counted)))
    return lines


class Asked(msgspec.Struct, frozen=True):
    """What is needed besides the lines: who knows leases, whose pressure sheds, and the time."""

    planner: Planner
    controller: Controller
    options: Options
    now_ns: int


def explain_limits(
    lines: Sequence[Line], said: Sequence[Sequence[CounterAnswer | StoreFault]], asked: Asked
) -> LimitsExplanation:
    """Say what becomes of a request.

    Args:
        said: for each line, the store's answers to its counted limits.
    """
    looks = tuple(_line(line, answers, asked) for line, answers in zip(lines, said, strict=True))
    shed = _shed(lines, asked)
    if shed:
        advice = "Give the upstream more capacity, or the limit a higher `tier`."
        return LimitsExplanation(looks, Cause.SHED, False, f"{_REFUSED} (shed): {shed}", advice)
    faulty = [look for line in looks for look in line.limits if look.fault is not None]
    refusing = _refusing(looks)
    if refusing and not asked.options.shadow:
        is_away = all(look.fault is not None for line in refusing for look in line.limits if look.over)
        cause = Cause.STORE_UNAVAILABLE if is_away else Cause.RATE_LIMITED
        return LimitsExplanation(looks, cause, False, _refusal(refusing[0], cause), _advice(refusing[0]))
    if any(look.on_store_failure is OnStoreFailure.ERROR for look in faulty):
        text = "The store does not answer; `on_store_failure: error` leaves it to Envoy's failure_mode_deny."
        return LimitsExplanation(
            looks, None, True, text, "Bring Redis back, or choose another on_store_failure."
        )
    return LimitsExplanation(looks, None, False, _passes(looks, is_shadow=bool(refusing)), "")


def _refusing(looks: Sequence[LineLook]) -> list[LineLook]:
    over = [look for look in looks if look.verdict is Verdict.REFUSE and not look.shadow]
    quotas = [look for look in looks if look.quota and not look.shadow]
    if all(look.verdict is Verdict.REFUSE for look in quotas):
        return over
    return [look for look in over if not look.quota]


def _line(line: Line, answers: Sequence[CounterAnswer | StoreFault], asked: Asked) -> LineLook:
    looks = tuple(
        _limit(limit, asked.planner.known(key), line.hits, answer, asked)
        for (limit, key, _), answer in zip(line.counted, answers, strict=True)
    )
    found = line.found
    verdict = Verdict.NONE
    if looks:
        verdict = Verdict.REFUSE if any(look.over for look in looks) else Verdict.PASS
    return LineLook(
        line.entries,
        "" if found is None else found.rule,
        "" if found is None else found.node.place,
        _why(line),
        verdict,
        found is not None and found.node.shadow,
        asked.options.quota or (found is not None and found.node.quota),
        looks,
    )


def _limit(
    limit: Limit, known: Known | None, hits: int, answer: CounterAnswer | StoreFault, asked: Asked
) -> LimitLook:
    leased = known.lease if known is not None and asked.now_ns < known.lease_until_ns else 0
    mode = limit.on_store_failure or asked.options.on_store_failure
    if not isinstance(answer, CounterAnswer):
        # What `local` would count here alone is not looked at: it passes until it does not.
        over = mode is OnStoreFailure.CLOSED and hits >= 0 and not 0 < hits <= leased
        return LimitLook(limit, hits, 0, 0, over, 0, 1_000 if over else 0, leased, answer, mode)
    known_us = _known_over_us(known, hits, asked.now_ns)
    over = (answer.over or known_us > 0) and not 0 < hits <= leased
    retry_us = max(answer.retry_us, known_us)
    used = max(0, answer.used - leased)
    remaining = 0 if over else max(0, limit.capacity - used)
    reset_ms, retry_ms = -(-answer.reset_us // 1000), -(-retry_us // 1000) if over else 0
    return LimitLook(limit, hits, used, remaining, over, reset_ms, retry_ms, leased, None, mode)


def _known_over_us(known: Known | None, hits: int, now_ns: int) -> int:
    """Return for how long this instance refuses without asking; a refund elsewhere is heard of after that."""
    if known is None or now_ns >= known.over_until_ns or hits < known.over_hits:
        return 0
    return max(1, (known.over_until_ns - now_ns) // 1000)


def _why(line: Line) -> str:
    found = line.found
    if found is None:
        return "No rule of the domain matches these entries in this order, or the one that does has no limit."
    if not line.limits:
        names = ", ".join(limit.name for limit in found.limits)
        return f"The rule matches, but another descriptor's limit replaces {names}."
    if not line.counted:
        return "The rule is unlimited."
    if not found.node.key:
        return "The request brings its own limit, which overrides the rules."
    node = found.node
    how = "its key alone" if not node.value else "a pattern" if "*" in node.value else "its very value"
    return f"The rule at {node.place or 'the file'} matches by {how}."


def _shed(lines: Sequence[Line], asked: Asked) -> str:
    """Say why the request is shed; "" when it is not."""
    tiered = [(limit, key) for line in lines for limit, key, _ in line.counted if limit.tier is not None]
    if not tiered:
        return ""
    limit, key = max(tiered, key=lambda each: TIER_INDEX[each[0].tier] if each[0].tier else 0)
    protected = asked.controller.upstreams.get(limit.upstream)
    if protected is None or limit.tier is None:
        return ""
    ahead = look_ahead(protected.load, key.decode("utf-8", "replace"), TIER_INDEX[limit.tier])
    if ahead.passes:
        return ""
    score = protected.load.shared.pressure
    return f"upstream {limit.upstream!r} is at pressure {score:.0f}, and tier {limit.tier.value} is shed."


def _refusal(line: LineLook, cause: Cause) -> str:
    look = next(look for look in line.limits if look.over)
    if cause is Cause.STORE_UNAVAILABLE:
        return f"{_REFUSED} with 429: the store does not answer, and {_rule(line)} says closed."
    window = duration(look.limit.window_us // 1000)
    used = f"{look.used} of {many(look.limit.capacity, 'hit')} used in {window}"
    return f"{_REFUSED} with 429: {_rule(line)} has {used}; it fits in {duration(look.retry_ms)}."


def _advice(line: LineLook) -> str:
    look = next(look for look in line.limits if look.over)
    if look.fault is not None:
        return "Bring Redis back, or choose another on_store_failure."
    if not look.limit.requests:
        return f"{_rule(line)} has requests_per_unit 0, which denies all."
    return f"Wait {duration(look.retry_ms)}, raise the limit at {line.place or 'its place'}, or reset it."


def _passes(looks: Sequence[LineLook], *, is_shadow: bool) -> str:
    if is_shadow or any(look.verdict is Verdict.REFUSE for look in looks):
        return "The request would pass, although a limit is over: shadow mode, or not all quotas are over."
    counted = [(line, look) for line in looks for look in line.limits if look.fault is None]
    if not counted:
        return "The request would pass: nothing limits it."
    line, look = min(counted, key=lambda each: each[1].remaining)
    window = duration(look.limit.window_us // 1000)
    used = f"{look.used} of {many(look.limit.capacity, 'hit')} used in {window}"
    return f"The request would pass: the tightest limit, {_rule(line)}, has {used}."


def _rule(line: LineLook) -> str:
    return f"rule {line.rule!r}"
