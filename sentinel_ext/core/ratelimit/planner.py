"""Requests → plans, by the rules in force. Tables are bounded; a reload keeps what is known of counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentinel_ext.core.ratelimit.keys import counter_key
from sentinel_ext.core.ratelimit.known import Known
from sentinel_ext.core.ratelimit.matching import match, overridden, replaced
from sentinel_ext.core.ratelimit.outcome import Problem
from sentinel_ext.core.ratelimit.plan import UNLIMITED, UNMATCHED, Line, Part, Plan, flags_of
from sentinel_ext.core.ratelimit.rules import Unit
from sentinel_ext.core.ratelimit.tallies import Tallies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentinel_ext.core.ratelimit.matching import Match
    from sentinel_ext.core.ratelimit.pending import Options
    from sentinel_ext.core.ratelimit.query import Query
    from sentinel_ext.core.ratelimit.rules import Limit, Rules

# A plan is about 1 KB. Dropped whole when full: who invents requests costs 16 MB and some misses.
MAX_PLANS: Final = 16_384
# Larger messages are worked out each time; an ordinary one has some 100 bytes.
MAX_PLANNED_BYTES: Final = 1_024
# Counters known here, about 400 bytes each; the one met first is forgotten first, and its lease given back.
MAX_KNOWN: Final = 65_536


class Planner:
    """Belongs to one event loop.

    Attributes:
        rules: in force; None until some were loaded.
        plans: by the request's bytes, for a look before `plan` is called.
        forgotten: told of counters that leave the table.
        tallies: of all rules.
    """

    def __init__(self, rules: Rules | None, options: Options) -> None:
        """Start with no plan."""
        self.rules = rules
        self.plans: dict[bytes, Plan] = {}
        self.forgotten: Callable[[Known], None] = lambda _known: None
        self.tallies = Tallies()
        self._options = options
        self._known: dict[bytes, Known] = {}

    def replace(self, rules: Rules | None) -> None:
        """Go by `rules` from now on. Requests under way end under the plan they began with."""
        self.rules = rules
        self.plans = {}

    def known(self, key: bytes) -> Known | None:
        """Return what is known of a counter."""
        return self._known.get(key)

    def __len__(self) -> int:
        return len(self._known)

    def plan(self, message: bytes, query: Query, now_ns: int) -> Plan | Problem:
        """Work a request out, and remember it by its bytes, if it has any (an operator's has not)."""
        problem = self._problem(query)
        if problem is not None:
            return problem
        plan = self._planned(query, now_ns)
        if 0 < len(message) <= MAX_PLANNED_BYTES:
            if len(self.plans) >= MAX_PLANS:
                self.plans.clear()
            self.plans[message] = plan
        return plan

    def _problem(self, query: Query) -> Problem | None:
        if not query.domain:
            return Problem.NO_DOMAIN
        if not query.descriptors:
            return Problem.NO_DESCRIPTORS
        if self.rules is None:
            return Problem.NO_RULES
        for descriptor in query.descriptors:
            if descriptor.override is not None and descriptor.override.unit is Unit.UNKNOWN:
                return Problem.UNKNOWN_UNIT
        return None

    def _planned(self, query: Query, now_ns: int) -> Plan:
        matches = self.matches(query)
        limits = replaced([() if found is None else found.limits for found in matches])
        plan = Plan(query)
        for descriptor, found in zip(query.descriptors, matches, strict=True):
            hits = query.hits if descriptor.hits is None else descriptor.hits
            plan.lines.append(Line(descriptor, hits, found, all_quota=self._options.quota))
        can_refuse = all(
            len(limited) == 1 and not limited[0].unlimited and not line.shadow
            for line, limited in zip(plan.lines, limits, strict=True)
            if line.quota
        )
        for line, found, limited in zip(plan.lines, matches, limits, strict=True):
            self._fill(plan, line, found, limited, can_refuse=can_refuse, now_ns=now_ns)
        plan.settle()
        return plan

    def matches(self, query: Query) -> list[Match | None]:
        """Return what applies to each descriptor by itself; the rules are there."""
        rules = self.rules
        assert rules is not None  # noqa: S101  _problem has looked
        return [
            match(rules, query.domain, descriptor.entries)
            if descriptor.override is None or query.domain not in rules.domains
            else overridden(query.domain, descriptor.entries, descriptor.override)
            for descriptor in query.descriptors
        ]

    def _fill(
        self,
        plan: Plan,
        line: Line,
        found: Match | None,
        limits: Sequence[Limit],
        *,
        can_refuse: bool,
        now_ns: int,
    ) -> None:
        line.first = line.last = len(plan.parts)
        counted = [limit for limit in limits if not limit.unlimited]
        if found is None or not counted:
            line.fixed = UNLIMITED if limits else UNMATCHED
            return
        flags = flags_of(line, counted, quotas_can_refuse=can_refuse)
        line.tally = self.tallies.get(plan.domain, found.rule)
        for limit in counted:
            key = counter_key(plan.domain, found.identity, limit)
            plan.parts.append(
                Part(self._counter(key, limit, now_ns), line.hits, flags, self._options.near_ratio)
            )
        line.last = len(plan.parts)

    def _counter(self, key: bytes, limit: Limit, now_ns: int) -> Known:
        known = self._known.get(key)
        if known is not None:
            if known.limit is not limit:
                known.use(limit)
            return known
        if len(self._known) >= MAX_KNOWN:
            self.forgotten(self._known.pop(next(iter(self._known))))
        known = self._known[key] = Known(key, limit, now_ns)
        return known
