"""Questions to Redis, Sentinel, Envoy and the upstream, and what is made of the answers."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from sentinel_ext.address import Address
from sentinel_ext.demo import probes

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = Address(host="127.0.0.1", port=unused_port())


def serving(
    path: str, status: int = 200, text: str = "", headers: dict[str, str] | None = None
) -> TestServer:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=text, headers=headers)

    application = web.Application()
    application.router.add_get(path, answer)
    return TestServer(application)


def address_of(server: TestServer) -> Address:
    return Address(host="127.0.0.1", port=server.port or 0)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (Address(host="127.0.0.1", port=1), "127.0.0.1:1"),
        (Address(host="0.0.0.0", port=1), "127.0.0.1:1"),
        (Address(host="::", port=1), "[::1]:1"),
        (Address(host="localhost", port=1), "localhost:1"),
    ],
)
def test_a_server_on_every_interface_is_reached_on_loopback(address: Address, expected: str) -> None:
    assert expected == probes.reachable(address)


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (200, json.dumps({"store": {"available": True}}), True),
        (200, json.dumps({"store": {"available": False}}), False),
        (200, "{}", True),
        (200, "not JSON", False),
        (503, "{}", False),
    ],
)
async def test_sentinel_is_ready_once_its_store_is_there(status: int, text: str, expected: bool) -> None:
    async with serving("/readyz", status, text) as server:
        assert expected is await probes.Admin(address_of(server)).is_ready()


async def test_sentinel_on_a_unix_socket_is_asked_there(tmp_path: Path) -> None:
    async def ready(_request: web.Request) -> web.Response:
        return web.json_response({})

    path = str(tmp_path / "admin.sock")
    runner = web.AppRunner(web.Application())
    runner.app.router.add_get("/readyz", ready)
    await runner.setup()
    await web.UnixSite(runner, path).start()

    assert await probes.Admin(Address(path=path)).is_ready()

    await runner.cleanup()


async def test_nobody_is_not_ready() -> None:
    assert not await probes.Admin(NOBODY).is_ready()
    async with aiohttp.ClientSession() as session:
        envoy = probes.Envoy(session, NOBODY, f"http://{NOBODY}")
        assert not await envoy.is_ready()
        assert not await envoy.is_deciding()
        assert await envoy.version() == probes.UNKNOWN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps({"version": "9e5580/1.40.0/Clean/RELEASE/BoringSSL"}), "1.40.0"),
        (json.dumps({"version": "odd"}), probes.UNKNOWN),
        ("{}", probes.UNKNOWN),
        ("not JSON", probes.UNKNOWN),
    ],
)
async def test_envoys_version_is_the_number_alone(text: str, expected: str) -> None:
    async with serving("/server_info", text=text) as server, aiohttp.ClientSession() as session:
        assert expected == await probes.Envoy(session, address_of(server), "").version()


@pytest.mark.parametrize(("headers", "expected"), [({"x-correlation-id": "1"}, True), ({}, False)])
async def test_envoy_decides_once_sentinels_mark_comes_back(headers: dict[str, str], expected: bool) -> None:
    async with serving("/", headers=headers) as server, aiohttp.ClientSession() as session:
        envoy = probes.Envoy(session, NOBODY, str(server.make_url("/")))
        assert expected is await envoy.is_deciding()


async def test_the_upstream_is_asked_for_a_connection_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert await probes.upstream_accepts(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert not await probes.upstream_accepts(f"http://{NOBODY}")


class FakeRedis:
    """Answers commands by name; +OK to those that it was not told of."""

    def __init__(self, replies: dict[bytes, bytes]) -> None:
        self._replies = replies

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while header := await reader.readline():
            words = []
            for _ in range(int(header[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            writer.write(self._replies.get(words[0], b"+OK\r\n"))
        writer.close()


async def test_the_version_comes_from_info() -> None:
    info = b"# Server\r\nredis_version:7.4.1\r\n"
    async with FakeRedis({b"INFO": b"$%d\r\n%s\r\n" % (len(info), info)}) as url:
        assert await probes.redis_version(url) == "7.4.1"


async def test_a_user_without_info_is_let_through() -> None:
    async with FakeRedis({b"INFO": b"-NOPERM no permissions to run 'info'\r\n"}) as url:
        assert await probes.redis_version(url) == probes.UNKNOWN


async def test_a_redis_that_wants_a_password_is_told_apart_from_none() -> None:
    async with FakeRedis({b"PING": b"-NOAUTH Authentication required.\r\n"}) as url:
        with pytest.raises(probes.UnusableRedisError, match="refuses the user or password"):
            await probes.redis_version(url)

    with pytest.raises(probes.UnusableRedisError, match="no Redis answers there"):
        await probes.redis_version(f"redis://{NOBODY}")
    assert not await probes.redis_answers(f"redis://{NOBODY}")
