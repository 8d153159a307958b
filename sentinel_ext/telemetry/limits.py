"""Metrics and log of rate limit requests. Rules are labels in bounded number (core/ratelimit/tallies.py)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from sentinel_ext.core.ratelimit.outcome import Cause, Outcome, Problem
from sentinel_ext.core.token_bucket import NANO, TokenBucket
from sentinel_ext.telemetry.hot import HotCounter, HotHistogram, HotHistograms
from sentinel_ext.telemetry.logging import DENIALS_PER_S, Share
from sentinel_ext.telemetry.metrics import DECISION_BUCKETS
from sentinel_ext.telemetry.redaction import Redactor
from sentinel_ext.telemetry.redaction_text import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import CollectorRegistry, Metric

    from sentinel_ext.core.ratelimit.matching import Match
    from sentinel_ext.core.ratelimit.plan import Line, Plan
    from sentinel_ext.core.ratelimit.tallies import Tallies, Tally
    from sentinel_ext.core.timeline import Key
    from sentinel_ext.core.trace import Begun

_NS = 1e-9
_OK, _SHADOW = ("ok", ""), ("ok", "shadow")
_OVER = {cause: ("over_limit", "" if cause is None else cause.value) for cause in (None, *Cause)}
_PROBLEMS = {
    Problem.NO_DOMAIN: "no_domain",
    Problem.NO_DESCRIPTORS: "no_descriptors",
    Problem.NO_RULES: "no_rules",
    Problem.UNKNOWN_UNIT: "unknown_unit",
    Problem.STORE: "store_unavailable",
}
_READS: dict[str, tuple[str, Callable[[Tally], int]]] = {
    "sentinel_ratelimit_hits": ("Hits by rule, whatever came of them.", lambda tally: tally.total),
    "sentinel_ratelimit_over_limit": ("Hits over a rule's limit.", lambda tally: tally.over),
    "sentinel_ratelimit_near_limit": (
        "Hits above RATELIMIT_NEAR_LIMIT_RATIO of a rule's limit and not over it.",
        lambda tally: tally.near,
    ),
    "sentinel_ratelimit_within_limit": (
        "Hits of requests within a rule's limit.",
        lambda tally: tally.within,
    ),
    "sentinel_ratelimit_over_limit_cached": (
        "Hits over the limit that were answered without the store.",
        lambda tally: tally.cached,
    ),
    "sentinel_ratelimit_shadow": (
        "Hits over the limit that shadow mode let pass.",
        lambda tally: tally.shadow,
    ),
}


class LimitMetrics(Collector):
    """Counts requests, and shows the rules' tallies."""

    def __init__(self, registry: CollectorRegistry, tallies: Tallies) -> None:
        """Join `registry`."""
        self._tallies = tallies
        self._decisions = HotCounter(
            "sentinel_ratelimit_decisions",
            "Rate limit requests by verdict (ok, over_limit, error) and cause.",
            ["verdict", "cause"],
        )
        self._fallbacks = HotCounter(
            "sentinel_ratelimit_store_fallbacks",
            "Rate limit requests decided by on_store_failure because the store did not answer in time.",
            ["mode"],
        )
        self._times = {verdict: HotHistogram(DECISION_BUCKETS) for verdict in ("ok", "over_limit", "error")}
        registry.register(self._decisions)
        registry.register(self._fallbacks)
        registry.register(
            HotHistograms(
                "sentinel_ratelimit_duration_seconds",
                "From a rate limit request's arrival to its answer, the store's share included.",
                "verdict",
                self._times,
            )
        )
        registry.register(self)
        self._ok_time, self._over_time = self._times["ok"], self._times["over_limit"]

    @property
    def count(self) -> int:
        """Requests so far."""
        return sum(self._decisions.counts.values())

    def totals(self) -> dict[Key, int]:
        """Return what was counted so far, for core/timeline.py."""
        return {("limit", *key): count for key, count in self._decisions.counts.items()}

    def decided(
        self, _plan: Plan, outcome: Outcome | Problem, elapsed_ns: int, _begun: Begun | None = None
    ) -> None:
        """Count a request."""
        if isinstance(outcome, Problem):
            self.refused(outcome)
            self._times["error"].observe(elapsed_ns * _NS)
            return
        if outcome.fallback is not None:
            self._fallbacks.inc((outcome.fallback,))
        if outcome.over:
            self._decisions.inc(_OVER[outcome.cause])
            self._over_time.observe(elapsed_ns * _NS)
        else:
            self._decisions.inc(_SHADOW if outcome.refused or outcome.shadow_over else _OK)
            self._ok_time.observe(elapsed_ns * _NS)

    def refused(self, problem: Problem) -> None:
        """Count a request that could not be decided."""
        self._decisions.inc(("error", _PROBLEMS[problem]))

    def collect(self) -> Iterator[Metric]:
        """Read the tallies, as prometheus_client's Collector."""
        tallies = list(self._tallies)
        for name, (text, read) in _READS.items():
            family = CounterMetricFamily(name, text, labels=["domain", "rule"])
            for tally in tallies:
                family.add_metric([tally.domain, tally.rule], read(tally))
            yield family


def path_of(rule: Match | Line, is_hidden: Callable[[str], bool]) -> str:
    """Write a rule for a log: as the metric's label, without a request's values and those of hidden keys."""
    return ".".join(
        f"{key}_{HIDDEN if is_hidden(key) else value}" if value else key for key, value in rule.path
    )


class LimitLog:
    """Logs which rule refused what: at info at most DENIALS_PER_S per second, all requests at debug."""

    def __init__(
        self, now_ns: Callable[[], int], allowed_ratio: float = 0.0, redactor: Redactor | None = None
    ) -> None:
        """Log to `sentinel.ratelimit`; of the requests within their limits `allowed_ratio` at info."""
        self._is_hidden = (redactor or Redactor()).is_hidden
        self._allowed = Share(allowed_ratio)
        self._takes_allowed = allowed_ratio > 0
        self._logger = logging.getLogger("sentinel.ratelimit")
        self._all = self._logger.isEnabledFor(logging.DEBUG)
        self._some = self._logger.isEnabledFor(logging.INFO)
        self._now_ns = now_ns
        self._bucket = TokenBucket(DENIALS_PER_S, DENIALS_PER_S * NANO, now_ns())
        self._left_out = 0
        # When the bucket has a token again: refusals may come by the ten thousand.
        self._quiet_until_ns = 0

    def decided(
        self, plan: Plan, outcome: Outcome | Problem, elapsed_ns: int, begun: Begun | None = None
    ) -> None:
        """Log one request, or count it as left out; `begun` is its trace if it is sampled."""
        if self._all:
            self._write(logging.DEBUG, plan, outcome, elapsed_ns, begun)
        elif self._some and (isinstance(outcome, Problem) or outcome.over):
            now_ns = self._now_ns()
            if now_ns < self._quiet_until_ns:
                self._left_out += 1
            elif self._bucket.try_acquire(1, now_ns):
                self._write(logging.INFO, plan, outcome, elapsed_ns, begun)
            else:
                self._left_out += 1
                self._quiet_until_ns = now_ns + NANO // DENIALS_PER_S
        elif self._takes_allowed and self._some and self._allowed.takes_next():
            self._write(logging.INFO, plan, outcome, elapsed_ns, begun)

    def _write(
        self, level: int, plan: Plan, outcome: Outcome | Problem, elapsed_ns: int, begun: Begun | None
    ) -> None:
        fields: dict[str, Any] = {"domain": plan.domain, "duration_us": elapsed_ns // 1000}
        if isinstance(outcome, Problem):
            word = "not decided"
            fields["reason"] = outcome.value
        else:
            word = "over limit" if outcome.over else "within limits"
            pairs = zip(plan.lines, outcome.statuses, strict=True)
            over = [line for line, status in pairs if status.over]
            fields["rules"] = [path_of(line, self._is_hidden) for line in over]
            fields["limits"] = [
                status.limit.name for status in outcome.statuses if status.over and status.limit
            ]
            fields["reason"] = None if outcome.cause is None else outcome.cause.value
            if outcome.fallback is not None:
                fields["fallback"] = outcome.fallback.value
        if begun is not None:
            fields["trace_id"], fields["span_id"] = begun[0].trace_id, begun[1]
        if self._left_out:
            fields["left_out"], self._left_out = self._left_out, 0
        self._logger.log(level, word, extra=fields)
