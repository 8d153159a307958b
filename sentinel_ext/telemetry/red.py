"""RED and SLO metrics of the requests that really happened, as access logs tell them (docs/access-log.md).

Fed once per request by the access log service; costs no more than dictionary look-ups and additions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sentinel_ext.core.decision import Reason
from sentinel_ext.core.ended import Outcome
from sentinel_ext.core.model import Tier
from sentinel_ext.telemetry.hot import HotCounter, HotHistogram, HotHistograms
from sentinel_ext.telemetry.labels import OTHER, FirstCome, method_label, status_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import CollectorRegistry, Metric

    from sentinel_ext.core.ended import Result
    from sentinel_ext.core.timeline import Key

DURATION_BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
# Methods, routes and statuses could combine to 300,000 series; real ones are some hundreds. Beyond this
# bound a new combination counts as other/other/other.
MAX_SERIES: Final = 2_048

_REST = (OTHER, OTHER, OTHER)
_US = 1e-6
# A tenant that used up its own quota got what it bought; the other refusals are ours to answer for.
_QUOTA_REASONS: Final = frozenset({Reason.LOCAL_RATE_LIMITED.value, Reason.RATE_LIMITED.value})
_IGNORED, _OK = Outcome.IGNORED, Outcome.OK


class LogCounts(Protocol):
    """What the access log service keeps count of."""

    streams: int
    messages: int
    garbled: int
    anonymous: int

    @property
    def results(self) -> Mapping[Result, int]:
        """Entries by result."""
        ...


class Red:
    """Rate, errors and duration of all requests by route; the objective by tier.

    An SLO event is a request that we admitted and that says something about the service: good when it did not
    fail and its latency is within its upstream's objective. A refusal with 429 is a tenant's own quota and no
    event; one with 503 (shed, circuit open, store unavailable) is one and not good. A client that left is one
    only if it had waited longer than the objective: giving up is how a slow service looks from outside. A
    success of unknown latency is no event.
    """

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._routes = FirstCome()
        self._requests: dict[tuple[str, str, str], list[int]] = {}
        self._by_route: dict[str, HotHistogram] = {}
        self._known: dict[tuple[int, str, int], tuple[list[int], HotHistogram]] = {}
        self._total = HotCounter(
            "sentinel_slo_requests", "Requests that count for the service level objective, by tier.", ["tier"]
        )
        self._good = HotCounter(
            "sentinel_slo_good", "Those that did not fail and were fast enough, by tier.", ["tier"]
        )
        self._keys = {tier: (tier.value,) for tier in Tier}
        for key in self._keys.values():
            # A ratio over a series that appears with its first event misses that event.
            self._total.counts[key] = self._good.counts[key] = 0

    def register(self, registry: CollectorRegistry) -> None:
        """Publish."""
        for collector in (_Requests(self._requests), self._total, self._good):
            registry.register(collector)
        registry.register(
            HotHistograms(
                "sentinel_http_request_duration_seconds",
                "Whole requests as Envoy saw them, first byte of the request to last of the answer.",
                "route",
                self._by_route,
            )
        )

    def request(self, method: int, route: str, status: int, duration_us: int | None) -> None:
        """Count a request that is over."""
        cell, durations = self._known.get((method, route, status)) or self._find(method, route, status)
        cell[0] += 1
        if duration_us is not None:
            durations.observe(duration_us * _US)

    def served(self, tier: Tier, outcome: Outcome, latency_us: int | None, slo_us: int) -> None:
        """Count a request that we admitted; a good one takes at most `slo_us`."""
        is_slow = latency_us is not None and latency_us > slo_us
        if (outcome is _IGNORED and not is_slow) or (outcome is _OK and latency_us is None):
            return
        key = self._keys[tier]
        self._total.counts[key] += 1
        if outcome is _OK and not is_slow:
            self._good.counts[key] += 1

    def refused(self, tier: Tier, reason: str) -> None:
        """Count a request that we refused."""
        if reason not in _QUOTA_REASONS:
            self._total.counts[self._keys[tier]] += 1

    def totals(self) -> dict[Key, int]:
        """Return the objective's counts so far, for core/timeline.py."""
        found: dict[Key, int] = {("slo", *key): count for key, count in self._total.counts.items()}
        for key, count in self._good.counts.items():
            found["good", *key] = count
        return found

    @property
    def routes_left_out(self) -> int:
        """Requests whose route became `other`."""
        return self._routes.left_out

    def _find(self, method: int, route: str, status: int) -> tuple[list[int], HotHistogram]:
        """Find where a combination counts that was not seen before, or not for long."""
        label = self._routes.label(route)
        key = (method_label(method), label, status_label(status))
        if key not in self._requests and len(self._requests) >= MAX_SERIES:
            key = _REST
        found = (
            self._requests.setdefault(key, [0]),
            self._by_route.setdefault(label, HotHistogram(DURATION_BUCKETS)),
        )
        if label is not OTHER:  # there may be any number of those
            if len(self._known) >= MAX_SERIES:
                self._known.clear()
            self._known[method, route, status] = found
        return found


class _Requests(Collector):
    """Counters by method, route and status."""

    def __init__(self, counts: Mapping[tuple[str, str, str], list[int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Read it, as prometheus_client's Collector."""
        family = CounterMetricFamily(
            "sentinel_http_requests",
            "Requests that Envoy finished, by method, route and HTTP status (0: the client got none).",
            labels=["method", "route", "status"],
        )
        for key, (count,) in list(self._counts.items()):
            family.add_metric(key, count)
        yield family


class LogCollector(Collector):
    """Publishes what the access log service keeps count of."""

    def __init__(self, counts: LogCounts) -> None:
        """Read `counts` at each scrape."""
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Read it, as prometheus_client's Collector."""
        counts = self._counts
        entries = CounterMetricFamily(
            "sentinel_access_log_entries", "Access log entries by what became of them.", labels=["result"]
        )
        for result, count in counts.results.items():
            entries.add_metric([result.value], count)
        yield entries
        yield GaugeMetricFamily(
            "sentinel_access_log_streams", "Open access log streams, one for each thread of each Envoy.",
            value=counts.streams,
        )  # fmt: skip
        for name, text, value in (
            ("sentinel_access_log_messages", "Messages of access log streams.", counts.messages),
            (
                "sentinel_access_log_garbled_messages",
                "Messages that could not be read; each ended its stream.",
                counts.garbled,
            ),
            (
                "sentinel_access_log_anonymous_streams",
                "Streams that did not name their node; they count.",
                counts.anonymous,
            ),
        ):
            yield CounterMetricFamily(name, text, value=value)
