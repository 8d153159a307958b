"""Why a rate limit request would pass or not: the limiter's own steps, on a copy of what it knows.

Nothing of it stays: a planner and a limiter of the moment, copies of the counters that this instance knows,
and asks that the store answers as if. So what is explained is what would happen, with its numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.explain.looks import Verdict
from sentinel_ext.core.model import TIER_INDEX, Tier
from sentinel_ext.core.outlook import look_ahead
from sentinel_ext.core.ratelimit import answers
from sentinel_ext.core.ratelimit.asks import LOOK
from sentinel_ext.core.ratelimit.limiter import Limiter
from sentinel_ext.core.ratelimit.matching import Match
from sentinel_ext.core.ratelimit.outcome import Outcome, Problem
from sentinel_ext.core.ratelimit.pending import Pending
from sentinel_ext.core.ratelimit.plan import UNMATCHED
from sentinel_ext.core.ratelimit.planner import Planner
from sentinel_ext.core.ratelimit.rules import Limit, OnStoreFailure
from sentinel_ext.core.shedding import SHED_RETRY_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentinel_ext.core.controller import Controller
    from sentinel_ext.core.ratelimit.asks import CounterAnswer, CounterAsk
    from sentinel_ext.core.ratelimit.known import Known
    from sentinel_ext.core.ratelimit.pending import Options
    from sentinel_ext.core.ratelimit.plan import Line, Plan, Shed
    from sentinel_ext.core.ratelimit.query import Query

_TIERS = {index: tier for tier, index in TIER_INDEX.items()}


class LimitLook(msgspec.Struct, frozen=True):
    """One limit of a rule.

    Attributes:
        used: hits counted before this request, `remaining` left after it.
        leased: hits that this instance has ahead and may spend without asking.
        fault: why the store did not answer.
    """

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
    """One descriptor of a request; `found` is the rule that applies to it."""

    entries: tuple[tuple[str, str], ...]
    found: Match | None
    applies: bool
    shadow: bool
    quota: bool
    limits: tuple[LimitLook, ...]

    @property
    def verdict(self) -> Verdict:
        """What the descriptor by itself comes to."""
        if not self.limits:
            return Verdict.NONE
        return Verdict.REFUSE if any(look.over for look in self.limits) else Verdict.PASS


class ShedLook(msgspec.Struct, frozen=True):
    """A request that is shed before anything is counted: whose pressure, and as which tier."""

    upstream: str
    pressure: float
    tier: Tier


class LimitsLook(msgspec.Struct, frozen=True):
    """All of it. `outcome` is a Problem where Envoy's failure_mode_deny decides."""

    lines: tuple[LineLook, ...]
    outcome: Outcome | Problem
    shed: ShedLook | None


class Looking:
    """One request. Make it, ask the store for `asks` (as one request), hand its answer to `look`."""

    def __init__(self, plan: Plan, matches: Sequence[Match | None], limiter: Limiter, now_ns: int) -> None:
        """Made by `begin`."""
        self._plan, self._matches, self._limiter, self._now_ns = plan, matches, limiter, now_ns
        self._leased = [part.known.lease if now_ns < part.known.lease_until_ns else 0 for part in plan.parts]
        self._pending = Pending(plan, now_ns)
        self._begun = limiter.begin_parts(self._pending, now_ns)
        self.asks: tuple[CounterAsk, ...] = tuple(
            msgspec.structs.replace(ask, flags=ask.flags | LOOK) for ask in self._pending.asks
        )

    def look(
        self, said: tuple[CounterAnswer, ...] | StoreFault, options: Options, controller: Controller
    ) -> LimitsLook:
        """Say what comes of it; `said` is the store's answer to `asks`, empty if there were none."""
        pending, limiter = self._pending, self._limiter
        outcome: Outcome | Problem
        if isinstance(self._begun, Outcome):
            outcome, taken = self._begun, self._spent()
        elif isinstance(said, StoreFault):
            outcome, taken = limiter.resume_without_store(pending, self._now_ns), self._spent()
        else:
            taken = self._spent() | {
                at for at, reply in zip(pending.places, said, strict=True) if reply.counted
            }
            outcome = limiter.resume(pending, said, self._now_ns)
        fault = said if isinstance(said, StoreFault) else None
        shed = _shed(self._plan.shed, controller)
        if shed is not None:
            outcome = answers.shed(self._plan, SHED_RETRY_MS[TIER_INDEX[shed.tier]] * 1000, options)
        pairs = zip(self._plan.lines, self._matches, strict=True)
        lines = tuple(self._line(line, found, taken, fault, options) for line, found in pairs)
        return LimitsLook(lines, outcome, shed)

    def _spent(self) -> set[int]:
        """The parts whose hits a lease has paid."""
        asked, results = set(self._pending.places), self._pending.results
        return {at for at, result in enumerate(results) if at not in asked and result and not result[0]}

    def _line(
        self, line: Line, found: Match | None, taken: set[int], fault: StoreFault | None, options: Options
    ) -> LineLook:
        limits = tuple(
            self._limit(at, taken, fault if at in self._pending.places else None, options)
            for at in range(line.first, line.last)
        )
        applies = found is not None and line.fixed is not UNMATCHED
        return LineLook(line.descriptor.entries, found, applies, line.shadow, line.quota, limits)

    def _limit(self, at: int, taken: set[int], fault: StoreFault | None, options: Options) -> LimitLook:
        part, result = self._plan.parts[at], self._pending.results[at]
        limit, hits = part.limit, part.hits
        over, used, reset_us, retry_us, _ = result or (False, 0, 0, 0, False)
        return LimitLook(
            limit,
            hits,
            max(0, used - hits) if at in taken and hits > 0 else used,
            0 if over else max(0, part.known.capacity - used),
            over,
            -(-reset_us // 1000),
            -(-retry_us // 1000) if over else 0,
            self._leased[at],
            fault,
            limit.on_store_failure or options.on_store_failure,
        )


def begin(planner: Planner, query: Query, options: Options, instances: int, now_ns: int) -> Looking | Problem:
    """Begin to look at a request, with what `planner` knows of its counters; `planner` learns nothing."""
    scratch = Planner(planner.rules, options)
    plan = scratch.plan(b"", query, now_ns)
    if isinstance(plan, Problem):
        return plan
    copies: dict[bytes, Known] = {}
    for part in plan.parts:
        key = part.known.key
        known = planner.known(key)
        if known is not None and key not in copies:
            copies[key] = known.copy()
            if known.limit is not part.limit:
                copies[key].use(part.limit)
        part.known = copies.get(key, part.known)
    limiter = Limiter(options)
    limiter.instances = lambda: instances
    limiter.sweep(now_ns)  # from here on it goes by the number of instances
    return Looking(plan, scratch.matches(query), limiter, now_ns)


def _shed(shed: Shed | None, controller: Controller) -> ShedLook | None:
    protected = None if shed is None else controller.upstreams.get(shed.upstream)
    if shed is None or protected is None or look_ahead(protected.load, shed.name, shed.tier).passes:
        return None
    return ShedLook(shed.upstream, protected.load.shared.pressure, _TIERS[shed.tier])
