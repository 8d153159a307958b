"""One suite for the shared breaker: the same rows on memory and on the script in a real Redis."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support.circuits import COOLDOWN_MS, FAIL, OPTIONS, START_MS, TTL_MS, UP, Timed, TimedRedis
from support.readme import redis_rights
from support.stores import make_redis_store, until

from sentinel_ext.core.breaker import (
    LOCAL_EPOCHS,
    CircuitState,
    Force,
    TripReason,
    View,
    open_ms,
)
from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.tally import Batch
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.circuits import (
    MAX_OPERATIONS,
    Acquire,
    MemoryCircuits,
    Obey,
    Operation,
    RedisCircuits,
    Release,
    Report,
    Result,
    circuit_key,
)

if TYPE_CHECKING:
    from support.redis_server import RedisServer

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def part(reply: tuple[bool, View], *names: str) -> tuple[Any, ...]:
    """Return whether it was done, and these attributes of the view."""
    return reply[0], *(getattr(reply[1], name) for name in names)


@pytest.fixture
def timed_redis(shared_redis: RedisServer):
    timed = TimedRedis(shared_redis)
    yield timed
    timed.client.close()


@pytest.fixture(params=["memory", "redis"])
def timed(request: pytest.FixtureRequest) -> Timed:
    return Timed() if request.param == "memory" else request.getfixturevalue("timed_redis")


# What ended, in one batch per row, and what the breaker says of it.
TRIPS = {
    "nothing": ([Batch()], None),
    "failures in a row": ([Batch(failed=4, lead=4, trail=4, longest=4)], TripReason.CONSECUTIVE_FAILURES),
    "one failure short": ([Batch(failed=3, lead=3, trail=3, longest=3)], None),
    "in a row over two batches": (
        [Batch(ok=1, failed=2, trail=2, longest=2), Batch(ok=5, failed=2, lead=2, longest=2)],
        TripReason.CONSECUTIVE_FAILURES,
    ),
    "interrupted between two batches": (
        [Batch(ok=1, failed=3, trail=3, longest=3), Batch(ok=1, failed=3, trail=3, longest=3)],
        None,
    ),
    "in a row inside one batch": (
        [Batch(ok=20, failed=4, longest=4)],
        TripReason.CONSECUTIVE_FAILURES,
    ),
    "half of enough requests": ([Batch(ok=5, failed=5, longest=1)], TripReason.FAILURE_RATE),
    "half of too few": ([Batch(ok=4, failed=4, longest=1)], None),
    "just below half": ([Batch(ok=6, failed=5, longest=1)], None),
    "half over two batches": ([Batch(ok=4, failed=3), Batch(ok=1, failed=2)], TripReason.FAILURE_RATE),
    "slow": ([Batch(ok=10, slow=6)], TripReason.SLOW_CALLS),
    "not slow enough": ([Batch(ok=10, slow=5)], None),
    "slow but too few": ([Batch(ok=9, slow=9)], None),
}  # fmt: skip


@pytest.mark.parametrize(("batches", "reason"), TRIPS.values(), ids=TRIPS)
async def test_trips_as_the_table_says(timed: Timed, batches: list[Batch], reason: TripReason | None) -> None:
    for batch in batches:
        _, view = await timed.report(0, batch)

    assert (CLOSED if reason is None else OPEN, reason) == (view.state, view.reason)
    assert (0 if reason is None else 1) == view.epoch


async def test_no_share_of_slow_requests_trips_unless_asked_for(timed: Timed) -> None:
    options = msgspec.structs.replace(OPTIONS, slow_rate=None)

    _, view = await timed.report(0, Batch(ok=50, slow=50), options)

    assert (CLOSED, 50) == (view.state, view.slow)


async def test_what_has_left_the_window_does_not_count(timed: Timed) -> None:
    await timed.report(0, Batch(ok=1, failed=8, longest=1))
    timed.now_ms += 900
    before = await timed.view()
    assert (1, 8) == (before.ok, before.failed)

    timed.now_ms += 100
    _, view = await timed.report(0, Batch(ok=1, failed=1, longest=1))

    assert (CLOSED, 1, 1) == (view.state, view.ok, view.failed)


async def test_open_refuses_for_at_least_the_cooldown_and_at_most_a_tenth_more(timed: Timed) -> None:
    _, opened = await timed.report(0, FAIL)
    assert COOLDOWN_MS <= opened.retry_ms <= COOLDOWN_MS * 1.1

    timed.now_ms += opened.retry_ms - 1
    granted, view = await timed.acquire("p1")
    assert (False, OPEN, 1) == (granted, view.state, view.retry_ms)

    timed.now_ms += 1
    granted, view = await timed.acquire("p1")
    assert (True, HALF_OPEN, 2, 1) == (granted, view.state, view.epoch, view.permits)


async def test_half_open_grants_its_permits_and_no_more(timed: Timed) -> None:
    await timed.half_open()

    for _ in range(2):  # asking again changes no answer
        assert [True, True, True, False, False] == [(await timed.acquire(f"p{i}"))[0] for i in range(5)]
    assert (True, 3) == part(await timed.acquire("p0"), "permits")


async def test_enough_successes_close_and_reset_the_back_off(timed: Timed) -> None:
    half_open = await timed.half_open()
    for permit in ("p1", "p2"):
        await timed.acquire(permit)
    await timed.result(half_open.epoch, "p1", ok=False)
    timed.now_ms += 10_000
    trying = await timed.view()
    assert (HALF_OPEN, 1) == (trying.state, trying.level)
    for permit in ("p1", "p2"):
        await timed.acquire(permit)

    first = await timed.result(trying.epoch, "p1", ok=True)
    second = await timed.result(trying.epoch, "p2", ok=True)

    assert (True, HALF_OPEN) == (first[0], first[1].state)
    assert (True, CLOSED, 0, 0) == (second[0], second[1].state, second[1].level, second[1].permits)
    assert (True, CLOSED) == part(await timed.acquire("p3"), "state")


async def test_every_failed_try_doubles_the_wait_up_to_sixteen_times(timed: Timed) -> None:
    view, waits = await timed.half_open(), []
    for _ in range(6):
        await timed.acquire("p")
        _, view = await timed.result(view.epoch, "p", ok=False)
        waits.append(view.retry_ms)
        assert (OPEN, TripReason.PROBE_FAILED) == (view.state, view.reason)
        timed.now_ms += view.retry_ms
        view = await timed.view()

    assert all(
        2 ** min(4, i + 1) <= wait / COOLDOWN_MS <= 1.1 * 2 ** min(4, i + 1) for i, wait in enumerate(waits)
    )
    # Epochs 3, 5, ...: each try is one half-open epoch and one open.
    assert [open_ms(COOLDOWN_MS, min(4, i + 1), 3 + 2 * i) for i in range(6)] == waits


async def test_a_lost_probe_is_a_failure(timed: Timed) -> None:
    await timed.half_open()
    await timed.acquire("p1")
    timed.now_ms += TTL_MS - 1
    assert HALF_OPEN == (await timed.view()).state

    timed.now_ms += 1
    view = await timed.view()

    assert (OPEN, TripReason.PROBE_LOST, 1) == (view.state, view.reason, view.level)


async def test_a_result_counts_once_for_its_epoch_and_its_permit(timed: Timed) -> None:
    half_open = await timed.half_open()
    await timed.acquire("p1")

    assert not (await timed.result(half_open.epoch - 1, "p1", ok=False))[0]
    assert not (await timed.result(half_open.epoch + 1, "p1", ok=False))[0]
    assert not (await timed.result(half_open.epoch, "stranger", ok=False))[0]
    assert (await timed.result(half_open.epoch, "p1", ok=True))[0]
    known, view = await timed.result(half_open.epoch, "p1", ok=False)

    assert (False, HALF_OPEN, half_open.epoch) == (known, view.state, view.epoch)


async def test_a_released_permit_is_another_ones_and_a_lost_slot_is_not(timed: Timed) -> None:
    await timed.half_open()
    for i in range(3):
        await timed.acquire(f"p{i}")

    assert (True, 2) == part(await timed.release("p0"), "permits")
    assert not (await timed.release("p0"))[0]
    assert [True, False] == [(await timed.acquire(f"q{i}"))[0] for i in range(2)]


async def test_reports_count_only_closed_and_only_their_epoch(timed: Timed) -> None:
    _, opened = await timed.report(0, FAIL)

    assert (False, opened) == await timed.report(0, FAIL)
    assert (False, opened) == await timed.report(1, FAIL)
    timed.now_ms += opened.retry_ms
    counted, view = await timed.report(2, FAIL)

    assert (False, HALF_OPEN) == (counted, view.state)


async def test_a_batch_sent_twice_counts_once(timed: Timed) -> None:
    batch = Batch(ok=1, failed=2, trail=2, longest=2, serial=7)
    for _ in range(3):
        counted, view = await timed.report(0, batch)
        assert (True, 1, 2, 2) == (counted, view.ok, view.failed, view.consecutive)

    _, view = await timed.report(0, msgspec.structs.replace(batch, serial=6))
    assert 1 == view.ok, "overtaken by a newer one"
    _, view = await timed.report(0, msgspec.structs.replace(batch, serial=8))
    assert 2 == view.ok


async def test_an_operators_word_stands(timed: Timed) -> None:
    changed, view = await timed.force(Force.OPEN)
    assert (True, OPEN, Force.OPEN, TripReason.FORCED, 1) == (
        changed, view.state, view.forced, view.reason, view.epoch,
    )  # fmt: skip
    timed.now_ms += 10**10
    assert (False, OPEN, 1) == part(await timed.acquire("p"), "state", "epoch")
    assert not (await timed.force(Force.OPEN))[0]

    _, view = await timed.force(Force.CLOSED)
    assert (CLOSED, Force.CLOSED, 2) == (view.state, view.forced, view.epoch)
    _, view = await timed.report(2, FAIL)
    assert (CLOSED, 4) == (view.state, view.failed)

    _, view = await timed.force(Force.AUTO)
    assert View(epoch=3) == view
    assert OPEN == (await timed.report(3, FAIL))[1].state


async def test_reset_closes_an_open_breaker(timed: Timed) -> None:
    _, opened = await timed.report(0, FAIL)

    changed, view = await timed.force(Force.AUTO)

    assert (True, View(epoch=opened.epoch + 1)) == (changed, view)


async def test_an_epoch_that_instances_saw_is_never_used_again(timed: Timed) -> None:
    """The store forgot (restart, a replica that lagged): the first report of a later epoch moves it past."""
    counted, view = await timed.report(9, FAIL)
    assert (False, 10, CLOSED) == (counted, view.epoch, view.state)

    _, view = await timed.report(LOCAL_EPOCHS, FAIL)
    assert (10, CLOSED) == (view.epoch, view.state), "an instance's own epochs mean nothing here"


async def test_a_clock_set_back_neither_shortens_open_nor_prolongs_it_for_long(timed: Timed) -> None:
    _, opened = await timed.report(0, FAIL)
    timed.now_ms -= 86_400_000

    waited = 0
    while (await timed.view()).state is OPEN:
        timed.now_ms += 10
        waited += 10

    assert COOLDOWN_MS <= waited <= opened.retry_ms + 1_000


async def test_fewer_successes_needed_by_new_options_close_it(timed: Timed) -> None:
    half_open = await timed.half_open()
    await timed.acquire("p1")
    await timed.result(half_open.epoch, "p1", ok=True)
    fewer = msgspec.structs.replace(OPTIONS, half_open_max=1)

    granted, view = await timed.acquire("p2", fewer)

    assert (True, CLOSED) == (granted, view.state)


async def test_upstreams_do_not_mix_and_a_call_serves_many_in_order(timed: Timed) -> None:
    replies = await timed.store.call(
        [
            Report("a", OPTIONS, 0, FAIL),
            Report("b", OPTIONS, 0, Batch(ok=1)),
            Report("a", OPTIONS, 1, Batch()),
            Acquire("b", OPTIONS, "p"),
        ]
    )

    assert [(True, OPEN), (True, CLOSED), (False, OPEN), (True, CLOSED)] == [
        (done, view.state) for done, view in replies
    ]


async def test_a_call_has_a_bound(timed: Timed) -> None:
    report = Report(UP, OPTIONS, 0, Batch(ok=1))

    assert MAX_OPERATIONS == len(await timed.store.call([report] * MAX_OPERATIONS))
    with pytest.raises(ValueError, match="129 operations"):
        await timed.store.call([report] * (MAX_OPERATIONS + 1))
    assert [] == list(await timed.store.call([]))


async def test_counts_stop_at_their_bound(timed: Timed) -> None:
    huge = Batch(ok=2**40, failed=2**40, trail=2**40)
    options = msgspec.structs.replace(OPTIONS, consecutive_failures=2**50, failure_threshold=1)

    for _ in range(2):
        _, view = await timed.report(0, huge, options)

    assert (2**32 - 1,) * 3 == (view.ok, view.failed, view.consecutive)


async def test_memory_keeps_its_bound_and_an_operators_word() -> None:
    store = MemoryCircuits(lambda: START_MS, max_breakers=3)
    await store.call([Obey("forced", OPTIONS, Force.OPEN)])
    for i in range(20):
        await store.call([Report(f"u{i}", OPTIONS, 0, FAIL)])

    assert 3 == len(store)
    (_, view), (_, newest) = await store.call(
        [Report("forced", OPTIONS, 0, Batch()), Report("u19", OPTIONS, 0, Batch())]
    )
    assert (Force.OPEN, OPEN) == (view.forced, newest.state)


async def test_memory_full_of_forced_breakers_keeps_its_bound() -> None:
    store = MemoryCircuits(lambda: START_MS, max_breakers=3)

    for i in range(5):
        await store.call([Obey(f"u{i}", OPTIONS, Force.OPEN)])

    assert 3 == len(store)


def test_no_two_upstreams_share_a_key():
    names = ["a", "{a}", "%7Ba%7D", "a}", "a}:permits", "%", "%25", "ä", ""]

    keys = {circuit_key(name) for name in names}

    assert len(names) == len(keys)
    assert {(1, 1)} == {(key.count(b"{"), key.count(b"}")) for key in keys}


async def test_keys_expire_by_themselves_but_not_while_forced(timed_redis: TimedRedis) -> None:
    client, key = timed_redis.client, circuit_key(UP)
    half_open = await timed_redis.half_open()
    await timed_redis.acquire("p")
    assert OPTIONS.life_ms - 5_000 < client.pttl(key + b":permits") <= OPTIONS.life_ms
    await timed_redis.result(half_open.epoch, "p", ok=False)
    await timed_redis.force(Force.AUTO)
    await timed_redis.report(4, Batch(ok=1, serial=1))

    assert OPTIONS.life_ms - 5_000 < client.pttl(key) <= OPTIONS.life_ms
    assert {key, key + b":seen:instance-a"} == set(client.keys())
    assert 0 < client.pttl(key + b":seen:instance-a") <= 60_000

    await timed_redis.force(Force.CLOSED)
    assert -1 == client.pttl(key)
    timed_redis.now_ms += 5_000
    await timed_redis.report(5, Batch(ok=1))
    assert -1 == client.pttl(key)

    await timed_redis.force(Force.AUTO)
    assert 0 < client.pttl(key)


async def test_a_breaker_that_is_asked_lives_on_and_a_quiet_call_writes_nothing(
    timed_redis: TimedRedis,
) -> None:
    client, key = timed_redis.client, circuit_key(UP)
    await timed_redis.view()
    client.pexpire(key, 5_000)

    timed_redis.now_ms += 999
    await timed_redis.view()
    assert 5_000 >= client.pttl(key)
    timed_redis.now_ms += 1
    await timed_redis.view()
    assert 5_000 < client.pttl(key)


async def test_permits_that_redis_dropped_are_lost_probes(timed_redis: TimedRedis) -> None:
    await timed_redis.half_open()
    await timed_redis.acquire("p1")
    timed_redis.client.delete(circuit_key(UP) + b":permits")

    view = await timed_redis.view()

    assert (OPEN, TripReason.PROBE_LOST) == (view.state, view.reason)


@pytest.mark.parametrize("value", [b"", b"x", b"\xff" * 200, b"0" * 183])
async def test_a_value_of_something_else_is_a_new_breaker(timed_redis: TimedRedis, value: bytes) -> None:
    timed_redis.client.set(circuit_key(UP), value)

    assert View() == await timed_redis.view()


async def test_a_reply_of_something_else_is_a_store_error() -> None:
    async def run(*_: object) -> object:
        return b"short"

    with pytest.raises(StoreError) as caught:
        await RedisCircuits(run, "a").call([Report(UP, OPTIONS, 0, Batch())])
    assert StoreFault.ERROR == caught.value.fault


@pytest.mark.parametrize("seed", range(8))
async def test_memory_and_redis_agree_on_any_operations(shared_redis: RedisServer, seed: int) -> None:
    """Differential: the Python machine and the Lua one, step by step, time going both ways."""
    rng = random.Random(seed)
    memory, real = Timed(), TimedRedis(shared_redis)
    now, epochs = START_MS, {"a": 0, "b{}": 0}
    for _ in range(400):
        now += rng.choice([0, 1, 50, 100, TTL_MS, COOLDOWN_MS, 1_100, 20_000, -50, -3_000])
        memory.now_ms = real.now_ms = now
        operations = [any_operation(rng, epochs) for _ in range(rng.randint(1, 4))]

        expected = await memory.store.call(operations)
        got = await real.store.call(operations)

        assert list(expected) == list(got), operations
        for operation, (_, view) in zip(operations, got, strict=True):
            assert view.epoch >= epochs[operation.upstream]
            epochs[operation.upstream] = view.epoch
    real.client.close()


def any_operation(rng: random.Random, epochs: dict[str, int]) -> Operation:
    upstream = rng.choice(list(epochs))
    options = msgspec.structs.replace(
        OPTIONS, window_ms=rng.choice([1_000] * 9 + [7]), slow_rate=rng.choice([None, 0.6])
    )
    epoch = max(0, epochs[upstream] + rng.choice([0] * 20 + [-1, 1, 3, LOCAL_EPOCHS]))
    permit = f"p{rng.randint(0, 4)}"
    match rng.choices(range(5), [5, 8, 6, 1, 0.3])[0]:
        case 0:
            failed = rng.randint(0, 3)
            longest = rng.randint(0, failed)
            batch = Batch(rng.randint(0, 4), failed, rng.randint(0, 3), longest, longest, longest)
            serial = rng.choice([0, rng.randint(1, 99)])
            return Report(upstream, options, epoch, msgspec.structs.replace(batch, serial=serial))
        case 1:
            return Acquire(upstream, options, permit)
        case 2:
            return Result(upstream, options, epoch, permit, ok=rng.random() < 0.8)
        case 3:
            return Release(upstream, options, permit)
        case _:
            return Obey(upstream, options, rng.choice([Force.AUTO] * 4 + [Force.OPEN, Force.CLOSED]))


async def test_the_script_runs_as_shipped_beside_the_request_path(redis_server: RedisServer) -> None:
    """Redis' own time, EVALSHA, the store's own connection, and no more rights than README lists."""
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "sentinel", "on", ">word", *redis_rights())
    store = make_redis_store(redis_server.url.replace("unix://", "unix://sentinel:word@"))
    await store.start()
    await until(lambda: store._side.is_up)
    circuits = RedisCircuits(store.run, "instance-a")
    options = msgspec.structs.replace(OPTIONS, cooldown_ms=1, half_open_max=1)

    async def do(operation: Operation) -> tuple[Any, ...]:
        ((done, view),) = await circuits.call([operation])
        return done, view.state, view.reason

    for serial in (1, 2):
        tripped = await do(Report(UP, options, 0, Batch(failed=2, lead=2, trail=2, serial=serial)))
    assert (True, OPEN, TripReason.CONSECUTIVE_FAILURES) == tripped
    async with asyncio.timeout(5):
        while not (await do(Acquire(UP, options, "p1")))[0]:
            pass
    assert not (await do(Acquire(UP, options, "p2")))[0]
    assert (True, HALF_OPEN) == (await do(Release(UP, options, "p1")))[:2]
    assert (True, HALF_OPEN) == (await do(Acquire(UP, options, "p3")))[:2]
    assert (True, CLOSED) == (await do(Result(UP, options, 2, "p3", ok=True)))[:2]
    assert (True, OPEN, TripReason.FORCED) == await do(Obey(UP, options, Force.OPEN))
    await store.close()
