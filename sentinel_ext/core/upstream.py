"""One upstream as one instance sees it: admits, counts starts and ends, reports, follows the shared state.

The interface of the controller, for the engine and for any simulator (docs/overload.md): `admit` and
`withdraw` on the request path, `end` for each ended request, `tick` every 100 ms, `publish` and `adopt` once
a period, with law.next_shared between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core import guard
from sentinel_ext.core.credit import HIGH, LOW
from sentinel_ext.core.customers import Customers
from sentinel_ext.core.ended import Outcome
from sentinel_ext.core.flight import STARTED, TICK_NS, Counts, Flight, Overdue
from sentinel_ext.core.guard import ShedCause
from sentinel_ext.core.pressure import LawOptions, reference_queue_ms, sojourn_excess_ms
from sentinel_ext.core.report import Report, Shared
from sentinel_ext.core.signals import FULL, ramp
from sentinel_ext.core.traffic import RELAY_PERIODS, TOLD_LATEST_S, Traffic

if TYPE_CHECKING:
    from sentinel_ext.core.hearing import Hearing

_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000
_OK, _FAILED, _OVERFLOW, _IGNORED = Outcome.OK, Outcome.FAILED, Outcome.OVERFLOW, Outcome.IGNORED
# An ended request that took this share of the route's timeout was given up by Envoy; the upstream may be at
# it.
_GIVEN_UP = 0.9
# With more in flight than this, silence of the log is not for lack of requests.
MIN_BLIND = 20
# Requests that stay this much longer than they should are due.
AGED_MS = 50.0
# Completions below this share of what was admitted: traffic has changed faster than they could show.
BURST = 0.25
# So far above the limit, in-flight alone is proof enough; below it, requests that should be done must not be.
SURE = 1.25
# Of an even part of the traffic: what is measured below it is noise, or an instance that just woke up.
MIN_SHARE = 0.5


class UpstreamOptions(msgspec.Struct, frozen=True):
    """What the policy says of an upstream, as far as load is concerned.

    Attributes:
        slo_ms: latency objective.
        timeout_ms: after which Envoy gives a request up.
        flush_ms: how often Envoy sends its log, until that is measured.
    """

    slo_ms: float = 200.0
    timeout_ms: float = 30_000.0
    flush_ms: float = 100.0

    @property
    def law(self) -> LawOptions:
        """What the control law needs."""
        return LawOptions(self.slo_ms, self.timeout_ms)


class Upstream:
    """Belongs to one event loop.

    Attributes:
        shared: what all instances know together, as last heard.
        flight: what this instance has in flight.
        cause: of the last refusal.
        is_blind: log entries have stopped coming.
        traffic: what passed lately.
        limits: of the guard, by tier; None while it is not active.
    """

    __slots__ = (
        "_flush_ms", "_is_logged", "_local", "_options", "_overdue", "_passing", "_seen", "_slow_us",
        "_ticked_ns", "_timeout_us", "cause", "customers", "dead", "flight", "is_blind", "limits", "name",
        "shared", "traffic",
    )  # fmt: skip

    def __init__(self, name: str, options: UpstreamOptions, now_ns: int) -> None:
        """Start with nothing known: everything passes."""
        self.name = name
        self.shared = Shared()
        self.flight = Flight(now_ns // TICK_NS)
        self.cause = ShedCause.SHARE
        self.is_blind = False
        self.limits: guard.Limits | None = None
        self.configure(options)
        self.customers = Customers(self.shared)
        self._seen, self.dead = self.customers.table, guard.DeadWork()
        self.traffic = Traffic(now_ns)
        self._ticked_ns = now_ns
        self._passing, self._overdue = 0.0, Overdue(0, 0, 0)
        self._flush_ms, self._is_logged, self._local = options.flush_ms, False, 0.0

    def configure(self, options: UpstreamOptions) -> None:
        """Go by other numbers of the policy from now on."""
        self._options, self._slow_us = options, int(options.slo_ms * 500)
        self._timeout_us = int(options.timeout_ms * 1000)

    # The request path.

    def admit(self, name: str, tier: int, weight: float = 1.0, guaranteed: float = 0.0) -> Counts | None:
        """Count a request of tenant `name` and start it; None refuses, and `cause` says why.

        Args:
            tier: 0 vital, 1 standard, 2 economy.

        Returns:
            what `withdraw` needs.
        """
        customer = self._seen.get(name) or self.customers.first_seen(name, tier, weight, guaranteed)
        customer.count += 1
        if customer.share < 1.0 and not customer.passes():
            self.cause = ShedCause.LOCAL if self.customers.backstop[tier] > 0 else ShedCause.SHARE
            return None
        flight, limits = self.flight, self.limits
        opened, current = flight.open, flight.current
        if limits is not None and opened[0] + opened[1] + opened[2] + self.dead.count >= limits[tier]:
            self.cause = ShedCause.GUARD
            return None
        self.traffic.now.admitted += 1
        # flight.start in place: 0.1 µs.
        opened[tier] += 1
        current[tier] += 1
        current[STARTED] += 1
        return current

    def start(self, name: str, tier: int, weight: float = 1.0, guaranteed: float = 0.0) -> Counts:
        """Count and start a request whatever `admit` would say."""
        customer = self._seen.get(name) or self.customers.first_seen(name, tier, weight, guaranteed)
        customer.count += 1
        self.traffic.now.admitted += 1
        return self.flight.start(tier)

    def withdraw(self, name: str, tier: int, counts: Counts) -> None:
        """Take back what `admit` counted: a later stage refused, or the caller left before it was sent."""
        self.flight.withdraw(counts, tier)
        now = self.traffic.now
        # Of an earlier period: the counters of that one are gone, and one request is noise.
        if now.admitted > 0:
            now.admitted -= 1
        customer = self._seen.get(name)
        if customer is not None and customer.count > 0:
            customer.count -= 1

    # What ended requests tell.

    def end(
        self, generation: int, tier: int, outcome: Outcome, latency_us: int | None, *, ours: bool = True
    ) -> bool:
        """Count an ended request; say whether it matched a start here.

        Args:
            generation: when it started, from its ticket.
            latency_us: None when it is not known.
            ours: it started at this instance; else only its outcome counts here.
        """
        matched = ours and self.flight.end(generation, tier) == 1
        if ours and not matched:
            return False  # a duplicate, or one that has expired: its outcome is not news
        if not ours:
            self.traffic.now.relayed += 1
        if outcome is _IGNORED:
            return matched
        now = self.traffic.now
        if outcome is _OK:
            now.ok += 1
            if latency_us is not None and latency_us > self._slow_us:
                now.slow += 1
        else:
            now.failed += 1
            if latency_us is not None and latency_us >= _GIVEN_UP * self._timeout_us:
                self.dead.count += 1
        if latency_us is not None and outcome is not _OVERFLOW:
            now.timed += 1
            now.latency_us += latency_us
        return matched

    def ended_elsewhere(self, generation: int, tier: int, count: int) -> int:
        """Other instances heard the ends of `count` requests that started here."""
        matched = self.flight.end(generation, tier, count)
        self.traffic.now.told += matched
        return matched

    # Beside the request path.

    def tick(self, hearing: Hearing, local: float, now_ns: int) -> None:
        """Move time on: expire, drain, look for silence, set the guard.

        Args:
            hearing: of the access log.
            local: this instance's own pressure, 0 to 100.
        """
        elapsed_ns, self._ticked_ns = now_ns - self._ticked_ns, now_ns
        flush_ms = self._flush_ms = hearing.flush_ms
        self._local, self._is_logged = local, hearing.was_ever
        self.traffic.is_direct = hearing.is_direct(now_ns)
        lifetime_ns = int(self._options.timeout_ms + 2 * flush_ms) * _NS_PER_MS
        self.flight.advance(now_ns // TICK_NS, -(-lifetime_ns // TICK_NS) + 1)
        self._look_for_silence(hearing.is_silent(now_ns), now_ns)
        shared, share = self.shared, self.share
        completed = self.traffic.completed(now_ns)
        self.dead.drain(shared.peak * share, completed, elapsed_ns / _NS_PER_S)
        self.customers.adopt(shared, guard.backstop(local))
        lag_ms = hearing.lag_ms(now_ns)
        due_ms = shared.baseline_ms + max(flush_ms, lag_ms) + AGED_MS
        if not self.traffic.is_direct:
            due_ms += TOLD_LATEST_S * 1000
        self._overdue = self.flight.overdue(int(due_ms) * _NS_PER_MS)
        self.limits = None
        if hearing.was_ever and not self.is_blind and shared.peak:
            self.limits = self._guarded(share, lag_ms, now_ns, is_fresh=hearing.is_fresh(now_ns))

    def publish(self, now_ns: int) -> Report:
        """Close the period and return the report of the last few."""
        periods, span_ms = self.traffic.close(now_ns)
        demands, shared = self.customers.demands(span_ms / 1000), self.shared
        # What the credit lets pass, not what did: an instance whose guard is full would shrink its own part.
        self._passing = sum(d.rate * shared.shares.get(d.name, shared.tier_share[d.tier]) for d in demands)
        opened = self.flight.open
        return Report(
            span_ms=span_ms,
            admitted=sum(p.admitted for p in periods),
            ok=sum(p.ok for p in periods),
            failed=sum(p.failed for p in periods),
            slow=sum(p.slow for p in periods),
            timed=sum(p.timed for p in periods),
            latency_ms=sum(p.latency_us for p in periods) / 1000,
            inflight=(opened[0], opened[1], opened[2]),
            relayed=sum(p.relayed for p in periods[-RELAY_PERIODS:]) + self._overdue.stuck,
            demands=demands,
            flush_ms=self._flush_ms,
            is_blind=self.is_blind,
            is_logged=self._is_logged,
            local=self._local,
        )

    def adopt(self, shared: Shared) -> None:
        """Follow what all instances know together."""
        self.shared = shared
        # Half the objective; of an upstream that is slow by nature, twice what it needs unloaded.
        self._slow_us = int(1000 * max(self._options.slo_ms / 2, 2 * shared.baseline_ms))
        self.customers.adopt(shared, self.customers.backstop)

    @property
    def law(self) -> LawOptions:
        """What the control law needs of the policy."""
        return self._options.law

    @property
    def share(self) -> float:
        """This instance's part of the traffic that all let pass."""
        even = 1 / max(1, self.shared.instances)
        offered, credit = self.shared.offered, self.shared.credit
        if not offered or not self._passing:
            return even
        total = offered if credit is None else min(offered, credit)
        return min(1.0, max(MIN_SHARE * even, self._passing / total))

    @property
    def is_idle(self) -> bool:
        """Nothing asked, nothing in flight: there is nothing to report."""
        return not self.flight.total and self.customers.is_idle

    def _guarded(self, share: float, lag_ms: float, now_ns: int, *, is_fresh: bool) -> guard.Limits | None:
        """Return the guard's limits, or None while it need not act; ends are heard `lag_ms` late."""
        shared, flush_ms = self.shared, 2 * lag_ms
        completed = self.traffic.completed(now_ns)
        if self.traffic.is_direct:
            untold = self.traffic.untold(now_ns)
        else:  # of the youngest nothing can be known yet
            untold = float(self.flight.younger_than(int(TOLD_LATEST_S * _NS_PER_S)))
        inflight = max(0.0, self.flight.total - untold - self._overdue.stuck)
        places = guard.limits(shared.peak, share, shared.baseline_ms, flush_ms)
        if shared.credit is None and shared.pressure <= HIGH:
            is_queue = self._overdue.is_queue and self._overdue.started > 0
            # A burst is no queue: completions before it say nothing of what is possible, so requests must
            # first stay longer than they should.
            is_burst = completed < BURST * self.traffic.admitted(now_ns)
            if not is_fresh or (not is_queue and (is_burst or inflight < SURE * places[0])):
                return None
            excess_ms = sojourn_excess_ms(shared.baseline_ms, inflight, completed, flush_ms)
            if FULL * ramp(excess_ms, 0.0, 2 * reference_queue_ms(shared.baseline_ms)) <= LOW:
                return None
        beside = untold + self._overdue.stuck
        return places[0] + beside, places[1] + beside, places[2] + beside

    def _look_for_silence(self, is_silent: bool, now_ns: int) -> None:
        if is_silent:  # However few are overdue: a guard of few places is soon full of them.
            self.is_blind |= self._overdue.due + self._overdue.older > 0 or self.flight.total > MIN_BLIND
        elif self.is_blind:
            # What started before the last moments has ended unheard, and would count as in flight for ever.
            recent_ns = int(max(2 * self.shared.baseline_ms, 200.0)) * _NS_PER_MS
            self.flight.forget_before((now_ns - recent_ns) // TICK_NS)
            self.dead.count = 0.0
            self.is_blind = False
