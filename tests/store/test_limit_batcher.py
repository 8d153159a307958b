"""The batcher of rate limits: one call for a turn, deadlines, faults and what comes late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.ratelimit.asks import BINDING, FIXED, CounterAnswer, CounterAsk, GiveBack
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.limit_batcher import MAX_BATCH_COUNTERS, LimitBatcher, LimitWaiter
from sentinel_ext.store.turns import MAX_REFUNDS, WORKERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

ANSWER = (CounterAnswer(False, 1, 5, 0, 0, 0, 7, True),)


class HeldStore:
    def __init__(self) -> None:
        self.calls: list[int] = []
        self.backs: list[GiveBack] = []
        self.available = True
        self.outcome: Any = None
        self.gate = asyncio.Event()

    def is_available(self) -> bool:
        return self.available

    async def decide(self, requests: Sequence[Any]) -> list[Any]:
        self.calls.append(len(requests))
        await self.gate.wait()
        if isinstance(self.outcome, StoreError):
            raise self.outcome
        return [self.outcome or ANSWER] * len(requests)

    async def give_back(self, backs: Sequence[GiveBack]) -> None:
        self.backs.extend(backs)

    async def reset(self, keys: Sequence[bytes]) -> int:
        return len(keys)


class Waiter(LimitWaiter):
    __slots__ = ("late", "outcome")

    def __init__(self) -> None:
        super().__init__((CounterAsk(b"k", FIXED, 1, 1, 0, 1, BINDING),))
        self.outcome: Any = None
        self.late: Any = None

    def settle(self, outcome: Any) -> None:
        assert self.outcome is None
        self.outcome = outcome

    def settle_late(self, answers: Any) -> None:
        self.late = answers


@pytest.fixture
async def store() -> HeldStore:
    return HeldStore()


@pytest.fixture
async def batcher(store: HeldStore) -> AsyncIterator[LimitBatcher]:
    batcher = LimitBatcher(store, 0.02, max_queued=100)
    await batcher.start()
    yield batcher
    store.gate.set()
    await batcher.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_all_of_a_turn_travel_in_one_call(batcher: LimitBatcher, store: HeldStore) -> None:
    store.gate.set()
    waiters = [Waiter() for _ in range(50)]
    assert [None] * 50 == [batcher.submit(waiter) for waiter in waiters]

    await until(lambda: all(waiter.outcome for waiter in waiters))

    assert [50] == store.calls
    assert [ANSWER] * 50 == [waiter.outcome for waiter in waiters]


async def test_a_late_word_goes_to_who_has_been_told_already(batcher: LimitBatcher, store: HeldStore) -> None:
    waiter, gone = Waiter(), Waiter()
    batcher.submit(waiter)
    await until(lambda: store.calls)
    batcher.submit(gone)
    await until(lambda: len(store.calls) == 2)
    gone.is_settled = True

    await until(lambda: waiter.outcome is not None)
    assert StoreFault.TIMEOUT == waiter.outcome
    store.gate.set()
    await until(lambda: gone.late is not None)
    assert (ANSWER, None) == (waiter.late, gone.outcome)


async def test_faults_of_all_and_of_one(batcher: LimitBatcher, store: HeldStore) -> None:
    store.gate.set()
    for outcome in (StoreError(StoreFault.ERROR, "x"), StoreFault.UNREACHABLE):
        store.outcome = outcome
        waiter = Waiter()
        batcher.submit(waiter)
        await until(lambda each=waiter: each.outcome is not None)
        assert waiter.outcome == (outcome.fault if isinstance(outcome, StoreError) else outcome)


async def test_what_cannot_be_asked_is_said_at_once(batcher: LimitBatcher, store: HeldStore) -> None:
    for _ in range(WORKERS):
        batcher.submit(Waiter())
        await asyncio.sleep(0.002)
    said = [batcher.submit(Waiter()) for _ in range(120)]
    assert StoreFault.OVERLOADED == said[-1]
    store.available = False
    assert StoreFault.UNREACHABLE == batcher.submit(Waiter())


async def test_a_call_has_a_bound_on_its_counters(batcher: LimitBatcher, store: HeldStore) -> None:
    store.gate.set()
    waiters = [Waiter() for _ in range(20)]
    for waiter in waiters:
        waiter.asks = waiter.asks * 100
        batcher.submit(waiter)

    await until(lambda: all(waiter.outcome for waiter in waiters))

    assert [-(-MAX_BATCH_COUNTERS // 100), 20 - -(-MAX_BATCH_COUNTERS // 100)] == store.calls


async def test_what_is_given_back_is_sent_soon_and_bounded(batcher: LimitBatcher, store: HeldStore) -> None:
    for number in range(MAX_REFUNDS + 10):
        batcher.give_back(GiveBack(b"k", FIXED, 1, 1, number, 1))

    await until(lambda: len(store.backs) == MAX_REFUNDS)
    assert 10 == store.backs[0].slot
