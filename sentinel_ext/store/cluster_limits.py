"""Rate limits' counters in a Redis Cluster: each slot's part of a request is decided in one atomic step.

The limits of one rule share a slot (core/ratelimit/keys.py). Where a request's rules lie in several, each
counter still never passes its limit; when one part refuses, the limiter gives back what the others counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from redis.crc import key_slot

from sentinel_ext.core.ratelimit.asks import QUOTA, CounterAnswer
from sentinel_ext.store import limits
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.cluster import ClusterStore, raise_first
from sentinel_ext.store.link import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentinel_ext.core.decision import StoreFault
    from sentinel_ext.core.ratelimit.asks import CounterAsk, GiveBack, RequestAsk

    # Index of the request, and of its counter.
    Place = tuple[int, int]


class ClusterLimits:
    """See store/limits.py: LimitStore."""

    def __init__(self, store: ClusterStore) -> None:
        """Use the cluster's links."""
        self._store = store
        self._limits, self._giveback, self._reset = Script("limits"), Script("giveback"), Script("reset")

    def is_available(self) -> bool:
        """Say whether any master can be asked."""
        return self._store.is_available()

    async def decide(
        self, requests: Sequence[RequestAsk]
    ) -> Sequence[tuple[CounterAnswer, ...] | StoreFault]:
        """Decide; a request of which a slot cannot be asked gets the fault."""
        parts: dict[int, list[tuple[RequestAsk, list[Place]]]] = {}
        for number, request in enumerate(requests):
            for slot, places in _slots(request).items():
                whole = len(places) == len(request)
                asks = request if whole else tuple([_alone(request[at]) for at in places])
                parts.setdefault(slot, []).append((asks, [(number, at) for at in places]))
        commands = []
        for each in parts.values():
            keys, packed = limits.encode([asks for asks, _ in each])
            commands.append((self._limits, keys, [packed]))
        found: list[list[CounterAnswer | None]] = [[None] * len(request) for request in requests]
        faults: dict[int, StoreFault] = {}
        for each, reply in zip(parts.values(), await self._store.scripts(commands), strict=True):
            _fill(found, faults, each, reply)
        return [
            faults[number]
            if number in faults
            else tuple([answer for answer in answers if answer is not None])
            for number, answers in enumerate(found)
        ]

    async def give_back(self, backs: Sequence[GiveBack]) -> None:
        """See LimitStore."""
        by_slot: dict[int, list[GiveBack]] = {}
        for back in backs:
            by_slot.setdefault(key_slot(back.key), []).append(back)
        commands = []
        for each in by_slot.values():
            keys, packed = limits.encode_backs(each)
            commands.append((self._giveback, keys, [packed]))
        raise_first(await self._store.scripts(commands))

    async def reset(self, keys: Sequence[bytes]) -> int:
        """See LimitStore."""
        results = await self._store.scripts([(self._reset, [key], ()) for key in keys], is_hot=False)
        raise_first(results)
        return sum(map(int, results))


def _slots(request: RequestAsk) -> dict[int, list[int]]:
    slots: dict[int, list[int]] = {}
    for at, ask in enumerate(request):
        slots.setdefault(key_slot(ask.key), []).append(at)
    return slots


def _alone(ask: CounterAsk) -> CounterAsk:
    """A quota refuses only with all others, which a slot alone cannot see: there it never does."""
    return msgspec.structs.replace(ask, flags=ask.flags & ~QUOTA) if ask.flags & QUOTA else ask


def _fill(
    found: list[list[CounterAnswer | None]],
    faults: dict[int, StoreFault],
    parts: Sequence[tuple[RequestAsk, list[Place]]],
    reply: Any,  # noqa: ANN401  Redis' reply, or a StoreError
) -> None:
    try:
        if isinstance(reply, StoreError):
            raise reply
        answers = limits.decode(reply, [asks for asks, _ in parts])
    except StoreError as error:
        for _, places in parts:
            faults[places[0][0]] = error.fault
        return
    for (_, places), answer in zip(parts, answers, strict=True):
        for (number, at), each in zip(places, answer, strict=True):
            found[number][at] = each
