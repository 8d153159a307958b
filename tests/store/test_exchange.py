"""Commands and replies on one connection: order, what is no reply, and the bound on what waits."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support.fake_redis import OK, FakeRedis

from sentinel_ext.store.endpoint import FixedEndpoint
from sentinel_ext.store.exchange import MAX_WAITING, Exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def connected(server: FakeRedis) -> AsyncIterator[Exchange]:
    connection = await FixedEndpoint(f"redis://{server.address}").open()
    exchange = Exchange.over(connection)
    try:
        yield exchange
    finally:
        exchange.close()
        await connection.disconnect(nowait=True)


async def test_commands_of_one_write_get_their_replies_in_order() -> None:
    async with (
        FakeRedis(lambda words: b":%b\r\n" % words[1]) as server,
        connected(server) as exchange,
    ):
        waiters = exchange.send_many([(b"ECHO", number) for number in range(100)])
        last = exchange.send(b"ECHO", 100)

        assert list(range(100)) == [await waiter for waiter in waiters]
        assert 100 == await last


async def test_no_more_commands_wait_than_the_bound() -> None:
    async with FakeRedis(lambda _words: None) as server, connected(server) as exchange:
        waiters = exchange.send_many([(b"PING",)] * (MAX_WAITING - 1))
        with pytest.raises(ConnectionError, match="stopped coming"):
            exchange.send_many([(b"PING",)] * 2)
        waiters.append(exchange.send(b"PING"))
        with pytest.raises(ConnectionError, match="stopped coming"):
            exchange.send(b"PING")

        exchange.close()

        assert all(isinstance(waiter.exception(), ConnectionError) for waiter in waiters)


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n", OK + OK])
async def test_what_is_no_reply_or_one_too_many_ends_the_connection(nonsense: bytes) -> None:
    async with FakeRedis(lambda _words: nonsense) as server, connected(server) as exchange:
        first = exchange.send(b"PING")
        if nonsense.startswith(OK):
            assert b"OK" == await first
        else:
            with pytest.raises(ConnectionError, match="not a reply"):
                await first

        with pytest.raises(ConnectionError, match="not a reply"):
            exchange.send(b"PING")
