"""The upstream answers with what it received."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from sentinel_ext.demo.upstream import echoing, main


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


@pytest.mark.parametrize("arguments", [[], ["8080"], ["127.0.0.1:8080", "more"]])
def test_without_one_address_it_tells_how_it_is_used(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Served by itself it is in tests/deploy/test_compose.py."""
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: python -m sentinel_ext.demo.upstream HOST:PORT")
