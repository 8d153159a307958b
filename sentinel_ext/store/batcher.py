"""Windows of Check: equal queries of one event-loop turn are summed and share a store call (turns.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from sentinel_ext.core.window import WindowQuery, WindowReply
from sentinel_ext.store.base import Answer, Ask, Refund, Store
from sentinel_ext.store.turns import GRACE_TURNS, MAX_BATCH, MAX_QUEUED, MAX_REFUNDS, WORKERS, Trip, Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentinel_ext.core.decision import StoreFault

__all__ = ["GRACE_TURNS", "MAX_BATCH", "MAX_QUEUED", "MAX_REFUNDS", "WORKERS", "Batcher", "Waiter"]


class Waiter(ABC):
    """A request that waits for the store. Subclass it with `settle`, which is called exactly once."""

    __slots__ = ("is_settled", "query", "queued_at")

    def __init__(self, query: WindowQuery) -> None:
        """Ask `query`."""
        self.query = query
        self.queued_at = 0.0
        self.is_settled = False

    @abstractmethod
    def settle(self, outcome: WindowReply | StoreFault) -> bool:
        """Take the outcome; return True if the hits it was granted must be given back."""

    @abstractmethod
    def settle_late(self, reply: WindowReply) -> bool:
        """Take a reply that came after the deadline; return True if its hits must be given back."""


class Batcher(Turns[Waiter, Refund, Store]):
    """Between the engine and a store. Belongs to one event loop."""

    def give_back(self, query: WindowQuery, slot: int) -> None:
        """Refund the hits that `slot` took for `query`, soon."""
        self._give_back(Refund(query.key, query.sub_us, slot, query.hits))

    def _trip(self, waiters: Sequence[Waiter]) -> Trip[Waiter]:
        groups: dict[tuple[bytes, int, int], list[Waiter]] = {}
        for waiter in waiters:
            query = waiter.query
            groups.setdefault((query.key, query.limit, query.hits), []).append(waiter)
        asks = [
            Ask(group[0].query.key, group[0].query.sub_us, limit, hits, len(group))
            for (_, limit, hits), group in groups.items()
        ]
        return Trip(waiters, asks, list(groups.values()))

    async def _call(self, trip: Trip[Waiter]) -> Sequence[Any]:
        return await self._store.acquire(trip.asks)

    async def _send_back(self, refunds: Sequence[Refund]) -> None:
        await self._store.refund(refunds)

    def _settle_fault(self, waiter: Waiter, fault: StoreFault) -> None:
        waiter.settle(fault)

    def _share_out(self, trip: Trip[Waiter], answers: Sequence[Answer | StoreFault]) -> None:
        for answer, group in zip(answers, trip.groups, strict=True):
            if isinstance(answer, Answer):
                self._serve(answer, group)
            else:
                for waiter in group:
                    self._settle(waiter, answer)

    def _serve(self, answer: Answer, group: list[Waiter]) -> None:
        """First come, first served: the first `granted` waiters pass, each sees what was used up to it."""
        before = answer.used - answer.granted * group[0].query.hits
        for i, waiter in enumerate(group):
            granted = i < answer.granted
            used = before + (i + 1) * waiter.query.hits if granted else answer.used
            reply = WindowReply(granted, used, answer.reset_us, answer.retry_us, answer.slot)
            settled_before = waiter.is_settled
            waiter.is_settled = True
            gives_back = waiter.settle_late(reply) if settled_before else waiter.settle(reply)
            if granted and gives_back:
                self.give_back(waiter.query, reply.slot)
