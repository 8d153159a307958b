"""Poisson arrivals of a scenario, the same for every policy: what differs is what the policies do."""

from __future__ import annotations

import math
import random
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.scenario import Distribution, Scenario

# Time, number of the tenant, number of the instance, work as a multiple of the mean service time.
Arrival = tuple[float, int, int, float]

# Mean 1 each. Bimodal: nine of ten take half, one takes 5.5 times the mean (cv 1.5).
SHORT, LONG, LONG_SHARE = 0.5, 5.5, 0.1
LOGNORMAL_CV = 3.0


def works(distribution: Distribution, rng: random.Random) -> Callable[[], float]:
    """Give a source of service times of mean 1."""
    if distribution == "deterministic":
        return lambda: 1.0
    if distribution == "bimodal":
        return lambda: LONG if rng.random() < LONG_SHARE else SHORT
    if distribution == "lognormal":
        variance = math.log(1 + LOGNORMAL_CV**2)
        return lambda: rng.lognormvariate(-variance / 2, math.sqrt(variance))
    return lambda: rng.expovariate(1.0)


@lru_cache(maxsize=1)
def arrivals(scenario: Scenario, seed: int) -> list[Arrival]:
    """Draw every first attempt; kept for the next policy that meets the same."""
    rng = random.Random(f"{scenario.name} {seed} arrivals")
    work = works(scenario.distribution, rng)
    instances = range(scenario.instances)
    tenants = range(sum(scenario.tenants))
    found: list[Arrival] = []
    for start, end, rates in segments(scenario):
        total = sum(rates)
        if total <= 0:
            continue
        times = []
        now = start + rng.expovariate(total)
        while now < end:
            times.append(now)
            now += rng.expovariate(total)
        count = len(times)
        who = rng.choices(tenants, weights=rates, k=count)
        where = rng.choices(instances, weights=scenario.split or None, k=count)
        found.extend(zip(times, who, where, [work() for _ in times], strict=True))
    return found


def segments(scenario: Scenario) -> list[tuple[float, float, list[float]]]:
    """Cut the time where any rate changes; each piece has the rate of each tenant in requests per second."""
    cuts = {0.0, scenario.duration_s, *(at for at, _ in scenario.load)}
    cuts |= {edge for surge in scenario.surges for edge in (surge.start_s, surge.end_s)}
    edges = sorted(cut for cut in cuts if 0 <= cut <= scenario.duration_s)
    return [(start, end, _rates(scenario, start)) for start, end in pairwise(edges)]


def _rates(scenario: Scenario, now: float) -> list[float]:
    load = max(((at, x) for at, x in scenario.load if at <= now), default=(0.0, 0.0))[1]
    demand = dict(scenario.demand)
    tiers = scenario.tenant_tiers
    share_of = dict(zip(("vital", "standard", "economy"), scenario.shares, strict=True))
    totals: dict[str, float] = {}
    for tenant, tier in tiers.items():
        totals[tier] = totals.get(tier, 0.0) + demand.get(tenant, 1.0)
    rates = []
    for tenant, tier in tiers.items():
        rate = scenario.rate * load * share_of[tier] * demand.get(tenant, 1.0) / totals[tier]
        for surge in scenario.surges:
            if surge.start_s <= now < surge.end_s and surge.who in {"", tier, tenant}:
                rate *= surge.factor
        rates.append(rate)
    return rates
