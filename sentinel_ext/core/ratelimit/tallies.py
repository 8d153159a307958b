"""Hits of each rule: how many there were, over the limit, near it. The words of envoyproxy/ratelimit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Rules that have a tally of their own, by what first matched them; all beyond share one. Six series each.
MAX_TALLIES: Final = 1_024
OTHER: Final = "other"
_MAX_NAME: Final = 256


class Tally:
    """Running totals of hits under one rule."""

    __slots__ = ("cached", "domain", "near", "over", "rule", "shadow", "total", "within")

    def __init__(self, domain: str, rule: str) -> None:
        """Start at nothing."""
        self.domain, self.rule = domain, rule
        self.total = self.over = self.near = self.within = self.cached = self.shadow = 0

    def count(self, limit: int, near: int, hits: int, used: int, *, over: bool) -> None:
        """Count a request's hits, split where they straddle a threshold.

        Args:
            near: from where on hits are near the limit.
            used: counted after these hits; the denied ones may not be among them.
            over: they do not fit.
        """
        self.total += hits
        if over:
            beyond = min(hits, used - limit) if used > limit else hits
            self.over += beyond
            self.near += max(0, limit - max(near, used - hits)) if beyond < hits else 0
            return
        self.within += hits
        if used > near:
            self.near += min(hits, used - near)

    def refuse(self, hits: int) -> None:
        """Count hits that were refused without asking the store."""
        self.total += hits
        self.over += hits
        self.cached += hits


class Tallies:
    """By domain and rule, bounded.

    Attributes:
        left_out: rules that found no place, each time they were looked up.
    """

    __slots__ = ("_table", "left_out")

    def __init__(self) -> None:
        """Start with none."""
        self._table: dict[tuple[str, str], Tally] = {}
        self.left_out = 0

    def get(self, domain: str, rule: str) -> Tally:
        """Return the rule's tally, or the one that all beyond the bound share."""
        tally = self._table.get((domain, rule))
        if tally is not None:
            return tally
        is_fit = len(domain) <= _MAX_NAME and len(rule) <= _MAX_NAME and (domain + rule).isprintable()
        if not is_fit or len(self._table) >= MAX_TALLIES:
            self.left_out += 1
            domain = rule = OTHER
            return self._table.get((domain, rule)) or self._add(domain, rule)
        return self._add(domain, rule)

    def _add(self, domain: str, rule: str) -> Tally:
        tally = self._table[domain, rule] = Tally(domain, rule)
        return tally

    def __iter__(self) -> Iterator[Tally]:
        return iter(list(self._table.values()))

    def __len__(self) -> int:
        return len(self._table)
