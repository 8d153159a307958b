"""RateLimitService, wired: rules, limiter, store, metrics, and what an operator may do."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from sentinel_ext import clock
from sentinel_ext.core.ratelimit.admission import Admission
from sentinel_ext.core.ratelimit.keys import counter_key
from sentinel_ext.core.ratelimit.limiter import Limiter
from sentinel_ext.core.ratelimit.matching import match
from sentinel_ext.core.ratelimit.outcome import Outcome, Problem
from sentinel_ext.core.ratelimit.pending import Options
from sentinel_ext.core.ratelimit.planner import Planner
from sentinel_ext.core.ratelimit.query import Descriptor, Query
from sentinel_ext.core.ratelimit.rules import OnStoreFailure
from sentinel_ext.explaining import LimitExplainer
from sentinel_ext.limiting import Limiting
from sentinel_ext.policy.ratelimit import tree
from sentinel_ext.server.breakers import StoreAwayError
from sentinel_ext.server.ratelimits import NoSuchLimitError
from sentinel_ext.services.ratelimit import RateLimits
from sentinel_ext.services.ratelimit_headers import make_headers
from sentinel_ext.services.ratelimit_traced import TracedRateLimits
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.factory import make_limits
from sentinel_ext.store.limit_batcher import LimitBatcher
from sentinel_ext.telemetry.limits import LimitLog, LimitMetrics, path_of
from sentinel_ext.telemetry.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentinel_ext.core.controller import Controller
    from sentinel_ext.core.decision import StoreFault
    from sentinel_ext.core.ratelimit.matching import Match
    from sentinel_ext.core.ratelimit.rules import Rules
    from sentinel_ext.services.ratelimit_traced import Tracing
    from sentinel_ext.services.registry import Unary
    from sentinel_ext.settings import Settings
    from sentinel_ext.store.base import Store
    from sentinel_ext.telemetry.metrics import Metrics

logger = logging.getLogger("sentinel.ratelimit")


class RateLimiting:
    """One instance's RateLimitService.

    Attributes:
        limiting: the request path.
        instances: how many share the store.
    """

    def __init__(
        self,
        settings: Settings,
        rules: Rules | None,
        store: Store,
        metrics: Metrics,
        controller: Controller,
        called: Callable[[float, int, StoreFault | None], None],
    ) -> None:
        """Wire the parts; nothing is started.

        Args:
            called: told (seconds, requests, fault or None) of every store call.
        """
        options = Options(
            shadow=settings.ratelimit_shadow_mode,
            quota=settings.ratelimit_quota_mode,
            metadata=settings.ratelimit_dynamic_metadata,
            near_ratio=settings.ratelimit_near_limit_ratio,
            on_store_failure=OnStoreFailure(settings.ratelimit_on_store_failure),
            leases=settings.ratelimit_leases,
        )
        self._store = make_limits(store, now_us=clock.monotonic_us)
        self._batcher = LimitBatcher(self._store, settings.store_timeout_ms / 1000, called)
        self._planner, self._limiter = Planner(rules, options), Limiter(options)
        self.limiting = Limiting(self._planner, self._limiter, self._batcher, clock.monotonic_ns)
        self._limiter.admission = Admission(controller, clock.random_hex)
        self.metrics = LimitMetrics(metrics.registry, self._planner.tallies)
        redactor = Redactor(settings.log_redact or ())
        self._is_hidden = redactor.is_hidden
        self._log = LimitLog(clock.monotonic_ns, settings.log_allowed_ratio, redactor)
        self.limiting.observers = (self.metrics.decided, self._log.decided)
        self._headers = make_headers(settings.ratelimit_headers)
        self._publish_gauges(metrics)

    def methods(
        self, failed: Callable[[Exception], None], tracing: Tracing | None = None
    ) -> tuple[Unary, ...]:
        """Return the service, to be mounted; `failed` hears of our own faults."""
        self.limiting.failed = failed
        if tracing is not None:
            traced = TracedRateLimits(self.limiting.decide, self._headers, failed, tracing)
            self.limiting.observers = (*self.limiting.observers, traced.told)
            return traced.methods()
        return RateLimits(self.limiting.decide, self._headers, failed).methods()

    def explainer(self) -> LimitExplainer:
        """Make what explains requests to people."""
        return LimitExplainer(self._planner, self._limiter, self._store, self._headers)

    def set_instances(self, instances: Callable[[], int]) -> None:
        """Say where the number of instances stands."""
        self._limiter.instances = instances

    def replace(self, rules: Rules | None) -> None:
        """Go by other rules from now on; counters go on."""
        self.limiting.replace(rules)

    async def start(self) -> None:
        """Start to ask the store."""
        await self._batcher.start()
        self.limiting.start()

    async def close(self) -> None:
        """Give leases back and stop."""
        self.limiting.close()
        await self._batcher.close()

    # For people (server/ratelimits.py).

    def details(self) -> dict[str, Any]:
        """Return what /readyz tells of it."""
        rules = self._planner.rules
        return {"ratelimit": {"domains": None if rules is None else len(rules.domains)}}

    async def shown(self) -> dict[str, Any]:
        """Return the rules as /ratelimits shows them."""
        rules = self._planner.rules
        return {"domains": [] if rules is None else tree(rules)}

    async def reset(self, domain: str, entries: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Forget what was counted; other instances may refuse for half a second more (known.OVER_NS).

        Raises:
            NoSuchLimitError, StoreAwayError: it is not done, or perhaps not.
        """
        found = self._match(domain, entries)
        keys = [counter_key(domain, found.identity, limit) for limit in found.limits if not limit.unlimited]
        for key in keys:
            known = self._planner.known(key)
            if known is not None:
                known.take_lease()  # counted by what is deleted: not to be given back
                known.use(known.limit)
        try:
            deleted = await self._store.reset(keys)
        except StoreError as error:
            raise StoreAwayError(str(error)) from error
        rule = path_of(found, self._is_hidden)
        logger.warning("rate limit reset", extra={"domain": domain, "rule": rule})
        return {"rule": found.rule, "counters": len(keys), "deleted": deleted}

    async def refund(self, domain: str, entries: Sequence[tuple[str, str]], hits: int) -> dict[str, Any]:
        """Give hits back.

        Raises:
            NoSuchLimitError, StoreAwayError: it is not done, or perhaps not.
        """
        found = self._match(domain, entries)
        query = Query(domain, (Descriptor(tuple(entries), hits=-hits),))
        settled: asyncio.Future[Outcome | Problem | None] = asyncio.get_running_loop().create_future()

        def deliver(outcome: Outcome | Problem | None) -> bool:
            if settled.done():
                return False
            settled.set_result(outcome)
            return True

        step = self.limiting.decide(b"", lambda _message: query, deliver)
        outcome = step if isinstance(step, (Outcome, Problem)) else await settled
        if not isinstance(outcome, Outcome):
            raise StoreAwayError("it did not answer in time")
        rule = path_of(found, self._is_hidden)
        logger.warning("rate limit refund", extra={"domain": domain, "rule": rule, "hits": hits})
        return {"rule": found.rule, "refunded": hits, "remaining": outcome.statuses[0].remaining}

    def _match(self, domain: str, entries: Sequence[tuple[str, str]]) -> Match:
        rules = self._planner.rules
        found = None if rules is None else match(rules, domain, entries)
        if found is None or all(limit.unlimited for limit in found.limits):
            raise NoSuchLimitError
        return found

    def _publish_gauges(self, metrics: Metrics) -> None:
        gauge, total = metrics.gauge, metrics.counter_of
        gauge(
            "sentinel_ratelimit_counters",
            "Counters of the store that this instance remembers.",
            lambda: float(len(self._planner)),
        )
        gauge(
            "sentinel_ratelimit_leased_counters",
            "Counters of which this instance holds hits taken ahead.",
            lambda: float(len(self._limiter.leased)),
        )
        gauge(
            "sentinel_ratelimit_leased_hits",
            "Hits taken ahead and not spent yet.",
            lambda: float(sum(known.lease for known in self._limiter.leased)),
        )
        total(
            "sentinel_ratelimit_rules_left_out",
            "Requests worked out whose rule has no label of its own: domain and rule are `other`.",
            lambda: float(self._planner.tallies.left_out),
        )
        total(
            "sentinel_ratelimit_cancelled",
            "Requests the caller gave up before they were decided.",
            lambda: float(self.limiting.cancelled),
        )
