"""Counters of rate limits: in Redis (lua/limits.lua), or in memory for a single instance.

Keys are those of core/ratelimit/keys.py; all expire by themselves.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.ratelimit.asks import CounterAnswer, GiveBack, RequestAsk
from sentinel_ext.core.ratelimit.counters import Counter, decide, make_counter
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.link import Script

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    Run: TypeAlias = Callable[..., Awaitable[Any]]

# A counter in memory costs about 400 bytes: 26 MB. The least recently used goes first.
MAX_COUNTERS: Final = 65_536

_ENTRY = struct.Struct("<HBBddddII")
_REPLY = struct.Struct("<Bqqqqqq")
_BACK = struct.Struct("<Bdddd")


class LimitStore(Protocol):
    """Counters shared by all instances."""

    def is_available(self) -> bool:
        """Say whether asking now can succeed, without asking."""
        ...

    async def decide(
        self, requests: Sequence[RequestAsk]
    ) -> Sequence[tuple[CounterAnswer, ...] | StoreFault]:
        """Decide the requests in their order, each atomically; of a cluster, each slot's part of one.

        A request that a part of the store could not answer gets the fault in its place.

        Raises:
            StoreError: nothing is known of them; some may have been counted.
        """
        ...

    async def give_back(self, backs: Sequence[GiveBack]) -> None:
        """Give hits back; what has left its window since is ignored.

        Raises:
            StoreError: the hits may stay counted until their window ends.
        """
        ...

    async def reset(self, keys: Sequence[bytes]) -> int:
        """Forget what was counted; return how many counters there were.

        Raises:
            StoreError: it may or may not be done.
        """
        ...


def encode(requests: Iterable[RequestAsk]) -> tuple[list[bytes], bytes]:
    """Return the script's keys, each once, and its packed argument.

    Keys and a request's counters are numbered with 16 bits: the batcher keeps a call far below that.
    """
    places: dict[bytes, int] = {}
    place_of, pack, parts = places.setdefault, _ENTRY.pack, []
    for request in requests:
        parts.append(len(request).to_bytes(2, "little"))
        for ask in request:
            place = place_of(ask.key, len(places))
            parts.append(
                pack(
                    place, ask.kind, ask.flags, ask.window_us, ask.limit, ask.burst or ask.limit, ask.hits,
                    ask.lease, ask.divisor,
                )
            )  # fmt: skip
    return list(places), b"".join(parts)


def decode(reply: object, requests: Sequence[RequestAsk]) -> list[tuple[CounterAnswer, ...]]:
    """Read the script's reply.

    Raises:
        StoreError: it is not one.
    """
    size = sum(map(len, requests))
    if not isinstance(reply, bytes) or len(reply) != _REPLY.size * size:
        raise StoreError(StoreFault.ERROR, "Redis replied something else than the limits script does")
    answers = [
        CounterAnswer(bits & 1 == 1, used, reset, retry, leased, fresh, slot, bits & 2 == 2)
        for bits, used, reset, retry, leased, fresh, slot in _REPLY.iter_unpack(reply)
    ]
    if size == len(requests):  # one counter each: the usual case
        return [(answer,) for answer in answers]
    shared, at = [], 0
    for request in requests:
        shared.append(tuple(answers[at : at + len(request)]))
        at += len(request)
    return shared


def encode_backs(backs: Sequence[GiveBack]) -> tuple[list[bytes], bytes]:
    """Return keys and packed argument of giveback.lua."""
    packed = b"".join(
        [_BACK.pack(back.kind, back.window_us, back.limit, back.slot, back.hits) for back in backs]
    )
    return [back.key for back in backs], packed


class RedisLimits:
    """Counters in one Redis. All requests of a call travel in one script call."""

    def __init__(self, hot: Run, run: Run, is_available: Callable[[], bool]) -> None:
        """Ask through `hot`, give back and reset through `run`: (script, keys, arguments) → reply."""
        self._hot, self._run = hot, run
        self.is_available = is_available
        self._limits, self._giveback, self._reset = Script("limits"), Script("giveback"), Script("reset")

    async def decide(self, requests: Sequence[RequestAsk]) -> Sequence[tuple[CounterAnswer, ...]]:
        """See LimitStore."""
        keys, packed = encode(requests)
        return decode(await self._hot(self._limits, keys, packed), requests)

    async def give_back(self, backs: Sequence[GiveBack]) -> None:
        """See LimitStore."""
        keys, packed = encode_backs(backs)
        await self._run(self._giveback, keys, packed)

    async def reset(self, keys: Sequence[bytes]) -> int:
        """See LimitStore."""
        return int(await self._run(self._reset, keys))


class MemoryLimits:
    """Counters of a single instance. `now_us` is any clock in microseconds."""

    def __init__(self, now_us: Callable[[], int], max_counters: int = MAX_COUNTERS) -> None:
        """Start with none."""
        self._now_us = now_us
        self._max_counters = max_counters
        self._counters: OrderedDict[bytes, Counter] = OrderedDict()

    def is_available(self) -> bool:
        """Memory always answers."""
        return True

    async def decide(self, requests: Sequence[RequestAsk]) -> Sequence[tuple[CounterAnswer, ...]]:
        """See LimitStore."""
        now_us = self._now_us()
        return [decide(request, self._of(request, now_us), now_us) for request in requests]

    async def give_back(self, backs: Sequence[GiveBack]) -> None:
        """See LimitStore."""
        now_us = self._now_us()
        for back in backs:
            counter = self._counters.get(back.key)
            if counter is not None:
                counter.advance(now_us)
                counter.give_back(back, now_us)

    async def reset(self, keys: Sequence[bytes]) -> int:
        """See LimitStore."""
        return sum(self._counters.pop(key, None) is not None for key in keys)

    def __len__(self) -> int:
        return len(self._counters)

    def _of(self, request: RequestAsk, now_us: int) -> list[Counter]:
        """Return the request's counters, made on first sight."""
        counters = []
        for ask in request:
            counter = self._counters.get(ask.key)
            if counter is None:
                counter = self._counters[ask.key] = make_counter(ask)
            else:
                self._counters.move_to_end(ask.key)
            counter.advance(now_us)
            counters.append(counter)
        while len(self._counters) > self._max_counters:
            self._counters.popitem(last=False)
        return counters
