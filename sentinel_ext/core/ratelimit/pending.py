"""A rate limit request on its way through the limiter, and the settings that it goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.ratelimit.rules import OnStoreFailure

if TYPE_CHECKING:
    from sentinel_ext.core.ratelimit.admission import Admitted
    from sentinel_ext.core.ratelimit.asks import CounterAsk
    from sentinel_ext.core.ratelimit.known import PartResult
    from sentinel_ext.core.ratelimit.plan import Part, Plan


class Options(msgspec.Struct, frozen=True):
    """Settings of the whole service.

    Attributes:
        shadow: nothing is refused, everything counted.
        quota: every descriptor is a quota one.
        metadata: answer with dynamic metadata.
        near_ratio: from which part of a limit on hits count as near it.
        on_store_failure: of limits that do not say.
        leases: hits may be taken ahead.
    """

    shadow: bool = False
    quota: bool = False
    metadata: bool = False
    near_ratio: float = 0.8
    on_store_failure: OnStoreFailure = OnStoreFailure.ERROR
    leases: bool = True


class Pending:
    """A request that waits for the store. Ends in exactly one of resume, resume_without_store, cancel.

    Attributes:
        asks: what is asked.
        places: index of the part that each ask is for.
        results: of all parts; None where the store is asked.
        held: parts that spent leased hits, with the lease's slot.
        admitted: its place in flight, where it is shed by tier.
    """

    __slots__ = ("admitted", "asked_ns", "asks", "held", "places", "plan", "results")

    def __init__(self, plan: Plan, asked_ns: int) -> None:
        """Start with nothing known."""
        self.plan = plan
        self.asked_ns = asked_ns
        self.asks: tuple[CounterAsk, ...] = ()
        self.places: list[int] = []
        self.results: list[PartResult | None] = []
        self.held: list[tuple[Part, int]] = []
        self.admitted: Admitted | None = None
