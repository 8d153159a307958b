"""Redis Sentinel: real ones that fail over, and Sentinels that hang, lie or want a password."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import pytest
from support.fake_redis import FakeRedis, bulks
from support.opened import Opened
from support.readme import redis_rights
from support.redis_fleet import Nodes, SentinelTrio, has_caught_up
from support.stores import until

from sentinel_ext.store.base import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.redis_fleet import Node


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Node]:
    with Nodes(tmp_path) as nodes:
        node = nodes.add()
        node.wait(lambda client: client.ping())
        yield node


def names(port: int) -> FakeRedis:
    """Return a Sentinel to whom the master is at `port`."""
    return FakeRedis(lambda _words: bulks("127.0.0.1", str(port)))


async def test_after_a_failover_the_new_master_is_asked(tmp_path: Path) -> None:
    """And Sentinels with a password of their own, and a user with the documented rights."""
    (tmp_path / "gate").write_text("gate\n")
    with SentinelTrio(tmp_path, password="gate") as trio:
        for node in (trio.master, trio.replica):
            with node.client() as client:
                client.execute_command("ACL", "SETUSER", "limiter", "on", ">pw", *redis_rights(), "+role")
        url = trio.url.replace("://", "://limiter:pw@")
        async with Opened(url, sentinel_password_file=tmp_path / "gate") as opened:
            assert isinstance(await opened.count("acme"), Answer)
            await until(functools.partial(has_caught_up, trio.replica, trio.master))
            trio.master.kill()

            answer, _ = await opened.count_when_served("acme")

            assert 2 == answer.used
            with trio.replica.client() as client:
                assert "master" == client.info("replication")["role"]


async def test_a_master_that_was_demoted_is_left(tmp_path: Path) -> None:
    with SentinelTrio(tmp_path) as trio:
        async with Opened(trio.url) as opened:
            await opened.count("acme")
            with trio.sentinels[0].client() as sentinel:
                sentinel.sentinel_failover(trio.NAME)
            with trio.replica.client() as replica:
                await until(lambda: replica.info("replication")["role"] == "master", 20)
                with trio.master.client() as master:  # as the Sentinels tell it seconds later
                    master.replicaof("127.0.0.1", trio.replica.port)
                replica.flushall()

                await opened.count_when_served("acme")

                assert 1 == replica.dbsize()


async def test_sentinels_that_hang_or_refuse_cost_a_moment_and_are_asked_last_from_then_on(
    server: Node,
) -> None:
    async with FakeRedis(lambda _words: None) as hangs, names(server.port) as answers:
        hosts = f"{hangs.address},127.0.0.1:1,{answers.address}"
        started = time.monotonic()
        async with Opened(f"redis+sentinel://{hosts}/counters") as opened:
            assert isinstance(await opened.count("acme"), Answer)
            took_s = time.monotonic() - started
            asked = hangs.count(b"SENTINEL")
            with server.client() as client:
                client.client_kill_filter(_type="normal", skipme=True)
            await until(lambda: not opened.store.is_available())
            await until(opened.store.is_available)
            assert asked == hangs.count(b"SENTINEL")
        assert took_s < 1.0


async def test_a_replica_that_a_sentinel_takes_for_the_master_is_left_again(tmp_path: Path) -> None:
    with Nodes(tmp_path) as nodes:
        replica = nodes.add("--replicaof", "127.0.0.1", "1")
        replica.wait(lambda client: client.ping())
        async with names(replica.port) as sentinel:
            why = await Opened(f"redis+sentinel://{sentinel.address}/counters").refused()
        assert f"127.0.0.1:{replica.port} is not the master" in why


async def test_an_unknown_master_and_dead_sentinels_are_named_in_the_reason() -> None:
    async with FakeRedis(lambda _words: b"*-1\r\n") as sentinel:
        why = await Opened(f"redis+sentinel://u:s3cret@127.0.0.1:1,{sentinel.address}/kounters").refused()

    assert "no Sentinel names the master" in why
    assert "knows no master called kounters" in why
    assert "127.0.0.1:1" in why
    assert "s3cret" not in why


async def test_the_masters_login_is_not_told_to_the_sentinels(server: Node) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "limiter", "on", ">pw", *redis_rights(), "+role")
    async with names(server.port) as sentinel:
        async with Opened(f"redis+sentinel://limiter:pw@{sentinel.address}/counters/0") as opened:
            assert isinstance(await opened.count("acme"), Answer)
        assert 0 == sentinel.count(b"AUTH")
