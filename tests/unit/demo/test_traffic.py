"""What an answer means, and how a tenant's answers are counted."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from sentinel_ext.demo.traffic import Outcome, Sender, Tally, outcome_of

DECIDED = {"x-correlation-id": "c-1"}
REFUSED = {**DECIDED, "x-sentinel-reason": "shed"}


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, DECIDED, Outcome.ALLOWED),
        (404, DECIDED, Outcome.ALLOWED),  # Sentinel let it pass, the upstream has no such page
        (429, REFUSED, Outcome.LIMITED),
        (429, {}, Outcome.LIMITED),
        (503, REFUSED, Outcome.SHED),
        (200, {}, Outcome.ERROR),  # Envoy let it pass without asking
        (503, {}, Outcome.ERROR),  # Envoy's own
        (503, DECIDED, Outcome.ERROR),  # allowed, but the upstream is gone
        (500, DECIDED, Outcome.ERROR),
    ],
)
def test_an_answer_is_sentinels_or_an_error(status: int, headers: dict[str, str], expected: Outcome) -> None:
    assert expected is outcome_of(status, headers)


def test_a_tally_adds_up() -> None:
    tally = Tally("acme", "vital")

    tally.count(200, {**DECIDED, "x-ratelimit-remaining": "9"})
    tally.count(429, {**REFUSED, "x-ratelimit-remaining": "0"})
    tally.count(503, REFUSED)

    assert tally.summary() == {"tier": "vital", "sent": 3, "allowed": 1, "limited": 1, "shed": 1}
    assert tally.remaining == "0"  # the last answer that said it


def test_errors_are_counted_apart_and_the_first_is_kept() -> None:
    tally = Tally("acme", "vital")

    tally.count(503, {}, "upstream connect\n error " + "x" * 1000)
    tally.count_error("no answer")

    assert tally.summary()["errors"] == 2
    assert tally.sent == 2
    assert tally.first_error.startswith("HTTP 503 without a decision of Sentinel: upstream connect error xxx")
    assert len(tally.first_error) < 200


def test_the_summary_has_no_errors_where_there_were_none() -> None:
    assert "errors" not in Tally("acme", "vital").summary()


async def test_the_sample_sends_exactly_as_many_requests_as_said_for_each_tenant() -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["x-tenant-id"])
        return web.Response(headers={**DECIDED, "x-ratelimit-remaining": "7"})

    application = web.Application()
    application.router.add_get("/hello", answer)
    tallies = [Tally("a", "vital"), Tally("b", "economy")]
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        await Sender(session, str(server.make_url("/hello")), "x-tenant-id").sample(tallies, requests=11)

    assert {"a": 11, "b": 11} == {name: seen.count(name) for name in seen}
    assert [(11, 11, "7")] * 2 == [(tally.sent, tally.allowed, tally.remaining) for tally in tallies]


async def test_a_request_that_nobody_answers_is_an_error_and_not_an_exception() -> None:
    tally = Tally("a", "vital")
    async with aiohttp.ClientSession() as session:
        await Sender(session, f"http://127.0.0.1:{unused_port()}/", "x-tenant-id").send(tally)

    assert tally.errors == 1
    assert tally.first_error.startswith("no answer from Envoy: ")
