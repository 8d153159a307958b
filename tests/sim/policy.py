"""What a policy under test looks like to the simulator, and all it may know of the world.

A request meets it in this order, times in seconds of the simulation:

    sidecar.admit(tenant, tier, now)         at its arrival; True lets it pass. Counts the request.
    sidecar.start(tenant, tier, now)         right after an admit that said True; what it returns is the token
    sidecar.end(token, outcome, latency, now)  when the batch of access log entries arrives that has its entry
    sidecar.batch(now)                       once after the end() calls of each batch, also of an empty one
    sidecar.tick(now)                        every TICK_S
    policy.exchange(now, reachable)          every policy.period: publish and aggregate over all sidecars

Entries of an access log outage never arrive: neither end() nor batch() is called. While the shared store is
away `reachable` is False, and what a sidecar knows of the others must not change in that call.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

TICK_S = 0.1
TIERS = ("vital", "standard", "economy")

Outcome = Literal["ok", "failed"]


class Sidecar(Protocol):
    """One instance: decides alone, learns from its own access log and from the exchange."""

    def admit(self, tenant: str, tier: str, now: float) -> bool:
        """Decide on one request and count it."""

    def start(self, tenant: str, tier: str, now: float) -> object:
        """Begin an admitted request; what is returned comes back in `end`."""

    def end(self, token: object, outcome: Outcome, latency: float | None, now: float) -> None:
        """Learn how a request ended; `latency` is None where the upstream refused it."""

    def batch(self, now: float) -> None:
        """Learn that the access log lives: a message arrived, its entries were given to `end`."""

    def tick(self, now: float) -> None:
        """Do what is due without any request."""


class Policy(Protocol):
    """All instances, and what they share."""

    name: str
    period: float

    @property
    def sidecars(self) -> Sequence[Sidecar]:
        """One per instance."""

    def exchange(self, now: float, reachable: bool) -> None:
        """Publish and aggregate over all instances, if the shared store is reachable."""


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy may know before it starts; the capacity of the upstream is not part of it.

    Attributes:
        slo: a slower answer is a bad one.
        flush: access log entries arrive this much later at most.
        timeout: the client gives up after it.
        tenants: tier and weight of each.
        random: the policy's own source of chance; the same seed gives the same draws.
        oracle: the capacity in requests per second, for comparators that say they cheat, and for no other.
    """

    instances: int
    slo: float
    flush: float
    timeout: float
    seed: int
    tenants: dict[str, tuple[str, float]]
    random: random.Random
    oracle: float


Make = Callable[[World], Policy]
