"""The discrete-event simulation: clients, sidecars, an upstream, batched access logs, and what breaks."""

from __future__ import annotations

import heapq
import random
from typing import TYPE_CHECKING, Any

from sim.policy import TICK_S, Outcome, World
from sim.record import Record
from sim.scenario import within
from sim.upstream import Upstream
from sim.workload import arrivals, works

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.policy import Policy
    from sim.scenario import Scenario

FLUSH, TICK, EXCHANGE, RETRY = range(4)

# An entry of the access log: when it ended, a number that makes it unique, token, outcome, latency.
Entry = tuple[float, int, object, Outcome, float | None]


def simulate(scenario: Scenario, make: Callable[[World], Policy], seed: int) -> Record:
    """Run one policy through one scenario."""
    return Engine(scenario, make(world_of(scenario, seed)), seed).run()


def world_of(scenario: Scenario, seed: int) -> World:
    """Tell what a policy may know."""
    weights = dict(scenario.weights)
    return World(
        instances=scenario.instances,
        slo=scenario.slo_s,
        flush=scenario.flush_s,
        timeout=scenario.timeout_s,
        seed=seed,
        tenants={name: (tier, weights.get(name, 1.0)) for name, tier in scenario.tenant_tiers.items()},
        random=random.Random(f"{scenario.name} {seed} policy"),
        oracle=scenario.rate,
    )


class Engine:
    """One run. Time only moves forward; equal seeds give equal runs."""

    __slots__ = (
        "_batches",
        "_events",
        "_inverse_flush",
        "_names",
        "_numbers",
        "_order",
        "_phases",
        "_policy",
        "_record",
        "_rng",
        "_scenario",
        "_seed",
        "_sidecars",
        "_tiers",
        "_timeout",
        "_upstream",
        "_work",
    )

    def __init__(self, scenario: Scenario, policy: Policy, seed: int) -> None:
        self._scenario = scenario
        self._policy = policy
        self._seed = seed
        self._sidecars = policy.sidecars
        self._names = list(scenario.tenant_tiers)
        self._tiers = list(scenario.tenant_tiers.values())
        self._timeout = scenario.timeout_s
        self._upstream = Upstream(scenario)
        self._record = Record(scenario)
        self._rng = random.Random(f"{scenario.name} {seed} engine")
        self._work = works(scenario.distribution, self._rng)
        self._order = 0  # events of the same instant keep the order in which they were made
        self._events: list[tuple[float, int, int, tuple[Any, ...]]] = []
        self._inverse_flush = 1.0 / scenario.flush_s
        self._phases = [self._rng.random() * scenario.flush_s for _ in range(scenario.instances)]
        self._numbers = [0] * scenario.instances  # of the next flush
        # For each instance: number of the flush -> its entries.
        self._batches: list[dict[int, list[Entry]]] = [{} for _ in range(scenario.instances)]

    def run(self) -> Record:
        """Play all arrivals, then what is still under way."""
        for instance, phase in enumerate(self._phases):
            self._later(phase, FLUSH, (instance, 0))
            self._later(self._rng.random() * TICK_S, TICK, (instance,))
        self._later(self._policy.period, EXCHANGE, ())
        events = self._events
        attempt = self._attempt
        retries = self._scenario.retries
        arrived = self._record.arrived
        for now, tenant, instance, work in arrivals(self._scenario, self._seed):
            while events[0][0] <= now:
                self._happen(*heapq.heappop(events))
            arrived(now, tenant)
            attempt(now, tenant, instance, work, retries, now)
        self._drain()
        return self._record

    def _drain(self) -> None:
        """Go on until no client waits: every periodic event ends with the scenario, retries go on."""
        while self._events:
            self._happen(*heapq.heappop(self._events))

    def _later(self, at: float, kind: int, what: tuple[Any, ...]) -> None:
        self._order += 1
        heapq.heappush(self._events, (at, self._order, kind, what))

    def _attempt(self, now: float, tenant: int, instance: int, work: float, left: int, born: float) -> None:
        sidecar = self._sidecars[instance]
        name, tier = self._names[tenant], self._tiers[tenant]
        if not sidecar.admit(name, tier, now):
            again = left > 0 and self._scenario.retry_sheds
            self._record.shed(now, final=not again)
            if again:
                self._retry(now, tenant, left, born)
            return
        token = sidecar.start(name, tier, now)
        done = self._upstream.serve(now, work, tenant)
        if done is not None and done - now <= self._timeout:
            latency = done - now
            self._record.ok(now, done, tenant, born)
            entry: Entry = (done, self._order, token, "ok", latency)
        else:
            refused = done is None
            done = now if refused else now + self._timeout
            self._record.failed(final=not left)
            entry = (done, self._order, token, "failed", None if refused else self._timeout)
            if left:
                self._retry(done, tenant, left, born)
        self._order += 1
        number = int((done - self._phases[instance]) * self._inverse_flush + 1.0)
        # By rounding, an entry of the instant of a flush could belong to the one that just was.
        number = max(number, self._numbers[instance])
        self._batches[instance].setdefault(number, []).append(entry)

    def _retry(self, now: float, tenant: int, left: int, born: float) -> None:
        scenario = self._scenario
        made = scenario.retries - left
        at = now + scenario.backoff_s * 2**made * (0.5 + self._rng.random())
        (instance,) = self._rng.choices(range(scenario.instances), weights=scenario.split or None)
        self._later(at, RETRY, (tenant, instance, left - 1, born))

    def _happen(self, now: float, _order: int, kind: int, what: tuple[Any, ...]) -> None:
        if kind == RETRY:
            tenant, instance, left, born = what
            self._record.retried(now)
            self._attempt(now, tenant, instance, self._work(), left, born)
        elif kind == FLUSH:
            self._flush(now, *what)
        elif kind == TICK:
            self._sidecars[what[0]].tick(now)
            self._periodic(now + TICK_S, TICK, what)
        else:
            self._policy.exchange(now, not within(self._scenario.redis_outages, now))
            self._periodic(now + self._policy.period, EXCHANGE, what)

    def _periodic(self, at: float, kind: int, what: tuple[Any, ...]) -> None:
        """Repeat until the last client has its answer."""
        scenario = self._scenario
        patience = scenario.timeout_s + scenario.backoff_s * 2**scenario.retries
        if at <= scenario.duration_s + patience * (scenario.retries + 1) + scenario.flush_s:
            self._later(at, kind, what)

    def _flush(self, now: float, instance: int, number: int) -> None:
        entries = self._batches[instance].pop(number, ())
        self._numbers[instance] = number + 1
        if not within(self._scenario.als_outages, now):
            sidecar = self._sidecars[instance]
            for _, _, token, outcome, latency in sorted(entries):
                sidecar.end(token, outcome, latency, now)
            sidecar.batch(now)
        # From the number, not from `now`: a sum of many steps would drift away from what `_attempt` computes.
        at = self._phases[instance] + (number + 1) * self._scenario.flush_s
        self._periodic(at, FLUSH, (instance, number + 1))
