"""What a request asks for, worked out once: requests are alike, and their bytes are the key to it.

Parsing and planning a request take about 11 µs, finding its plan by its bytes 0.1 (docs/performance.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.core.model import TIER_INDEX
from sentinel_ext.core.ratelimit.asks import BINDING, COUNT_DENIED, QUOTA, CounterAsk
from sentinel_ext.core.ratelimit.outcome import UNLIMITED_REMAINING, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sentinel_ext.core.ratelimit.known import Known
    from sentinel_ext.core.ratelimit.matching import Match
    from sentinel_ext.core.ratelimit.outcome import Outcome
    from sentinel_ext.core.ratelimit.query import Descriptor, Query
    from sentinel_ext.core.ratelimit.rules import Limit
    from sentinel_ext.core.ratelimit.tallies import Tally

UNMATCHED = Status()
UNLIMITED = Status(remaining=UNLIMITED_REMAINING)


class Part:
    """One counter's part in a request.

    Attributes:
        known: what this instance knows of the counter.
        limit: the rules' when the plan was made.
        flags: how it takes part in the store's decision.
        near: hits above this are near the limit.
        ask: what the store is asked when nothing is taken ahead.
    """

    __slots__ = ("ask", "flags", "hits", "known", "limit", "near")

    def __init__(self, known: Known, hits: int, flags: int, near_ratio: float) -> None:
        """Count `hits` on `known`."""
        self.known = known
        self.limit = limit = known.limit
        self.hits = hits
        self.flags = flags
        self.near = int(known.capacity * near_ratio)
        if limit.count_denied:
            flags |= COUNT_DENIED
        self.ask = CounterAsk(
            known.key, known.kind, limit.window_us, limit.requests, limit.burst, hits, flags
        )


class Line:
    """One descriptor of a request.

    Attributes:
        first, last: its parts are `plan.parts[first:last]`.
        fixed: its status where no counter has a say.
        rule, path: of its match; empty without one.
        tally: of its rule; None without a counter.
    """

    __slots__ = (
        "descriptor", "first", "fixed", "hits", "last", "metadata", "path", "quota", "rule", "shadow",
        "tally",
    )  # fmt: skip

    def __init__(self, descriptor: Descriptor, hits: int, match: Match | None, *, all_quota: bool) -> None:
        """Start without parts."""
        self.descriptor = descriptor
        self.hits = hits
        self.rule = "" if match is None else match.rule
        self.path = () if match is None else match.path
        self.metadata: Mapping[str, Any] | None = None if match is None else match.node.metadata
        self.shadow = match is not None and match.node.shadow
        self.quota = all_quota or (match is not None and match.node.quota)
        self.first = self.last = 0
        self.fixed: Status | None = None
        self.tally: Tally | None = None


class Shed:
    """How a request is shed under pressure: as the least vital of its limits that have a tier."""

    __slots__ = ("name", "tier", "upstream")

    def __init__(self, name: str, tier: int, upstream: str) -> None:
        """Serve `name` in its tier's fair share of `upstream`."""
        self.name = name
        self.tier = tier
        self.upstream = upstream


class Plan:
    """A request, worked out.

    Attributes:
        only: the single part of a request with one descriptor and one limit: the usual one.
        is_plain: every descriptor has exactly one limit and costs something; none is a quota or sheds.
        refusal: the answer while its only limit is known to be over, until its numbers change.
    """

    __slots__ = (
        "addend", "domain", "is_plain", "lines", "only", "parts", "refusal", "refusal_until_ns",
        "shed",
    )  # fmt: skip

    def __init__(self, query: Query) -> None:
        """Start without lines."""
        self.domain = query.domain
        self.addend = query.addend
        self.lines: list[Line] = []
        self.parts: list[Part] = []
        self.only: Part | None = None
        self.shed: Shed | None = None
        self.is_plain = False
        self.refusal: Outcome | None = None
        self.refusal_until_ns = 0

    def settle(self) -> None:
        """Note what follows from all parts together."""
        if len(self.parts) == 1 and len(self.lines) == 1 and self.parts[0].hits > 0:
            self.only = self.parts[0]
        # Counters that stand twice must be looked at twice.
        counters = {part.known.key for part in self.parts}
        self.is_plain = len(self.parts) == len(self.lines) == len(counters) and all(
            line.last - line.first == 1 and line.hits > 0 and not line.quota for line in self.lines
        )
        tiered = [part.known.limit for part in self.parts if part.known.limit.tier is not None]
        if tiered:
            least = max(tiered, key=lambda limit: TIER_INDEX[limit.tier] if limit.tier else 0)
            name = next(part.known.key for part in self.parts if part.known.limit is least)
            tier = TIER_INDEX[least.tier] if least.tier else 0
            self.is_plain = False
            self.shed = Shed(name.decode("utf-8", "replace"), tier, least.upstream)


def flags_of(line: Line, limits: Sequence[Limit], *, quotas_can_refuse: bool) -> int:
    """Say how a line's counters take part in the store's decision.

    A quota descriptor with several limits is over when one of them is, which the store's "all quota counters"
    cannot say: it takes no part there, and what was counted in vain is given back.
    """
    if line.shadow:
        return 0
    if not line.quota:
        return BINDING
    return QUOTA if quotas_can_refuse and len(limits) == 1 else 0
