"""The upstream answers with what it received."""

from __future__ import annotations

import socket

import aiohttp

from sentinel_ext.demo.upstream import echoing


async def test_the_answer_shows_method_path_and_headers() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    async with echoing([server]), aiohttp.ClientSession() as session:
        headers = [("X-Sentinel-Tier", "vital"), ("via", "a"), ("via", "b")]
        async with session.post(
            f"http://127.0.0.1:{port}/any/path?q=1", headers=headers, data=b"x"
        ) as answer:
            seen = await answer.json()

    assert (seen["method"], seen["path"]) == ("POST", "/any/path?q=1")
    assert seen["headers"]["x-sentinel-tier"] == "vital"
    assert seen["headers"]["via"] == "a, b"
    assert server.fileno() == -1
