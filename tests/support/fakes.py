"""Stand-ins with behaviour of their own: a clock, a caller, a store whose answers the test gives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sentinel_ext.store.base import Answer, Ask, Refund, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sentinel_ext.core.decision import Decision, StoreFault
    from sentinel_ext.core.tracecontext import Fields


class FakeClock:
    """Nanoseconds that move only when told to."""

    def __init__(self, now_ns: int = 1_000_000_000_000) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def us(self) -> int:
        return self.now_ns // 1000

    def advance(self, *, ns: int = 0, ms: int = 0, s: int = 0) -> int:
        self.now_ns += ns + ms * 1_000_000 + s * 1_000_000_000
        return self.now_ns


class FakeCaller:
    """What identify reads of a request."""

    def __init__(
        self,
        headers: Mapping[str, str] | None = None,
        context_extensions: Mapping[str, str] | None = None,
        principal: str = "",
        claims: Mapping[tuple[str, str], str] | None = None,
    ) -> None:
        self.headers = headers or {}
        self.carried: Fields = ()
        self.context_extensions = context_extensions or {}
        self.principal = principal
        self._claims = claims or {}

    def claim(self, payload: str, name: str) -> str:
        return self._claims.get((payload, name), "")


class HeldCall:
    """One call to the ScriptedStore, open until the test answers it."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        self.asks = list(asks)
        self.outcome: asyncio.Future[Sequence[Answer]] = asyncio.get_running_loop().create_future()

    def grant(self, count: int | None = None, *, used: int = 0, slot: int = 7) -> None:
        """Grant `count` requests of each ask, all by default; `used` hits were counted before."""
        answers = []
        for ask in self.asks:
            granted = ask.count if count is None else min(count, ask.count)
            answers.append(Answer(granted, used + granted * ask.hits, 6_000_000, 500_000, slot))
        self.outcome.set_result(answers)

    def fail(self, fault: StoreFault) -> None:
        self.outcome.set_exception(StoreError(fault, "scripted"))


class ScriptedStore:
    """A Store that holds each call back; the test takes calls with `next_call` and answers them."""

    def __init__(self) -> None:
        self.available = True
        self.asked = 0
        self._calls: asyncio.Queue[HeldCall] = asyncio.Queue()
        self._refunds: asyncio.Queue[Refund] = asyncio.Queue()

    async def next_call(self) -> HeldCall:
        return await self._calls.get()

    async def next_refund(self) -> Refund:
        return await self._refunds.get()

    @property
    def refunds_waiting(self) -> int:
        return self._refunds.qsize()

    def is_available(self) -> bool:
        return self.available

    async def start(self) -> None:
        pass

    async def acquire(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        self.asked += 1
        call = HeldCall(asks)
        self._calls.put_nowait(call)
        return await call.outcome

    async def refund(self, refunds: Sequence[Refund]) -> None:
        for refund in refunds:
            self._refunds.put_nowait(refund)

    async def presence(self, instance: str, lease_ms: int, *, leaving: bool = False) -> int:
        return 0 if leaving else 1

    async def fleet(self, at_most: int) -> Sequence[str]:
        return ()

    async def close(self) -> None:
        pass


class Inbox:
    """Takes what an engine delivers; `reachable` says whether the caller is still there."""

    def __init__(self, *, reachable: bool = True) -> None:
        self.reachable = reachable
        self._delivered: asyncio.Queue[Decision | None] = asyncio.Queue()

    def __call__(self, decision: Decision | None) -> bool:
        self._delivered.put_nowait(decision)
        return self.reachable

    async def next(self) -> Decision | None:
        return await self._delivered.get()

    def __len__(self) -> int:
        return self._delivered.qsize()


async def turns(count: int = 8) -> None:
    """Let the loop run a few turns: what would happen at once has happened then."""
    for _ in range(count):
        await asyncio.sleep(0)
