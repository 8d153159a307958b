"""A scenario as data: who asks how much when, what the upstream can do, what breaks."""

from __future__ import annotations

from typing import Literal

import msgspec
from sim.policy import TIERS

Distribution = Literal["exponential", "deterministic", "bimodal", "lognormal"]
Span = tuple[float, float]


class Change(msgspec.Struct, frozen=True):
    """A factor from `start_s` until `end_s`; `who` is a tenant, a tier, or "" for everybody."""

    start_s: float
    end_s: float
    factor: float
    who: str = ""


class Goal(msgspec.Struct, frozen=True):
    """How long after `since_s` until `series` reaches `target` and stays there (see score.settled)."""

    label: str
    series: Literal["goodput", "vital", "success"]
    since_s: float
    target: float


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One run, all but the seed.

    Attributes:
        load: steps (from second, offered load as a multiple of the capacity); 0 before the first.
        shares: of the offered load, by tier.
        tenants: how many, by tier.
        demand: tenants that ask more than the others of their tier, relative to 1; the tier's total stays.
        weights: what tenants of a tier are entitled to, relative to 1.
        surges: demand times a factor for a while; the total grows.
        split: of the requests over the instances, relative.
        workers: of the upstream; each serves one request at a time, in order of arrival.
        capacity: share of the workers that serve, for a while; those at work finish what they have.
        slowdown: service time times a factor for a while, for what starts then.
        refuses: while the upstream refuses every request at once.
        queue: longer waiting lines are refused at once; None is no bound.
        timeout_s: the client gives up; the upstream does the dead work all the same.
        retries: a client's further attempts after a timeout or refusal, and after a shed if `retry_sheds`;
            after `backoff_s` times 2 per attempt, times U(.5, 1.5).
        als_outages: entries of these flushes are lost.
        scored: results count from here to there.
    """

    name: str
    title: str
    load: tuple[tuple[float, float], ...]
    shares: tuple[float, float, float] = (0.2, 0.3, 0.5)
    tenants: tuple[int, int, int] = (3, 6, 6)
    demand: tuple[tuple[str, float], ...] = ()
    weights: tuple[tuple[str, float], ...] = ()
    surges: tuple[Change, ...] = ()
    instances: int = 4
    split: tuple[float, ...] = ()
    workers: int = 40
    service_s: float = 0.040
    distribution: Distribution = "exponential"
    capacity: tuple[Change, ...] = ()
    slowdown: tuple[Change, ...] = ()
    refuses: tuple[Span, ...] = ()
    queue: int | None = None
    timeout_s: float = 1.0
    slo_s: float = 0.5
    flush_s: float = 0.1
    retries: int = 0
    retry_sheds: bool = False
    backoff_s: float = 0.1
    als_outages: tuple[Span, ...] = ()
    redis_outages: tuple[Span, ...] = ()
    duration_s: float = 60.0
    scored: Span = (20.0, 60.0)
    goals: tuple[Goal, ...] = ()

    @property
    def rate(self) -> float:
        """Capacity in requests per second, undisturbed."""
        return self.workers / self.service_s

    @property
    def tenant_tiers(self) -> dict[str, str]:
        """Each tenant's tier; the order is the one of the engine's tenant numbers."""
        return {
            f"{tier}-{number}": tier
            for tier, count in zip(TIERS, self.tenants, strict=True)
            for number in range(1, count + 1)
        }


def within(spans: tuple[Span, ...], now: float) -> bool:
    """Tell whether `now` lies in one of the spans."""
    return any(start <= now < end for start, end in spans)
