"""Counters of rate limits: the script in a real Redis, and memory, held to the same rows and each other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.stores import START_US, make_redis_store, until

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.ratelimit.asks import (
    BINDING,
    COUNT_DENIED,
    FIXED,
    GCRA,
    LOOK,
    MAX_HITS,
    QUOTA,
    SLIDING,
    CounterAnswer,
    CounterAsk,
    GiveBack,
    RequestAsk,
)
from sentinel_ext.core.ratelimit.counters import MAX_COUNT
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.limits import MAX_COUNTERS, LimitStore, MemoryLimits, RedisLimits, decode, encode

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Sequence

    from support.redis_server import RedisServer

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
ALIGNED_US = -(-START_US // MINUTE_US) * MINUTE_US
_NOW_KEY = "test:now"


def ask(key: str = "k", hits: int = 1, limit: int = 10, **more: Any) -> CounterAsk:
    given_ = {"kind": FIXED, "window_us": MINUTE_US, "burst": 0, "flags": BINDING | COUNT_DENIED, **more}
    return CounterAsk(key.encode(), limit=limit, hits=hits, **given_)


class Timed(Protocol):
    limits: LimitStore

    def set_time(self, now_us: int) -> None: ...


class TimedMemory:
    def __init__(self) -> None:
        self._now_us = ALIGNED_US
        self.limits = MemoryLimits(lambda: self._now_us)

    def set_time(self, now_us: int) -> None:
        self._now_us = now_us


class TimedRedis:
    """The package's own scripts, but for their one line that asks the server for the time."""

    def __init__(self, server: RedisServer) -> None:
        self.client = server.client()
        self.client.flushall()
        self.store = make_redis_store(server.url)
        self.limits = RedisLimits(self.store.hot, self.store.run, self.store.is_available)
        at = f"(function() local t = redis.call('GET', '{_NOW_KEY}') "
        at += "return {math.floor(t / 1000000), t % 1000000} end)()"
        for script in (self.limits._limits, self.limits._giveback):
            assert script.text.count(b"redis.call('TIME')") == 1
            script.text = script.text.replace(b"redis.call('TIME')", at.encode())
            script.digest = b"0" * 40
        self._text = self.limits._limits.text
        self.set_time(ALIGNED_US)

    def set_time(self, now_us: int) -> None:
        self.client.set(_NOW_KEY, now_us)

    def keep_all(self) -> None:
        """Let no key expire by the true time, which does not pass as the test's."""
        self.limits._limits.text = re.sub(rb"'PX', [^\n]*\)\n", b"'PX', 100000000)\n", self._text)


@pytest.fixture
async def timed_redis(shared_redis: RedisServer) -> AsyncIterator[TimedRedis]:
    timed = TimedRedis(shared_redis)
    await timed.store.start()
    await until(timed.store.is_available)
    yield timed
    await timed.store.close()
    timed.client.close()


@pytest.fixture(params=["memory", "redis"])
async def timed(request: pytest.FixtureRequest, timed_redis: TimedRedis) -> Timed:
    return timed_redis if request.param == "redis" else TimedMemory()


async def one(timed: Timed, *asks: CounterAsk) -> tuple[CounterAnswer, ...]:
    (answer,) = await timed.limits.decide([asks])
    assert isinstance(answer, tuple)
    return answer


async def test_a_fixed_window_counts_what_it_refuses_and_ends_with_its_unit(timed: Timed) -> None:
    timed.set_time(ALIGNED_US + 2 * SECOND_US)
    answers = await timed.limits.decide([(ask(hits=hits),) for hits in (4, 4, 4, 1, 0)])

    assert [(False, 4), (False, 8), (True, 12), (True, 13), (True, 13)] == [
        (a.over, a.used) for (a,) in answers
    ]
    assert 58 * SECOND_US == answers[0][0].reset_us == answers[2][0].retry_us
    timed.set_time(ALIGNED_US + MINUTE_US)
    assert 1 == (await one(timed, ask()))[0].used


async def test_a_refusal_counts_nothing_where_the_denied_do_not_count(timed: Timed) -> None:
    full, free = ask("full", limit=1, flags=BINDING), ask("free", flags=BINDING)
    denied = ask("denied")
    await one(timed, full)

    answers = await one(timed, full, free, denied)

    assert [(True, False), (False, False), (False, True)] == [(a.over, a.counted) for a in answers]
    assert [1, 0, 1] == [a.used for a in answers]


@pytest.mark.parametrize("kind", [FIXED, SLIDING, GCRA])
async def test_a_look_answers_as_if_and_counts_nothing(timed: Timed, kind: int) -> None:
    (first,) = await one(timed, ask(kind=kind, hits=7))
    looks = [(await one(timed, ask(kind=kind, hits=hits, flags=BINDING | LOOK)))[0] for hits in (3, 4, -2)]
    (last,) = await one(timed, ask(kind=kind, hits=3))

    assert [False, False, True, False, False] == [each.over for each in (first, *looks, last)]
    # As if: the three hits are in, the four are refused, two go back; and of all that nothing is left.
    assert [7, 10, 7, 5, 10] == [each.used for each in (first, *looks, last)]
    assert [True, False, True] == [each.counted for each in looks]
    assert 0 < looks[1].retry_us
    assert 0 == looks[0].retry_us


async def test_a_look_leases_as_if_too(timed: Timed) -> None:
    def leasing(flags: int) -> CounterAsk:
        return ask(limit=801, lease=1_000, flags=flags)

    looked = [(await one(timed, leasing(BINDING | LOOK)))[0] for _ in range(2)]

    assert [(100, 101), (100, 101)] == [(each.leased, each.used) for each in looked]
    assert 0 == (await one(timed, ask(limit=801, hits=0)))[0].used


async def test_quotas_refuse_only_together(timed: Timed) -> None:
    first, second = (ask(name, limit=limit, flags=QUOTA) for name, limit in (("a", 1), ("b", 2)))
    free = ask("free", flags=BINDING)

    counted = [(await one(timed, first, second, free))[2].counted for _ in range(3)]

    assert [True, True, False] == counted


async def test_a_sliding_window_holds_its_limit_and_gives_back_from_the_oldest(timed: Timed) -> None:
    def sliding(hits: int) -> CounterAsk:
        return ask(hits=hits, kind=SLIDING, window_us=10 * SECOND_US, flags=BINDING)

    await one(timed, sliding(4))
    timed.set_time(ALIGNED_US + 5 * SECOND_US)
    answers = await timed.limits.decide([(sliding(6),), (sliding(1),)])
    assert [(False, 10), (True, 10)] == [(a.over, a.used) for (a,) in answers]
    assert 6 * SECOND_US == answers[1][0].retry_us
    (back,) = await one(timed, sliding(-3))
    assert (False, 7, True) == (back.over, back.used, back.counted)
    timed.set_time(ALIGNED_US + 11 * SECOND_US)
    assert 6 == (await one(timed, sliding(0)))[0].used  # one of the first four was left, and has gone


async def test_gcra_refills_at_its_rate_and_looks_cost_nothing(timed: Timed) -> None:
    def gcra(hits: int) -> CounterAsk:
        return ask(hits=hits, kind=GCRA, limit=60, burst=3, flags=BINDING)

    answers = await timed.limits.decide([(gcra(1),), (gcra(2),), (gcra(1),), (gcra(0),), (gcra(4),)])

    assert [False, False, True, False, True] == [a.over for (a,) in answers]
    assert [1, 3, 3, 3, 3] == [a.used for (a,) in answers]
    assert [SECOND_US, MINUTE_US] == [answers[at][0].retry_us for at in (2, 4)]
    timed.set_time(ALIGNED_US + SECOND_US)
    assert not (await one(timed, gcra(1)))[0].over
    assert (await one(timed, ask(kind=GCRA, limit=0, flags=BINDING)))[0].over


async def test_gcra_counts_every_hit_of_a_fast_limit(timed: Timed) -> None:
    """At 900,000 hits a second a hit is 1.1 microseconds, which a date in a double cannot tell from 1.0."""
    fast = ask(kind=GCRA, window_us=SECOND_US, limit=900_000, burst=10_000, flags=BINDING)

    answers = await timed.limits.decide([(fast,)] * 12_000)

    assert 10_000 == sum(answer.counted for (answer,) in answers)


async def test_a_gcra_counter_of_the_future_locks_nobody_out(timed: Timed) -> None:
    slow = ask(kind=GCRA, window_us=MINUTE_US, limit=60, burst=3, flags=BINDING)
    for _ in range(3):
        await one(timed, slow)
    timed.set_time(ALIGNED_US - MINUTE_US)
    assert (await one(timed, slow))[0].over
    timed.set_time(ALIGNED_US - MINUTE_US - 1)
    assert not (await one(timed, slow))[0].over


async def test_leases_are_counted_bounded_and_end_with_their_window(timed: Timed) -> None:
    timed.set_time(ALIGNED_US + 59 * SECOND_US)
    (leased,) = await one(timed, ask(limit=801, lease=1_000))
    assert (100, 101, SECOND_US) == (leased.leased, leased.used, leased.fresh_us)
    (sliding,) = await one(timed, ask("s", kind=SLIDING, limit=801, lease=50))
    assert (50, 51, SECOND_US) == (sliding.leased, sliding.used, sliding.fresh_us)
    (gcra,) = await one(timed, ask("g", kind=GCRA, limit=801, lease=50))
    assert 0 == gcra.leased
    (over,) = await one(timed, ask("o", limit=0, lease=50))
    assert (True, 0) == (over.over, over.leased)

    await timed.limits.give_back([GiveBack(b"k", FIXED, MINUTE_US, 801, leased.slot, 100)])
    assert 1 == (await one(timed, ask(hits=0)))[0].used
    await timed.limits.give_back([GiveBack(b"k", FIXED, MINUTE_US, 801, leased.slot - 1, 100)])
    await timed.limits.give_back([GiveBack(b"s", SLIDING, MINUTE_US, 801, sliding.slot, 50)])
    assert [1, 1] == [
        (await one(timed, ask(hits=0)))[0].used,
        (await one(timed, ask("s", 0, kind=SLIDING)))[0].used,
    ]


async def test_a_clock_set_back_stays_strict_and_leases_nothing(timed: Timed) -> None:
    await one(timed, ask(hits=5))
    timed.set_time(ALIGNED_US - SECOND_US)
    (answer,) = await one(timed, ask(lease=100, limit=1_000))
    assert (6, 0) == (answer.used, answer.leased)
    timed.set_time(ALIGNED_US - 5 * MINUTE_US)
    assert 1 == (await one(timed, ask()))[0].used


async def test_the_same_counter_twice_in_a_request_never_passes_its_limit(timed: Timed) -> None:
    twice = (ask(limit=1, flags=BINDING), ask(limit=1, flags=BINDING))

    assert [(False, True), (True, False)] == [(a.over, a.counted) for a in await one(timed, *twice)]


async def test_huge_hits_and_sums_saturate(timed: Timed) -> None:
    huge = ask(hits=MAX_HITS, limit=2**32 - 1)

    for _ in range(3):
        (answer,) = await one(timed, huge)
    assert (True, 3 * MAX_HITS) == (answer.over, answer.used)
    assert 2**53 == MAX_COUNT


async def test_reset_forgets_and_says_how_many_there_were(timed: Timed) -> None:
    await timed.limits.decide([(ask("a"),), (ask("b"),)])

    assert 2 == await timed.limits.reset([b"a", b"b", b"c"])
    assert 1 == (await one(timed, ask("a")))[0].used


async def test_values_of_another_kind_count_as_empty_and_keys_expire(timed_redis: TimedRedis) -> None:
    timed_redis.client.set("k", "not a counter")
    timed_redis.client.rpush("l", "not even a string")
    await timed_redis.limits.give_back([GiveBack(b"l", FIXED, MINUTE_US, 10, 1, 1)])
    assert [1, 1] == [(await one(timed_redis, ask(key)))[0].used for key in ("k", "l")]
    await one(timed_redis, ask("s", kind=SLIDING))
    await one(timed_redis, ask("g", kind=GCRA, limit=60))

    lives = [timed_redis.client.pttl(key) for key in ("k", "s", "g")]
    assert 59_000 < lives[0] <= 61_001
    assert 65_000 < lives[1] <= 66_001
    assert 0 < lives[2] <= 1_001


def test_a_reply_of_another_length_is_refused() -> None:
    with pytest.raises(StoreError) as caught:
        decode(b"x", [(ask(),)])
    assert StoreFault.ERROR == caught.value.fault


def test_equal_keys_travel_once() -> None:
    keys, packed = encode([(ask("a"), ask("b")), (ask("a"),)])

    assert [b"a", b"b"] == keys
    assert 2 * 2 + 3 * 44 == len(packed)


async def test_a_request_may_have_as_many_counters_as_rules_and_descriptors_allow(timed: Timed) -> None:
    most = [ask(f"{number}") for number in range(64 * 8)]

    assert {1} == {answer.used for answer in await one(timed, *most)}


async def test_memory_is_bounded() -> None:
    limits = MemoryLimits(lambda: START_US)
    for start in range(0, MAX_COUNTERS + 100, 1_000):
        await limits.decide([(ask(f"{number}"),) for number in range(start, start + 1_000)])

    assert MAX_COUNTERS == len(limits)


KINDS = st.sampled_from([FIXED, SLIDING, GCRA])
ASKS = st.builds(
    lambda name, kind, hits, flags, lease, divisor: ask(
        f"{name}{kind}", hits, {"a": 7, "b": 40, "c": 0}[name], kind=kind, window_us=10 * SECOND_US,
        burst=5 if kind == GCRA else 0, flags=flags, lease=lease, divisor=divisor,
    ),
    st.sampled_from("abc"), KINDS, st.integers(-4, 9),
    st.sampled_from([0, BINDING, QUOTA, BINDING | COUNT_DENIED, QUOTA | COUNT_DENIED, COUNT_DENIED]),
    st.sampled_from([0, 0, 3, 100]), st.integers(1, 9),
)  # fmt: skip
STEPS = st.lists(
    st.tuples(
        st.integers(-12 * SECOND_US, 15 * SECOND_US),
        st.lists(st.lists(ASKS, min_size=1, max_size=4), max_size=4),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.randoms(use_true_random=False))
async def test_the_script_and_the_python_say_the_same(
    timed_redis: TimedRedis, steps: list[tuple[int, list[list[CounterAsk]]]], chance: random.Random
) -> None:
    memory = TimedMemory()
    timed_redis.client.flushall()
    timed_redis.keep_all()
    now_us = ALIGNED_US
    for passes_us, requests in steps:
        now_us += passes_us
        memory.set_time(now_us)
        timed_redis.set_time(now_us)
        batch: Sequence[RequestAsk] = [tuple(request) for request in requests]
        ours, theirs = await memory.limits.decide(batch), await timed_redis.limits.decide(batch)
        assert _plain(ours) == _plain(theirs)
        # GCRA's times are fractions of microseconds, which the two may round differently by one.
        assert pytest.approx(_times(ours), abs=2) == _times(theirs)
        backs = [
            GiveBack(each.key, each.kind, each.window_us, each.limit, answer.slot, 1)
            for request, answers in zip(batch, ours, strict=True)
            for each, answer in zip(request, answers, strict=True)
            if answer.counted and chance.random() < 0.3
        ]
        if backs:
            await memory.limits.give_back(backs)
            await timed_redis.limits.give_back(backs)


def _plain(answers: Any) -> list[list[tuple[Any, ...]]]:
    return [[(a.over, a.used, a.leased, a.fresh_us, a.slot, a.counted) for a in answer] for answer in answers]


def _times(answers: Any) -> list[int]:
    return [each for answer in answers for a in answer for each in (a.reset_us, a.retry_us)]
