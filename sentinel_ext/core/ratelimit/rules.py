"""Compiled rate limits: what a request's descriptors are matched against, and what a match means.

The words are those of envoyproxy/ratelimit's configuration files, whose format is read as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sentinel_ext.core.model import Tier, Word

US_PER_S = 1_000_000


class Unit(Word):
    """Windows with a name; the words of the files. Anything else is UNKNOWN, as `per: 30s` is."""

    UNKNOWN = "unknown"
    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


# Counted from the Unix epoch without a calendar: weeks start on Thursday, months have 30 days, years 365.
UNIT_SECONDS = {
    Unit.SECOND: 1,
    Unit.MINUTE: 60,
    Unit.HOUR: 3_600,
    Unit.DAY: 86_400,
    Unit.WEEK: 7 * 86_400,
    Unit.MONTH: 30 * 86_400,
    Unit.YEAR: 365 * 86_400,
}


class Algorithm(Word):
    """How hits are counted (DESIGN §3.1)."""

    FIXED_WINDOW = "fixed_window"
    SLIDING_WINDOW = "sliding_window"
    GCRA = "gcra"


class OnStoreFailure(Word):
    """What a limit does while the store cannot answer.

    ERROR fails the call, so that Envoy's failure_mode_deny decides, as users of envoyproxy/ratelimit know it.
    """

    ERROR = "error"
    OPEN = "open"
    CLOSED = "closed"
    LOCAL = "local"


STRICTEST_FIRST = (OnStoreFailure.ERROR, OnStoreFailure.CLOSED, OnStoreFailure.LOCAL, OnStoreFailure.OPEN)


class Limit(msgspec.Struct, frozen=True, eq=False):
    """One limit of a rule. Compared and hashed by identity: tables on the request path are keyed by it.

    Attributes:
        requests: hits allowed per window (`requests_per_unit`), 0 to 2^32-1; 0 denies all.
        window_us: length of the window, microseconds.
        unit: the window's name, where it has one.
        name: told to whom it concerns; target of `replaces`.
        burst: GCRA: hits that may come at once; equals `requests` unless the file says otherwise.
        unlimited: never counted, always passes.
        replaces: names of limits that do not apply when this one does.
        count_denied: hits of a request that is refused count, too. Files of envoyproxy/ratelimit mean that.
        on_store_failure: None is the setting's.
        tier: requests that this limit applies to are shed by tier under pressure; None never sheds.
        upstream: whose pressure that is.
    """

    requests: int
    window_us: int
    unit: Unit = Unit.UNKNOWN
    name: str = ""
    algorithm: Algorithm = Algorithm.FIXED_WINDOW
    burst: int = 0
    unlimited: bool = False
    replaces: tuple[str, ...] = ()
    count_denied: bool = True
    on_store_failure: OnStoreFailure | None = None
    tier: Tier | None = None
    upstream: str = "default"

    @property
    def window_s(self) -> int:
        """The window in whole seconds, rounded up, for headers."""
        return -(-self.window_us // US_PER_S)

    @property
    def capacity(self) -> int:
        """The most hits that can be unspent at once: what `remaining` counts down from."""
        return (self.burst or self.requests) if self.algorithm is Algorithm.GCRA else self.requests


class Node(msgspec.Struct, frozen=True, eq=False):
    """One descriptor of the configuration, with those below it.

    A node without limits and with its own value exempts that value from its siblings' key-only limit.

    Attributes:
        key, value: of the descriptor; value "" matches any, and may hold `*`.
        limits: what applies to requests that end here, the file's order; empty applies nothing.
        shadow: counted, never refused (`shadow_mode`).
        quota: refuses only together with all other quota descriptors of a request (`quota_mode`).
        detailed_metric, value_to_metric: how much of a request's values stands in the metric's rule label.
        share_threshold: all values that match the pattern share one counter.
        metadata: returned for requests that pass.
        exact: by (key, value).
        wildcards: (key, the value's literal parts around each `*`, node), in the file's order.
        by_key: key-only descriptors.
        place: `FILE:LINE:COLUMN` for messages and the printed tree.
    """

    key: str = ""
    value: str = ""
    limits: tuple[Limit, ...] = ()
    shadow: bool = False
    quota: bool = False
    detailed_metric: bool = False
    value_to_metric: bool = False
    share_threshold: bool = False
    metadata: Mapping[str, Any] | None = None
    exact: Mapping[tuple[str, str], Node] = {}
    wildcards: tuple[tuple[str, tuple[str, ...], Node], ...] = ()
    by_key: Mapping[str, Node] = {}
    place: str = ""


class Rules(msgspec.Struct, frozen=True):
    """All domains, compiled and checked.

    Attributes:
        domains: by name; a domain is a node without key whose children are its descriptors.
        warnings: what is allowed but looks like a mistake, one line each.
    """

    domains: Mapping[str, Node] = {}
    warnings: tuple[str, ...] = ()
