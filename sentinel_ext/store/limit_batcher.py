"""Rate limit requests of one event-loop turn in one store call (store/turns.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentinel_ext.core.ratelimit.asks import CounterAnswer, GiveBack
from sentinel_ext.store.turns import MAX_QUEUED, Trip, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentinel_ext.core.decision import StoreFault
    from sentinel_ext.core.ratelimit.asks import RequestAsk
    from sentinel_ext.store.limits import LimitStore


class LimitWaiter:
    """A request that waits for the store. Subclass it with `settle`, which is called at most once."""

    __slots__ = ("asks", "is_settled", "queued_at")

    def __init__(self, asks: RequestAsk) -> None:
        """Ask `asks`."""
        self.asks = asks
        self.queued_at = 0.0
        self.is_settled = False

    def settle(self, outcome: tuple[CounterAnswer, ...] | StoreFault) -> None:
        """Take the outcome."""
        raise NotImplementedError

    def settle_late(self, answers: tuple[CounterAnswer, ...]) -> None:
        """Take the store's word that came after the deadline or a cancellation."""
        raise NotImplementedError


class LimitBatcher(Turns[LimitWaiter, GiveBack]):
    """Between rate limits and a store. Belongs to one event loop."""

    def __init__(
        self,
        store: LimitStore,
        timeout_s: float,
        observe: Callable[[float, int, StoreFault | None], None] = lambda _s, _n, _f: None,
        *,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        """Make it; `start` brings the workers up.

        Args:
            timeout_s: how long a request waits for the store.
            observe: told (seconds, requests, fault or None) of every store call.
        """
        super().__init__(store, timeout_s, observe, max_queued)
        self._store = store

    def give_back(self, back: GiveBack) -> None:
        """Return hits, soon."""
        self._give_back(back)

    def _trip(self, waiters: Sequence[LimitWaiter]) -> Trip[LimitWaiter]:
        return Trip(waiters, [waiter.asks for waiter in waiters])

    async def _call(self, trip: Trip[LimitWaiter]) -> Sequence[Any]:
        return await self._store.decide(trip.asks)

    async def _send_back(self, refunds: Sequence[GiveBack]) -> None:
        await self._store.give_back(refunds)

    def _settle_fault(self, waiter: LimitWaiter, fault: StoreFault) -> None:
        waiter.settle(fault)

    def _share_out(
        self, trip: Trip[LimitWaiter], answers: Sequence[tuple[CounterAnswer, ...] | StoreFault]
    ) -> None:
        for waiter, answer in zip(trip.waiters, answers, strict=True):
            if not isinstance(answer, tuple):
                self._settle(waiter, answer)
            elif waiter.is_settled:
                waiter.settle_late(answer)
            else:
                waiter.is_settled = True
                waiter.settle(answer)
