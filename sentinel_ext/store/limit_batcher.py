"""Rate limit requests of one event-loop turn in one store call (store/turns.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from sentinel_ext.core.ratelimit.asks import CounterAnswer, GiveBack
from sentinel_ext.store.limits import LimitStore
from sentinel_ext.store.turns import MAX_BATCH, Trip, Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentinel_ext.core.decision import StoreFault
    from sentinel_ext.core.ratelimit.asks import RequestAsk


# Counters in one call, but for those of its last request: they hold Redis for some 4 ms, as 512 windows do.
MAX_BATCH_COUNTERS: Final = 1_024


class LimitWaiter(ABC):
    """A request that waits for the store. Subclass it with `settle`, which is called at most once."""

    __slots__ = ("asks", "is_settled", "queued_at")

    def __init__(self, asks: RequestAsk) -> None:
        """Ask `asks`."""
        self.asks = asks
        self.queued_at = 0.0
        self.is_settled = False

    @abstractmethod
    def settle(self, outcome: tuple[CounterAnswer, ...] | StoreFault) -> None:
        """Take the outcome."""

    @abstractmethod
    def settle_late(self, answers: tuple[CounterAnswer, ...]) -> None:
        """Take the store's word that came after the deadline or a cancellation."""


class LimitBatcher(Turns[LimitWaiter, GiveBack, LimitStore]):
    """Between rate limits and a store. Belongs to one event loop."""

    def give_back(self, back: GiveBack) -> None:
        """Return hits, soon."""
        self._give_back(back)

    def _take(self) -> list[LimitWaiter]:
        queue, counters = self._queue, 0
        taken: list[LimitWaiter] = []
        while queue and len(taken) < MAX_BATCH and counters < MAX_BATCH_COUNTERS:
            waiter = queue.popleft()
            if not waiter.is_settled:  # cancelled while it waited
                taken.append(waiter)
                counters += len(waiter.asks)
        return taken

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
