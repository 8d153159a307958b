"""Circuit breakers over admin HTTP: shown to all, acted on only by who may, and by no page of a browser."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.admin import admin_of

from sentinel_ext.server.admin import MAX_BODY_BYTES
from sentinel_ext.server.breakers import BreakerPages, StoreAwayError, UnknownUpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp


class Fleet:
    """Two breakers; `away` is a store that does not answer."""

    def __init__(self) -> None:
        self.states = {"default": "closed", "a b/ü": "closed"}
        self.away = False

    async def breakers(self) -> list[dict[str, Any]]:
        return [{"upstream": name, "state": state} for name, state in self.states.items()]

    async def force(self, upstream: str, mode: str) -> dict[str, Any]:
        if self.away:
            raise StoreAwayError("not connected to Redis")
        if upstream not in self.states:
            raise UnknownUpstreamError(upstream)
        self.states[upstream] = mode
        return {"upstream": upstream, "state": mode}


@asynccontextmanager
async def serving(*, may_act: bool = True) -> AsyncIterator[tuple[Fleet, aiohttp.ClientSession]]:
    fleet = Fleet()
    async with admin_of(BreakerPages(fleet, may_act=may_act)) as session:
        yield fleet, session


async def order(session: aiohttp.ClientSession, path: str, **options: Any) -> tuple[int, Any]:
    async with session.post(path, **options) as response:
        return response.status, await response.json()


async def test_breakers_are_shown_without_the_right_to_act() -> None:
    async with serving(may_act=False) as (_, session), session.get("/breakers") as response:
        shown = await response.json()

    expected = [{"upstream": "default", "state": "closed"}, {"upstream": "a b/ü", "state": "closed"}]
    assert {"breakers": expected} == shown


@pytest.mark.parametrize("mode", ["open", "closed", "auto"])
async def test_an_order_reaches_the_fleet(mode: str) -> None:
    async with serving() as (fleet, session):
        answer = await order(session, "/breakers/default", json={"mode": mode})

        assert (200, {"upstream": "default", "state": mode}) == answer
        assert mode == fleet.states["default"]


async def test_a_name_with_any_characters_can_be_addressed() -> None:
    async with serving() as (fleet, session):
        status, _ = await order(session, "/breakers/a%20b%2F%C3%BC", json={"mode": "open"})

        assert (200, "open") == (status, fleet.states["a b/ü"])


async def test_without_admin_actions_nothing_is_changed_and_the_answer_says_how_to_allow_it() -> None:
    async with serving(may_act=False) as (fleet, session):
        status, answer = await order(session, "/breakers/default", json={"mode": "open"})

        assert 403 == status
        assert "ADMIN_ACTIONS=true" in answer["error"]
        assert "closed" == fleet.states["default"]


@pytest.mark.parametrize(
    "options",
    [
        {"data": b'{"mode": "open"}', "headers": {"content-type": "text/plain"}},
        {"data": {"mode": "open"}},
        {"data": b"mode=open", "headers": {"content-type": "application/x-www-form-urlencoded"}},
    ],
    ids=["text", "form", "raw form"],
)
async def test_what_a_page_in_a_browser_could_post_without_asking_is_refused(options: dict[str, Any]) -> None:
    """These three content types need no CORS preflight."""
    async with serving() as (fleet, session):
        status, answer = await order(session, "/breakers/default", **options)

        assert 415 == status
        assert "application/json" in answer["error"]
        assert "closed" == fleet.states["default"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'"open"',
        b"{}",
        b'{"mode": "ajar"}',
        b'{"mode": 1}',
        b'{"mode": ["open"]}',
        b'{"mode": "' + b"x" * MAX_BODY_BYTES + b'"}',
    ],
    ids=["empty", "half", "binary", "list", "text", "nothing", "unknown", "number", "nested", "large"],
)
async def test_an_order_that_makes_no_sense_is_refused_with_what_is_allowed(body: bytes) -> None:
    async with serving() as (fleet, session):
        headers = {"content-type": "application/json"}
        status, answer = await order(session, "/breakers/default", data=body, headers=headers)

        assert 400 == status
        assert all(mode in answer["error"] for mode in ("open", "closed", "auto"))
        assert "closed" == fleet.states["default"]


async def test_an_unknown_upstream_is_not_invented() -> None:
    async with serving() as (fleet, session):
        status, answer = await order(session, "/breakers/nobody", json={"mode": "open"})

        assert 404 == status
        assert "'nobody'" in answer["error"]
        assert {"default", "a b/ü"} == set(fleet.states)


async def test_a_store_that_does_not_confirm_is_told() -> None:
    async with serving() as (fleet, session):
        fleet.away = True
        status, answer = await order(session, "/breakers/default", json={"mode": "open"})

        assert 503 == status
        assert "not connected to Redis" in answer["error"]


async def test_the_index_names_the_pages() -> None:
    async with serving() as (_, session), session.get("/") as response:
        assert "/breakers" in await response.text()
