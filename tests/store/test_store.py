"""One suite for every store: the same rows on memory and on a real Redis, Lua included."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from support.stores import START_US, TimedMemory, TimedRedis, TimedStore, until

from sentinel_ext.core.window import SUBWINDOWS
from sentinel_ext.store.base import Answer, Ask, Refund
from sentinel_ext.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.redis_server import RedisServer

SUB_US = 6_000_000
WINDOW_US = SUB_US * SUBWINDOWS
KEY = b"sentinel:w:{acme}:60000"
T0 = START_US - START_US % SUB_US  # the beginning of a sub-window


@pytest.fixture(params=["memory", "redis"])
async def timed(request: pytest.FixtureRequest) -> AsyncIterator[TimedStore]:
    if request.param == "memory":
        yield TimedMemory()
        return
    server: RedisServer = request.getfixturevalue("shared_redis")
    timed = TimedRedis(server)
    await timed.store.start()
    await until(timed.store.is_available)
    await until(lambda: timed.store._side.is_up)
    yield timed
    await timed.store.close()
    timed.close()


async def ask(
    timed: TimedStore, at_us: int, limit: int, hits: int = 1, count: int = 1, key: bytes = KEY
) -> Answer:
    timed.set_time(at_us)
    (answer,) = await timed.store.acquire([Ask(key, SUB_US, limit, hits, count)])
    return answer


# Each row: (seconds after T0, limit, hits, count, granted, used, reset s, retry s or None when all passed)
ROWS = {
    "fills up to the limit": [
        (0, 3, 1, 2, 2, 2, 66, None),
        (1, 3, 1, 2, 1, 3, 65, 65),
        (2, 3, 1, 1, 0, 3, 64, 64),
    ],
    "the oldest sub-window counts whole until it has left": [
        (5, 2, 1, 2, 2, 2, 61, None),
        (65.999999, 2, 1, 1, 0, 2, 0.000001, 0.000001),
        (66, 2, 1, 1, 1, 1, 66, None),
    ],
    "what leaves makes room, no more": [
        (0, 3, 1, 2, 2, 2, 66, None),
        (30, 3, 1, 1, 1, 3, 36, None),
        (66, 3, 1, 5, 2, 3, 30, 30),
    ],
    "a costly request waits until enough has left": [
        (0, 4, 1, 1, 1, 1, 66, None),
        (6, 4, 1, 3, 3, 4, 60, None),
        (12, 4, 2, 1, 0, 4, 54, 60),
    ],
    "a request that costs more than the limit never fits": [(0, 4, 5, 1, 0, 0, 0, 66)],
    "hits 0 asks without counting": [
        (0, 2, 0, 1, 1, 0, 0, None),
        (0, 2, 1, 1, 1, 1, 66, None),
        (0, 2, 0, 1, 1, 1, 66, None),
    ],
    "count 0 looks, and says when one would fit": [
        (0, 3, 1, 2, 2, 2, 66, None),
        (1, 3, 1, 0, 0, 2, 65, None),
        (1, 3, 2, 0, 0, 2, 65, 65),
        (1, 3, 4, 0, 0, 2, 65, 66),
        (1, 3, 1, 1, 1, 3, 65, None),
    ],
    "limit 0 refuses": [(0, 0, 1, 1, 0, 0, 0, 66)],
    "a lowered limit refuses until usage is below it": [
        (0, 10, 1, 8, 8, 8, 66, None),
        (1, 5, 1, 1, 0, 8, 65, 65),
    ],
    "a window gone by is empty": [(0, 2, 1, 2, 2, 2, 66, None), (1000, 2, 1, 2, 2, 2, 62, None)],
    "a clock set back a little goes on counting": [
        (30, 2, 1, 1, 1, 1, 66, None),
        (12, 2, 1, 2, 1, 2, 84, 84),
        (30, 2, 1, 1, 0, 2, 66, 66),
    ],
    "a clock set back by more than a window starts afresh": [
        (1000, 2, 1, 2, 2, 2, 62, None),
        (6, 2, 1, 2, 2, 2, 66, None),
    ],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
async def test_rows(timed: TimedStore, rows: list[tuple]) -> None:
    for seconds, limit, hits, count, granted, used, reset_s, retry_s in rows:
        answer = await ask(timed, T0 + round(seconds * 1e6), limit, hits, count)

        assert (granted, used, round(reset_s * 1e6)) == (answer.granted, answer.used, answer.reset_us)
        assert (0 if retry_s is None else round(retry_s * 1e6)) == (0 if retry_s is None else answer.retry_us)


async def test_a_batch_serves_equal_keys_in_order_and_others_apart(timed: TimedStore) -> None:
    other = b"sentinel:w:{globex}:60000"
    timed.set_time(T0)

    answers = await timed.store.acquire(
        [
            Ask(KEY, SUB_US, 5, 1, 3),
            Ask(other, SUB_US, 1, 1, 2),
            Ask(KEY, SUB_US, 5, 2, 2),
            Ask(KEY, SUB_US, 5, 1, 1),
        ]
    )

    assert [(a.granted, a.used) for a in answers] == [(3, 3), (1, 1), (1, 5), (0, 5)]


async def test_a_refund_makes_room_again(timed: TimedStore) -> None:
    first = await ask(timed, T0, 2, 1, 2)

    await timed.store.refund([Refund(KEY, SUB_US, first.slot, 1)])

    assert [(await ask(timed, T0 + 1, 2)).granted for _ in range(2)] == [1, 0]


async def test_a_refund_goes_to_the_sub_window_that_took_the_hits(timed: TimedStore) -> None:
    early = await ask(timed, T0, 2, 1, 1)
    await ask(timed, T0 + 5 * SUB_US, 2, 1, 1)

    await timed.store.refund([Refund(KEY, SUB_US, early.slot, 1)])

    # The early hit is gone; the later one still counts until its own sub-window has left.
    assert (await ask(timed, T0 + 5 * SUB_US, 2, 0)).used == 1
    assert (await ask(timed, T0 + 11 * SUB_US, 2, 0)).used == 1
    assert (await ask(timed, T0 + 16 * SUB_US, 2, 0)).used == 0


@pytest.mark.parametrize("slot_offset", [-1, 1, 11, 1000])
async def test_a_refund_to_a_sub_window_that_holds_nothing_changes_nothing(
    timed: TimedStore, slot_offset: int
) -> None:
    taken = await ask(timed, T0, 2, 1, 2)

    await timed.store.refund([Refund(KEY, SUB_US, taken.slot + slot_offset, 1)])
    await timed.store.refund([Refund(b"sentinel:w:{nobody}:60000", SUB_US, taken.slot, 1)])

    assert (await ask(timed, T0, 2, 0)).used == 2


async def test_a_refund_never_goes_below_nothing(timed: TimedStore) -> None:
    taken = await ask(timed, T0, 2, 1, 1)

    await timed.store.refund([Refund(KEY, SUB_US, taken.slot, 5)])

    assert (await ask(timed, T0, 2, 1, 3)).granted == 2


async def test_presence_counts_this_instance(timed: TimedStore) -> None:
    assert await timed.store.presence("a", 3000) == 1
    assert await timed.store.presence("a", 3000, leaving=True) == 0


@pytest.mark.parametrize("seed", range(6))
async def test_memory_and_redis_agree_on_any_schedule(shared_redis: RedisServer, seed: int) -> None:
    """Differential: the Python ring and the Lua ring, step by step, time going both ways."""
    rng = random.Random(seed)
    memory, real = TimedMemory(), TimedRedis(shared_redis)
    await real.store.start()
    await until(lambda: real.store.is_available() and real.store._side.is_up)
    try:
        await compare(memory, real, rng)
    finally:
        await real.store.close()
        real.close()


async def compare(memory: TimedMemory, real: TimedRedis, rng: random.Random) -> None:
    now, slots = T0, [0]
    for _ in range(150):
        now += rng.choice(
            [0, 1, SUB_US // 3, SUB_US, 3 * SUB_US, 11 * SUB_US, 30 * SUB_US, -SUB_US, -15 * SUB_US]
        )
        asks = [
            Ask(
                rng.choice([KEY, b"b", b"c"]),
                SUB_US,
                rng.choice([0, 1, 7, 100]),
                rng.choice([0, 1, 2, 9]),
                rng.randint(1, 9),
            )
            for _ in range(rng.randint(1, 6))
        ]
        memory.set_time(now)
        real.set_time(now)
        expected = await memory.store.acquire(asks)
        got = await real.store.acquire(asks)
        assert list(expected) == list(got)
        slots.append(expected[0].slot)
        if rng.random() < 0.3:
            refund = [Refund(asks[0].key, SUB_US, rng.choice(slots[-3:]), rng.randint(1, 3))]
            await memory.store.refund(refund)
            await real.store.refund(refund)


async def test_the_memory_store_keeps_its_bound() -> None:
    store = MemoryStore(lambda: T0, max_keys=100)
    for i in range(1_000):
        await store.acquire([Ask(b"%d" % i, SUB_US, 1, 1, 1)])

    assert len(store) == 100
    (kept,) = await store.acquire([Ask(b"999", SUB_US, 1, 1, 1)])
    assert kept.granted == 0
