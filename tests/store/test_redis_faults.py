"""Redis flushed, restarted, frozen, refusing; passwords, ACL users, TLS: a real server each time."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from support.redis_server import RedisServer
from support.stores import make_redis_store, until

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.store import link
from sentinel_ext.store.base import Ask, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sentinel_ext.store.redis import RedisStore

KEY = b"sentinel:w:{acme}:60000"
# The rights that the README names are the rights that this test gives.
README = (Path(__file__).parents[2] / "README.md").read_text()
(ACL_RIGHTS,) = re.findall(r"`(~sentinel:[^`]*)`", README)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[RedisStore]:
    store = make_redis_store(url)
    await store.start()
    try:
        await until(lambda: store.is_available() and store._side.is_up)
        yield store
    finally:
        await store.close()


async def granted(store: RedisStore, limit: int = 100) -> int:
    (answer,) = await store.acquire([Ask(KEY, 6_000_000, limit, 1, 1)])
    return answer.granted


async def test_script_flush_costs_no_request(redis_server: RedisServer) -> None:
    async with connected(redis_server.url) as store:
        assert 1 == await granted(store, 2)

        with redis_server.client() as client:
            client.script_flush()

        assert [1, 0] == [await granted(store, 2), await granted(store, 2)]


async def test_a_redis_that_comes_back_empty_is_used_again(redis_server: RedisServer) -> None:
    changes: list[bool] = []
    store = make_redis_store(redis_server.url, lambda up, _why: changes.append(up))
    await store.start()
    await until(store.is_available)
    assert 1 == await granted(store, 1)

    redis_server.stop()
    with pytest.raises(StoreError) as lost:
        await granted(store)
    with pytest.raises(StoreError):
        await granted(store)
    await until(lambda: not store.is_available())
    redis_server.start()
    await until(store.is_available)

    assert StoreFault.UNREACHABLE is lost.value.fault
    assert [1, 0] == [await granted(store, 1), await granted(store, 1)]
    assert [True, False, True] == changes
    await store.close()


async def test_a_frozen_redis_is_given_up_after_the_stall_limit_and_found_again(
    redis_server: RedisServer,
) -> None:
    async with connected(redis_server.url) as store:
        redis_server.freeze()
        started = time.monotonic()

        outcomes = await asyncio.gather(granted(store), granted(store), return_exceptions=True)

        assert [StoreFault.TIMEOUT] * 2 == [getattr(outcome, "fault", outcome) for outcome in outcomes]
        assert link.STALL_S <= time.monotonic() - started
        assert not store.is_available()
        redis_server.thaw()
        await until(store.is_available)
        assert 1 == await granted(store)


async def test_a_redis_that_is_not_there_at_start_is_found_when_it_comes(short_folder: Path) -> None:
    server = RedisServer(short_folder)
    store = make_redis_store(server.url)
    await store.start()
    await asyncio.sleep(0.1)  # several attempts fail
    assert not store.is_available()

    server.start()
    await until(store.is_available)

    assert 1 == await granted(store)
    await store.close()
    server.stop()


async def test_a_redis_out_of_memory_is_an_error_and_not_a_lost_connection(short_folder: Path) -> None:
    server = RedisServer(short_folder, "--maxmemory", "1", "--maxmemory-policy", "noeviction").start()
    async with connected(server.url) as store:
        with pytest.raises(StoreError, match="OOM") as refused:
            await granted(store)

        assert StoreFault.ERROR is refused.value.fault
        assert store.is_available()
    server.stop()


async def test_a_replica_is_left_for_the_primary(short_folder: Path) -> None:
    server = RedisServer(short_folder, "--replicaof", "127.0.0.1", "1").start()
    async with connected(server.url) as store:
        with pytest.raises(StoreError):
            await granted(store)
        with server.client() as client:
            client.replicaof("NO", "ONE")
        await until(store.is_available)

        async with asyncio.timeout(10):
            while True:
                try:
                    assert 1 == await granted(store)
                    break
                except StoreError:
                    await asyncio.sleep(0.01)
    server.stop()


async def test_password_and_acl_user_with_the_documented_rights(short_folder: Path) -> None:
    user = f"sentinel on >pa:ss/wd {ACL_RIGHTS}".split()
    server = RedisServer(short_folder, "--requirepass", "s3cret", "--user", *user, password="s3cret").start()
    path = server.socket
    for url in (f"unix://:s3cret@{path}", f"unix://sentinel:pa%3Ass%2Fwd@{path}"):
        async with connected(url) as store:
            assert 1 == await granted(store)
            assert 1 == await store.presence("a", 3000)
            assert 0 == await store.presence("a", 3000, leaving=True)
    wrong = make_redis_store(f"unix://:nope@{path}")
    await wrong.start()
    await asyncio.sleep(0.15)
    assert not wrong.is_available()
    await wrong.close()
    server.stop()


async def test_tls_is_verified(redis_server: RedisServer, short_folder: Path) -> None:
    """The wheel's redis-server has no TLS: a TLS end in front of it, real certificates, real handshake."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(short_folder / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    async with tls_front(str(redis_server.socket), context) as port:
        async with connected(f"rediss://localhost:{port}/0?ssl_ca_certs={short_folder / 'ca.pem'}") as store:
            assert 1 == await granted(store)
        stranger = make_redis_store(f"rediss://localhost:{port}/0")
        await stranger.start()
        await asyncio.sleep(0.2)
        assert not stranger.is_available()
        await stranger.close()


@asynccontextmanager
async def tls_front(path: str, context: ssl.SSLContext) -> AsyncIterator[int]:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(path)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(serve, "localhost", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def test_a_wrong_kind_of_key_is_an_error_for_its_batch_only(redis_server: RedisServer) -> None:
    async with connected(redis_server.url) as store:
        with redis_server.client() as client:
            client.lpush(KEY, "not a ring")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            await granted(store)

        (answer,) = await store.acquire([Ask(b"sentinel:w:{other}:60000", 6_000_000, 1, 1, 1)])
        assert 1 == answer.granted


async def test_keys_expire_when_their_window_is_over(redis_server: RedisServer) -> None:
    async with connected(redis_server.url) as store:
        await granted(store)
        await store.presence("a", 3000)

        with redis_server.client() as client:
            lifetimes = {key: client.pttl(key) for key in client.keys("*")}

        assert {KEY, b"sentinel:presence"} == set(lifetimes)
        assert 0 < lifetimes[KEY] <= 66_001
        assert 0 < lifetimes[b"sentinel:presence"] <= 6_000


async def test_a_store_can_be_closed_at_any_moment_of_its_connecting(redis_server: RedisServer) -> None:
    """A cancellation that a layer below swallowed once kept `serve` from ending after a failed start."""
    async with asyncio.timeout(10):
        for turns in range(40):
            store = make_redis_store(redis_server.url)
            await store.start()
            for _ in range(turns):
                await asyncio.sleep(0)
            await store.close()
            assert not store.is_available()
