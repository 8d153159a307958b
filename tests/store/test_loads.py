"""One suite for reports and shared states: in memory, and by the scripts in a real Redis."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest
from support.fakes import FakeClock
from support.readme import redis_rights
from support.stores import make_redis_store, until

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.fill import Demand
from sentinel_ext.core.report import Report, Shared
from sentinel_ext.store import loads as module
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.loads import (
    MAX_MAIL,
    MAX_REPORTS,
    REPORT_LIFE_MS,
    TURN_MS,
    Exchanged,
    LoadStore,
    MemoryLoads,
    RedisLoads,
    load_key,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import redis
    from support.redis_server import RedisServer

    from sentinel_ext.store.redis import RedisStore

UP = "orders"
DUE_MS = 400.0
NEVER_DUE_MS = 1e9
DEMAND = Demand("acme", 1, 12.5, 2.0, 0.0)
REPORT = Report(200.0, admitted=7, ok=5, failed=1, inflight=(1, 0, 2), demands=(DEMAND,), local=3.5)
STATE = Shared(at_ms=5.0, pressure=71.5, credit=900.0, history=((1.0, 2),), rates={"acme": 3.0}, is_open=True)


class Fleet:
    """Instances at one Redis; each has a connection of its own."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.client: redis.Redis = server.client()
        self.client.flushall()
        self._stores: list[RedisStore] = []

    async def instance(self, name: str) -> RedisLoads:
        store = make_redis_store(self.server.url)
        self._stores.append(store)
        await store.start()
        await until(lambda: store._side.is_up)
        return RedisLoads(store.run, name)

    async def instances(self, count: int) -> list[RedisLoads]:
        return [await self.instance(f"i{number}") for number in range(count)]

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        self.client.close()


@pytest.fixture
async def fleet(shared_redis: RedisServer) -> AsyncIterator[Fleet]:
    fleet = Fleet(shared_redis)
    yield fleet
    await fleet.close()


@pytest.fixture(params=["memory", "redis"])
async def loads(request: pytest.FixtureRequest) -> AsyncIterator[LoadStore]:
    """The only instance."""
    if request.param == "memory":
        clock = FakeClock(time.time_ns())
        yield MemoryLoads(lambda: clock() / 1e6)
        return
    fleet = Fleet(request.getfixturevalue("shared_redis"))
    yield await fleet.instance("i1")
    await fleet.close()


async def exchange(loads: LoadStore, report: Report = REPORT, due_ms: float = DUE_MS, **mail) -> Exchanged:
    return await loads.exchange(UP, report, mail, due_ms)


# --- Both ---


async def test_the_first_report_gets_the_turn_and_itself_back(loads):
    got = await exchange(loads)

    assert (True, (REPORT,), Shared(), 0, ()) == (
        got.has_turn,
        got.reports,
        got.shared,
        got.version,
        got.ends,
    )
    assert got.now_ms > 1e12


async def test_what_is_committed_is_what_all_see(loads):
    first = await exchange(loads)
    state = msgspec.structs.replace(STATE, at_ms=first.now_ms)

    assert await loads.commit(UP, first.version, state)
    second = await exchange(loads)

    assert (state, False, ()) == (second.shared, second.has_turn, second.reports)
    assert Shared() == (await loads.exchange("users", REPORT, {}, DUE_MS)).shared


async def test_a_state_that_is_old_enough_is_due_again(loads):
    first = await exchange(loads)
    await loads.commit(UP, first.version, msgspec.structs.replace(STATE, at_ms=first.now_ms - DUE_MS))

    second = await exchange(loads)

    assert (True, (REPORT,)) == (second.has_turn, second.reports)


async def test_who_leaves_may_come_back(loads):
    await exchange(loads)
    await loads.leave(UP)
    await loads.leave(UP)

    await exchange(loads)


async def test_memory_has_nobody_to_write_to_and_always_commits():
    loads = MemoryLoads(lambda: 1e12)

    assert () == (await exchange(loads, i2=[(1, 1, 1)])).ends
    assert await loads.commit(UP, 77, STATE)
    assert STATE == (await exchange(loads)).shared
    await loads.leave(UP)
    assert {} == loads._shared


# --- Turns ---


@pytest.mark.parametrize("count", [2, 8])
async def test_of_instances_that_report_at_once_one_has_the_turn(fleet, count):
    instances = await fleet.instances(count)

    got = await asyncio.gather(*(exchange(each) for each in instances))

    assert 1 == sum(each.has_turn for each in got)
    assert all(not each.reports for each in got if not each.has_turn)


async def test_who_has_the_turn_sees_the_reports_of_all(fleet):
    instances = await fleet.instances(5)
    for number, each in enumerate(instances):
        await exchange(each, Report(200.0, ok=number), NEVER_DUE_MS * 1e6)

    got = await exchange(instances[0], Report(200.0, ok=100))

    assert (True, [1, 2, 3, 4, 100]) == (got.has_turn, sorted(report.ok for report in got.reports))


async def test_a_turn_that_is_not_used_is_lost(fleet):
    one, other = await fleet.instances(2)
    start_ms = (await exchange(one)).now_ms

    async with asyncio.timeout(5):
        while not (got := await exchange(other)).has_turn:
            pass

    assert TURN_MS <= got.now_ms - start_ms < TURN_MS + 100


async def test_a_turn_that_is_used_ends_at_once(fleet):
    one, other = await fleet.instances(2)
    got = await exchange(one)
    await one.commit(UP, got.version, msgspec.structs.replace(STATE, at_ms=got.now_ms - DUE_MS))

    assert (await exchange(other)).has_turn


async def test_of_two_who_commit_one_state_is_the_shared_one(fleet):
    one, other = await fleet.instances(2)
    version = (await exchange(one)).version
    states = [msgspec.structs.replace(STATE, at_ms=1.0, pressure=pressure) for pressure in (1.0, 2.0)]

    done = [await each.commit(UP, version, state) for each, state in zip((one, other), states, strict=True)]

    assert [True, False] == done
    got = await exchange(one)
    assert (states[0], version + 1) == (got.shared, got.version)
    assert await other.commit(UP, got.version, states[1])


# --- Mail ---


async def test_mail_is_delivered_once_to_whom_it_is_for(fleet):
    one, two, three = await fleet.instances(3)
    await exchange(one, i1=[(5, 1, 2), (6, 0, 1)], i2=[(9, 2, 3)])
    await exchange(one, i1=[(7, 1, 1)])

    assert ((5, 1, 2), (6, 0, 1), (7, 1, 1)) == (await exchange(two)).ends
    assert () == (await exchange(two)).ends
    assert ((9, 2, 3),) == (await exchange(three)).ends


async def test_mail_is_of_one_upstream(fleet):
    one, two = await fleet.instances(2)
    await one.exchange("users", REPORT, {"i1": [(5, 1, 2)]}, DUE_MS)

    assert () == (await exchange(two)).ends


async def test_mail_that_nobody_fetches_is_bounded_and_the_oldest_goes(fleet):
    one, two = await fleet.instances(2)
    for number in range(MAX_MAIL + 5):
        await exchange(one, i1=[(number, 1, 1)])

    ends = (await exchange(two)).ends

    assert (MAX_MAIL, (5, 1, 1), (MAX_MAIL + 4, 1, 1)) == (len(ends), ends[0], ends[-1])


# --- What goes away by itself ---


async def test_everything_expires(fleet):
    (one,) = await fleet.instances(1)
    got = await exchange(one, i9=[(1, 1, 1)])
    await one.commit(UP, got.version, STATE)

    left = {key.decode(): fleet.client.pttl(key) for key in fleet.client.scan_iter()}

    key = load_key(UP).decode()
    assert {key, f"{key}:state", f"{key}:mail:i9"} == set(left)
    assert all(0 < milliseconds <= 600_000 for milliseconds in left.values())
    assert left[f"{key}:mail:i9"] <= REPORT_LIFE_MS


async def test_a_report_of_an_instance_that_is_gone_is_left_out_after_a_while(fleet, monkeypatch):
    monkeypatch.setattr(module, "REPORT_LIFE_MS", 60)
    one, two = await fleet.instances(2)
    start_ms = (await exchange(one)).now_ms

    while (got := await exchange(two, due_ms=0)).now_ms <= start_ms + 60 or not got.has_turn:
        await two.commit(UP, got.version, Shared())

    assert (1, 1) == (len(got.reports), fleet.client.hlen(load_key(UP)))


async def test_who_leaves_is_out_at_once(fleet):
    one, two = await fleet.instances(2)
    await exchange(one)
    await exchange(two)

    await one.leave(UP)

    assert [b"i1"] == fleet.client.hkeys(load_key(UP))


async def test_who_leaves_takes_no_turn(fleet):
    one, two = await fleet.instances(2)

    await one.leave(UP)

    assert (await exchange(two)).has_turn


# --- What does not belong there ---


GARBAGE = [b"", b"x", b"\xff" * 40, msgspec.msgpack.encode({"v": "no", "pressure": "no"})]


@pytest.mark.parametrize("raw", [*GARBAGE, msgspec.msgpack.encode([200.0, "many"])])
async def test_a_report_that_cannot_be_read_is_left_out(fleet, raw):
    one, two = await fleet.instances(2)
    await exchange(one)
    fleet.client.delete(load_key(UP) + b":state")
    stamp = fleet.client.hget(load_key(UP), "i0")[:8]
    fleet.client.hset(load_key(UP), "i7", stamp + raw)

    got = await exchange(two)

    assert (True, (REPORT, REPORT)) == (got.has_turn, got.reports)


@pytest.mark.parametrize("raw", GARBAGE)
async def test_a_state_that_cannot_be_read_is_none(fleet, raw):
    (one,) = await fleet.instances(1)
    fleet.client.hset(load_key(UP) + b":state", mapping={"v": 4, "at": 0, "s": raw})

    got = await exchange(one)

    assert (Shared(), 4, True) == (got.shared, got.version, got.has_turn)


@pytest.mark.parametrize("raw", GARBAGE)
async def test_mail_that_cannot_be_read_is_left_out(fleet, raw):
    one, two = await fleet.instances(2)
    fleet.client.rpush(load_key(UP) + b":mail:i1", raw)
    await exchange(one, i1=[(5, 1, 2)])

    assert ((5, 1, 2),) == (await exchange(two)).ends


async def test_a_report_without_its_time_is_no_reason_to_fail_for_ever(fleet):
    """A field of less than eight bytes: not of our making."""
    (one,) = await fleet.instances(1)
    fleet.client.hset(load_key(UP), "i7", b"short")

    got = await exchange(one)

    assert (True, (REPORT,)) == (got.has_turn, got.reports)
    assert [b"i0"] == fleet.client.hkeys(load_key(UP))


@pytest.mark.parametrize(
    "reply",
    [None, b"OK", [], [b"x", 0, b"", 0, [], []], [b"1", None, b"", 0, [], []], [b"1", 0, b"", 0, None, []]],
)
async def test_a_reply_of_another_script_is_a_fault_of_the_store(reply):
    async def run(*_: object) -> object:
        return reply

    with pytest.raises(StoreError) as caught:
        await exchange(RedisLoads(run, "i1"))
    assert StoreFault.ERROR is caught.value.fault


async def test_more_reports_than_the_bound_are_not_read():
    raw = msgspec.msgpack.encode(REPORT)

    async def run(*_: object) -> object:
        return [b"1", 0, b"", 1, [raw] * (MAX_REPORTS + 1), []]

    assert MAX_REPORTS == len((await exchange(RedisLoads(run, "i1"))).reports)


async def test_names_of_upstreams_share_no_key(fleet):
    (one,) = await fleet.instances(1)
    names = ["a", "a}", "{a}", "a%7D", "a:state"]
    for number, name in enumerate(names):
        got = await one.exchange(name, REPORT, {}, DUE_MS)
        await one.commit(name, got.version, Shared(pressure=float(number)))

    seen = [(await one.exchange(name, REPORT, {}, DUE_MS)).shared.pressure for name in names]

    assert [0.0, 1.0, 2.0, 3.0, 4.0] == seen


# --- Redis itself ---


@asynccontextmanager
async def limited(server: RedisServer) -> AsyncIterator[RedisLoads]:
    """An instance whose Redis user may do what README lists and nothing else."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "sentinel", "reset", "on", ">word", *redis_rights())
    store = make_redis_store(server.url.replace("unix://", "unix://sentinel:word@"))
    await store.start()
    try:
        await until(lambda: store._side.is_up)
        yield RedisLoads(store.run, "i1")
    finally:
        await store.close()


async def test_the_rights_that_the_readme_names_are_enough(redis_server: RedisServer) -> None:
    async with limited(redis_server) as loads:
        got = await exchange(loads, i1=[(5, 1, 2)], i2=[(5, 1, 2)])
        assert (True, (REPORT,), ((5, 1, 2),)) == (got.has_turn, got.reports, got.ends)
        assert await loads.commit(UP, got.version, STATE)
        with redis_server.client() as client:  # what is too old is taken out
            client.hset(load_key(UP), "i7", bytes(8))
        got = await exchange(loads)
        assert (STATE, True, (REPORT,)) == (got.shared, got.has_turn, got.reports)
        await loads.leave(UP)


@pytest.mark.parametrize(
    "call", [exchange, lambda loads: loads.commit(UP, 0, STATE), lambda loads: loads.leave(UP)]
)
async def test_a_redis_that_is_away_is_a_fault_of_the_store(
    redis_server: RedisServer, call: Callable[[RedisLoads], object]
) -> None:
    store = make_redis_store(redis_server.url)
    await store.start()
    await until(lambda: store._side.is_up)
    redis_server.stop()
    await until(lambda: not store._side.is_up)

    with pytest.raises(StoreError):
        await call(RedisLoads(store.run, "i1"))
    await store.close()
