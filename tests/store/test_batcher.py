"""The batcher against a store whose answers the test holds back."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.window import WindowQuery, WindowReply
from sentinel_ext.store.base import Answer, Ask, Refund, StoreError
from sentinel_ext.store.batcher import MAX_BATCH, WORKERS, Batcher, Waiter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class HeldStore:
    """Grants `grant` of each ask; holds each answer back until `release` is called."""

    def __init__(self) -> None:
        self.calls: list[list[Ask]] = []
        self.refunds: list[Refund] = []
        self.available = True
        self.fault: StoreFault | None = None
        self.grant = 1_000_000
        self._gate = asyncio.Event()

    def is_available(self) -> bool:
        return self.available

    def release(self) -> None:
        self._gate.set()

    async def acquire(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        self.calls.append(list(asks))
        await self._gate.wait()
        if self.fault is not None:
            raise StoreError(self.fault, "scripted")
        return [Answer(g, 10 + g * ask.hits, 5, 6, 7) for ask in asks for g in [min(ask.count, self.grant)]]

    async def refund(self, refunds: Sequence[Refund]) -> None:
        self.refunds.extend(refunds)


class Asker(Waiter):
    __slots__ = ("late", "outcome", "undelivered", "when")

    def __init__(self, key: bytes = b"a", hits: int = 1, *, undelivered: bool = False) -> None:
        super().__init__(WindowQuery(key, 1000, 5, hits))
        self.outcome: WindowReply | StoreFault | None = None
        self.late: WindowReply | None = None
        self.undelivered = undelivered
        self.when = 0.0

    def settle(self, outcome: WindowReply | StoreFault) -> bool:
        assert self.outcome is None, "settled twice"
        self.outcome = outcome
        self.when = time.monotonic()
        return self.undelivered

    def settle_late(self, reply: WindowReply) -> bool:
        self.late = reply
        return True


@pytest.fixture
def store() -> HeldStore:
    return HeldStore()


@pytest.fixture
async def batcher(store: HeldStore) -> AsyncIterator[Batcher]:
    batcher = Batcher(store, 0.02, max_queued=50)  # type: ignore[arg-type]
    await batcher.start()
    await asyncio.sleep(0)
    yield batcher
    await batcher.close()


def submit(batcher: Batcher, *askers: Asker) -> None:
    for asker in askers:
        assert batcher.submit(asker) is None


async def turns(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_one_turn_makes_one_call_with_equal_queries_summed(batcher: Batcher, store: HeldStore) -> None:
    askers = [Asker(), Asker(b"b"), Asker(), Asker(hits=2), Asker()]
    submit(batcher, *askers)
    store.release()
    await turns()

    assert [[Ask(b"a", 1000, 5, 1, 3), Ask(b"b", 1000, 5, 1, 1), Ask(b"a", 1000, 5, 2, 1)]] == store.calls
    assert all(isinstance(asker.outcome, WindowReply) for asker in askers)


async def test_first_come_is_first_served_and_sees_its_own_usage(batcher: Batcher, store: HeldStore) -> None:
    store.grant = 2
    askers = [Asker() for _ in range(3)]
    submit(batcher, *askers)
    store.release()
    await turns()

    assert [(True, 11), (True, 12), (False, 12)] == [(a.outcome.granted, a.outcome.used) for a in askers]


async def test_requests_of_later_turns_wait_for_a_worker_and_travel_together(
    batcher: Batcher, store: HeldStore
) -> None:
    for i in range(WORKERS + 3):
        submit(batcher, Asker(b"%d" % i))
        await turns()
    assert WORKERS == len(store.calls)

    store.release()
    await turns(8)

    assert [1] * WORKERS + [3] == [len(call) for call in store.calls]


async def test_a_slow_store_settles_by_the_deadline_sent_or_queued(batcher: Batcher) -> None:
    askers = [Asker(b"%d" % i) for i in range(WORKERS + 2)]
    started = time.monotonic()
    for asker in askers:
        submit(batcher, asker)
        await turns()
    async with asyncio.timeout(5):
        while any(asker.outcome is None for asker in askers):
            await asyncio.sleep(0.001)

    assert {StoreFault.TIMEOUT} == {asker.outcome for asker in askers}
    assert all(asker.when - started >= 0.019 for asker in askers)


async def test_a_busy_process_is_not_taken_for_a_slow_store(batcher: Batcher, store: HeldStore) -> None:
    asker = Asker()
    submit(batcher, asker)
    await turns(2)
    store.release()  # the answer is there ...
    time.sleep(0.05)  # ... but this process is busy past the deadline before it can read it
    await turns(8)

    assert isinstance(asker.outcome, WindowReply)


async def test_a_late_grant_of_a_request_that_went_another_way_is_given_back(
    batcher: Batcher, store: HeldStore
) -> None:
    asker = Asker()
    submit(batcher, asker)
    async with asyncio.timeout(5):
        while asker.outcome is None:
            await asyncio.sleep(0.001)
    store.release()
    await turns(8)

    assert StoreFault.TIMEOUT is asker.outcome
    assert asker.late is not None
    assert [Refund(b"a", 1000, 7, 1)] == store.refunds


async def test_a_grant_that_could_not_be_delivered_is_given_back(batcher: Batcher, store: HeldStore) -> None:
    submit(batcher, Asker(hits=3, undelivered=True))
    store.release()
    await turns(8)

    assert [Refund(b"a", 1000, 7, 3)] == store.refunds


async def test_a_request_cancelled_while_queued_is_not_sent(batcher: Batcher, store: HeldStore) -> None:
    asker = Asker()
    submit(batcher, asker)
    asker.is_settled = True
    await turns()

    assert [] == store.calls
    assert asker.outcome is None


@pytest.mark.parametrize("fault", list(StoreFault))
async def test_a_fault_settles_everybody_in_the_batch(
    batcher: Batcher, store: HeldStore, fault: StoreFault
) -> None:
    store.fault = fault
    askers = [Asker(), Asker(b"b")]
    submit(batcher, *askers)
    store.release()
    await turns()

    assert [fault, fault] == [asker.outcome for asker in askers]


async def test_a_store_known_to_be_away_is_not_waited_for(batcher: Batcher, store: HeldStore) -> None:
    store.available = False

    assert StoreFault.UNREACHABLE is batcher.submit(Asker())


async def test_the_queue_is_bounded(batcher: Batcher) -> None:
    faults = [batcher.submit(Asker(b"%d" % i)) for i in range(60)]

    assert [None] * 50 + [StoreFault.OVERLOADED] * 10 == faults


async def test_a_call_is_bounded_and_the_rest_follows(store: HeldStore) -> None:
    batcher = Batcher(store, 5.0)  # type: ignore[arg-type]
    await batcher.start()
    await asyncio.sleep(0)
    askers = [Asker(b"%d" % i) for i in range(MAX_BATCH + 5)]
    submit(batcher, *askers)
    store.release()
    await turns(8)

    assert [MAX_BATCH, 5] == [len(call) for call in store.calls]
    assert all(isinstance(asker.outcome, WindowReply) for asker in askers)
    await batcher.close()


async def test_closing_settles_what_waits(store: HeldStore) -> None:
    batcher = Batcher(store, 5.0)  # type: ignore[arg-type]
    await batcher.start()
    await asyncio.sleep(0)
    askers = [Asker(b"%d" % i) for i in range(WORKERS + 1)]
    for asker in askers:
        submit(batcher, asker)
        await turns()

    await batcher.close()

    assert all(isinstance(asker.outcome, StoreFault) for asker in askers)
