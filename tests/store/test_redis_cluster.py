"""Redis Cluster with real nodes: slots, redirects, resharding, a lost master; and a few states made up."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from redis.crc import key_slot
from support.fake_redis import FakeRedis
from support.opened import HOUR_US, Opened, window_key
from support.readme import redis_rights
from support.redis_fleet import Cluster, has_caught_up
from support.stores import until

from sentinel_ext.core.breaker import BreakerOptions
from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.ratelimit.asks import BINDING, COUNT_DENIED, FIXED, SLIDING, CounterAsk, GiveBack
from sentinel_ext.core.tally import Batch
from sentinel_ext.store.base import Answer, Ask, Refund, StoreError
from sentinel_ext.store.circuits import Acquire, Operation, Report
from sentinel_ext.store.cluster import MAX_NODES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

NAMES = [f"t{number}" for number in range(60)]
CLUSTER_RIGHTS = ("+cluster|slots", "+asking")


def ask(name: str, limit: int = 10, count: int = 1) -> Ask:
    return Ask(window_key(name), HOUR_US // 10, limit, 1, count)


def counter(name: str, **more: int) -> CounterAsk:
    given = {"kind": FIXED, "limit": 10, "hits": 1, "flags": BINDING | COUNT_DENIED, **more}
    return CounterAsk(f"sentinel:r:{{{name}}}:x".encode(), window_us=HOUR_US, burst=0, **given)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
async def opened(cluster: Cluster) -> AsyncIterator[Opened]:
    for node in cluster.masters:
        with node.client() as client:
            client.flushall()
            client.script_flush()
    async with Opened(cluster.url) as store:
        yield store


async def test_windows_of_many_tenants_lie_on_all_masters_and_count(opened: Opened) -> None:
    asks = [ask(name, 3, 5) for name in NAMES]

    answers = await opened.store.acquire(asks)

    assert [3] * len(NAMES) == [answer.granted for answer in answers if isinstance(answer, Answer)]
    assert len({key_slot(each.key) // 5462 for each in asks}) == 3
    backs = [
        Refund(each.key, each.sub_us, answer.slot, 1)
        for each, answer in zip(asks, answers, strict=True)
        if isinstance(answer, Answer)
    ]
    await opened.store.refund(backs)
    again = await opened.store.acquire(asks)
    assert [1] * len(NAMES) == [answer.granted for answer in again if isinstance(answer, Answer)]


async def test_a_script_that_nodes_do_not_know_is_sent_once_to_each(opened: Opened, cluster: Cluster) -> None:
    for node in cluster.masters:
        with node.client() as client:
            client.config_resetstat()

    await opened.store.acquire([ask(name) for name in NAMES])

    for node in cluster.masters:
        with node.client() as client:
            assert 1 == client.info("commandstats")["cmdstat_eval"]["calls"]


async def test_everything_beside_the_request_path_finds_its_slot(opened: Opened) -> None:
    assert 1 == await opened.store.presence("me", 5_000)
    assert ["me"] == await opened.store.fleet(64)
    for name in NAMES[:5]:
        await opened.loads.leave(name)


async def test_operations_on_breakers_of_all_slots_come_back_in_their_order(opened: Opened) -> None:
    options = BreakerOptions(probe_ttl_ms=1000, consecutive_failures=1)
    operations: list[Operation] = [Report(name, options, 0, Batch(failed=1, serial=1)) for name in NAMES[:8]]
    operations += [Acquire(name, options, "p1") for name in NAMES[:16]]

    replies = await opened.circuits.call(operations)

    assert ["open"] * 8 == [view.state.value for _, view in replies[:8]]
    assert ["open"] * 8 + ["closed"] * 8 == [view.state.value for _, view in replies[8:]]


async def test_a_request_of_one_slot_is_decided_whole(opened: Opened) -> None:
    key = counter("a").key
    request = tuple(
        CounterAsk(key + b"%d" % kind, kind, HOUR_US, limit, 0, 1, BINDING)
        for kind, limit in ((FIXED, 10), (SLIDING, 1))
    )
    first, second = await opened.limits.decide([request, request])

    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert [(False, True), (False, True)] == [(answer.over, answer.counted) for answer in first]
    assert [(False, False), (True, False)] == [(answer.over, answer.counted) for answer in second]


async def test_of_a_request_of_several_slots_each_is_decided_alone_and_can_be_given_back(
    opened: Opened,
) -> None:
    apart = (counter("full", limit=0, flags=BINDING), counter("free", flags=BINDING))
    assert key_slot(apart[0].key) != key_slot(apart[1].key)

    (answers,) = await opened.limits.decide([apart])

    assert isinstance(answers, tuple)
    assert [(True, False), (False, True)] == [(answer.over, answer.counted) for answer in answers]
    # What the limiter then does (core/ratelimit/limiter.py).
    await opened.limits.give_back([GiveBack(apart[1].key, FIXED, HOUR_US, 10, answers[1].slot, 1)])
    (look,) = await opened.limits.decide([(counter("free", hits=0),)])
    assert isinstance(look, tuple)
    assert 0 == look[0].used


async def test_many_requests_of_a_turn_keep_their_order_and_reset_finds_every_key(opened: Opened) -> None:
    requests = [(counter(name, limit=2),) for name in NAMES for _ in range(3)]

    answers = await opened.limits.decide(requests)

    assert [False, False, True] * len(NAMES) == [each[0].over for each in answers if isinstance(each, tuple)]
    assert len(NAMES) == await opened.limits.reset([counter(name).key for name in NAMES])


async def test_a_slot_that_has_moved_is_followed_without_a_failed_request(
    cluster: Cluster, opened: Opened
) -> None:
    name = next(name for name in NAMES if key_slot(window_key(name)) < 5461)
    slot = key_slot(window_key(name))
    source, target = cluster.masters[0], cluster.masters[1]
    with source.client() as old, target.client() as new:
        ids = [client.execute_command("CLUSTER", "MYID") for client in (old, new)]
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        try:
            # The key is not at the source: ASK; and the target does not know the script yet.
            during = [await opened.count(name), await opened.count(name)]
            old.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
            new.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
            after = [await opened.count(name), await opened.count(name)]  # MOVED, and remembered
        finally:
            new.flushall()
            for client in (new, old):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[0])
    assert [1, 2, 3, 4] == [answer.used for answer in (*during, *after) if isinstance(answer, Answer)]


async def test_a_user_with_the_documented_rights_and_a_password_file(
    cluster: Cluster, opened: Opened, tmp_path: Path
) -> None:
    for node in cluster.masters:
        with node.client() as client:
            client.execute_command("ACL", "SETUSER", "limiter", "on", ">pw", *redis_rights(), *CLUSTER_RIGHTS)
    (tmp_path / "password").write_text("pw")
    async with Opened(cluster.url, username="limiter", password_file=tmp_path / "password") as store:
        answers = await store.store.acquire([ask(name) for name in NAMES])
        assert len(NAMES) == sum(isinstance(answer, Answer) for answer in answers)
        (answer,) = await store.limits.decide([(counter("a"),)])
        assert isinstance(answer, tuple)


async def test_a_lost_master_fails_its_own_slots_only_until_its_replica_serves(tmp_path: Path) -> None:
    with Cluster(tmp_path, replicas=1) as cluster:
        async with Opened(cluster.url) as opened:
            lost = next(name for name in NAMES if key_slot(window_key(name)) < 5461)
            kept = next(name for name in NAMES if key_slot(window_key(name)) > 10923)
            assert all(isinstance(answer, Answer) for answer in await opened.store.acquire([ask(lost)]))
            await until(functools.partial(has_caught_up, cluster.replicas[0], cluster.masters[0]))
            cluster.masters[0].kill()

            first = await opened.store.acquire([ask(lost), ask(kept)])
            (limited,) = await opened.limits.decide([(counter(lost),)])
            answer, _ = await opened.count_when_served(lost)

            assert isinstance(first[0], StoreFault)
            assert isinstance(first[1], Answer)
            assert isinstance(limited, StoreFault)
            assert 2 == answer.used


async def test_a_cluster_that_is_away_at_the_start_is_said_to_be_away_once() -> None:
    opened = Opened("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    await opened.store.start()
    await until(lambda: bool(opened.told))
    try:
        with pytest.raises(StoreError):
            await opened.store.presence("me", 1000)
        assert [StoreFault.UNREACHABLE] == list(await opened.store.acquire([ask("a")]))
        # Many attempts later.
        opened.store._tell("again")
        assert [False] == [up for up, _ in opened.told]
        assert not opened.store.is_available()
    finally:
        await opened.store.close()


def slots(*ports: int) -> bytes:
    """Return CLUSTER SLOTS' reply: a slot range for each port, on a host that the nodes do not know."""
    rows = [
        b"*3\r\n:%d\r\n:%d\r\n*3\r\n$0\r\n\r\n:%d\r\n$1\r\nx\r\n" % (at, at, port)
        for at, port in enumerate(ports)
    ]
    return b"*%d\r\n" % len(rows) + b"".join(rows)


async def test_a_redirect_without_a_host_means_the_host_that_was_asked() -> None:
    name = next(
        name for name in (f"n{number}" for number in range(200_000)) if key_slot(window_key(name)) == 0
    )
    reply = b"$32\r\n" + b"\1" + bytes(31) + b"\r\n"  # window.lua's: one granted
    new = FakeRedis(lambda words: b"*0\r\n" if words[0] == b"TIME" else reply)
    async with new, FakeRedis(lambda words: answer(words)) as old:  # noqa: PLW0108  defined below

        def answer(words: list[bytes]) -> bytes:
            return {
                b"TIME": b"*0\r\n",
                b"CLUSTER SLOTS": slots(old.port, new.port),
                b"CLUSTER": slots(old.port, new.port),
            }.get(words[0], b"-MOVED 0 :%d\r\n" % new.port)

        async with Opened(f"redis+cluster://{old.address}") as opened:
            assert isinstance(await opened.count(name), Answer)
            assert isinstance(await opened.count(name), Answer)
        assert 1 == old.count(b"EVALSHA")
        assert 2 == new.count(b"EVALSHA")


async def test_a_cluster_of_more_masters_than_the_bound_is_refused() -> None:
    ports = range(1000, 1001 + MAX_NODES)
    async with FakeRedis(lambda _words: slots(*ports)) as node:
        assert f"more than {MAX_NODES} masters" in await Opened(f"redis+cluster://{node.address}").refused()
