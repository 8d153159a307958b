"""Rate limits over admin HTTP: rules for all to see, counters acted on only by who may."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.admin import admin_of

from sentinel_ext.server.breakers import StoreAwayError
from sentinel_ext.server.ratelimits import MAX_ENTRIES, MAX_REFUND, NoSuchLimitError, RateLimitPages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import aiohttp

TARGET = {"domain": "shop", "entries": [["user", "a"]]}


class Limits:
    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []

    async def shown(self) -> dict[str, Any]:
        return {"domains": [{"domain": "shop"}]}

    async def reset(self, domain: str, entries: Sequence[tuple[str, str]]) -> dict[str, Any]:
        return self._do(domain, "reset", entries)

    async def refund(self, domain: str, entries: Sequence[tuple[str, str]], hits: int) -> dict[str, Any]:
        return self._do(domain, "refund", entries, hits)

    def _do(self, domain: str, *what: Any) -> dict[str, Any]:
        if domain == "away":
            raise StoreAwayError("not connected to Redis")
        if domain != "shop":
            raise NoSuchLimitError
        self.done.append(what)
        return {"rule": "user"}


@asynccontextmanager
async def serving(*, may_act: bool = True) -> AsyncIterator[tuple[Limits, aiohttp.ClientSession]]:
    limits = Limits()
    async with admin_of(RateLimitPages(limits, may_act=may_act)) as session:
        yield limits, session


async def test_rules_are_shown_and_named_on_the_index() -> None:
    async with serving(may_act=False) as (_, session):
        async with session.get("/ratelimits") as response:
            assert {"domains": [{"domain": "shop"}]} == await response.json()
        async with session.get("/") as response:
            assert "/ratelimits/reset" in await response.text()


async def test_counters_are_reset_and_hits_refunded() -> None:
    async with serving() as (limits, session):
        for path, body in (("reset", TARGET), ("refund", {**TARGET, "hits": 5})):
            async with session.post(f"/ratelimits/{path}", json=body) as response:
                assert (200, {"rule": "user"}) == (response.status, await response.json())
        assert [("reset", [("user", "a")]), ("refund", [("user", "a")], 5)] == limits.done


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("reset", b"", 400, "entries"),
        ("reset", b"\xff", 400, "entries"),
        ("reset", b"[]", 400, "entries"),
        ("reset", b'{"domain": "shop", "entries": [["a"]]}', 400, "entries"),
        ("reset", b'{"domain": "shop", "entries": [], "x": 1}', 400, "x"),
        ("reset", b'{"domain": "", "entries": [["a", "b"]]}', 400, "entries"),
        ("reset", b'{"domain": "shop", "entries": []}', 400, f"1 to {MAX_ENTRIES}"),
        ("refund", b'{"domain": "shop", "entries": [["a", "b"]]}', 400, f"between 1 and {MAX_REFUND}"),
        ("refund", b'{"domain": "shop", "entries": [["a", "b"]], "hits": -1}', 400, "between 1"),
        ("reset", b'{"domain": "elsewhere", "entries": [["a", "b"]]}', 404, "GET /ratelimits"),
        ("reset", b'{"domain": "away", "entries": [["a", "b"]]}', 503, "look again"),
        ("reset", b'{"domain": "' + b"x" * 20_000 + b'"}', 400, "entries"),
    ],
)
async def test_what_is_wrong_is_said(path: str, body: bytes, status: int, words: str) -> None:
    async with serving() as (limits, session):
        headers = {"content-type": "application/json"}
        async with session.post(f"/ratelimits/{path}", data=body, headers=headers) as response:
            assert status == response.status
            assert words in (await response.json())["error"]
        assert [] == limits.done


async def test_acting_needs_permission_and_json() -> None:
    async with (
        serving(may_act=False) as (_, session),
        session.post("/ratelimits/reset", json=TARGET) as response,
    ):
        assert 403 == response.status
        assert "ADMIN_ACTIONS=true" in (await response.json())["error"]
    async with serving() as (_, session), session.post("/ratelimits/reset", data="{}") as response:
        assert 415 == response.status
