"""The status page's routes around a source of the test's own: who gets what, how often, and for how long."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from support.admin import admin_of
from support.snapshots import make_row, make_snapshot

from sentinel_ext.server import live_status as status
from sentinel_ext.server.live_status import MAX_STREAMS, NoSnapshotError, StatusPages

if TYPE_CHECKING:
    import aiohttp

    from sentinel_ext.core.snapshot import Snapshot

HTML = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
PERIOD_S = 0.05


class Source:
    """Counts how often it was asked."""

    def __init__(self, tenants: int = 1) -> None:
        self.asked = 0
        self.fault: Exception | None = None
        self._rows = tuple(make_row(f"tenant-{n}") for n in range(tenants))

    async def snapshot(self) -> Snapshot:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return make_snapshot(at_s=float(self.asked), tenants=self._rows)


@pytest.fixture
def source() -> Source:
    return Source()


def pages_of(source: Source, **options: Any) -> StatusPages:
    return StatusPages(source, period_s=PERIOD_S, **options)


async def events(response: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            line = await response.content.readline()
            assert line, "the stream ended"
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
    return found


# --- The page and its data ---


async def test_a_browser_gets_the_page_and_a_script_the_index(source):
    async with admin_of(front=pages_of(source)) as session:
        page, index = await session.get("/", headers=HTML), await session.get("/")
        text = await index.text()
        await page.read()

    assert (200, "text/html", "utf-8") == (page.status, page.content_type, page.charset)
    assert (200, "text/plain") == (index.status, index.content_type)
    assert ["accept", "accept"] == [page.headers["vary"], index.headers["vary"]]
    assert all(path in text for path in ("/status", "/events", "/metrics"))
    assert 0 == source.asked


async def test_only_what_is_in_the_page_may_run_and_it_may_talk_to_nobody_else(source):
    async with admin_of(front=pages_of(source)) as session, session.get("/", headers=HTML) as response:
        text, headers = await response.text(), response.headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)

    assert ("'none'", "'self'", "'none'") == (
        policy["default-src"],
        policy["connect-src"],
        policy["frame-ancestors"],
    )
    assert (digest(style), digest(script)) == (policy["style-src"], policy["script-src"])
    assert ("nosniff", "DENY", "no-store") == (
        headers["x-content-type-options"],
        headers["x-frame-options"],
        headers["cache-control"],
    )
    assert [] == re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", text)
    assert [] == re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text)
    assert len(text) < 64 * 1024


async def test_status_is_the_snapshot_as_json(source):
    async with admin_of(pages_of(source)) as session, session.get("/status") as response:
        assert (200, "application/json") == (response.status, response.content_type)
        found = await response.json()

    assert ("1.2.3", "tenant-0") == (found["version"], found["tenants"][0]["name"])


@pytest.mark.parametrize("fault", [NoSnapshotError(), ZeroDivisionError("s3cret")])
async def test_when_nothing_can_be_said_a_script_is_told_so(source, fault):
    failed: list[Exception] = []
    source.fault = fault
    async with admin_of(StatusPages(source, failed.append, period_s=PERIOD_S)) as session:
        async with session.get("/status") as response:
            assert 503 == response.status
            assert "s3cret" not in await response.text()
        source.fault = None
        await asyncio.sleep(PERIOD_S)
        async with session.get("/status") as response:
            assert 200 == response.status

    assert failed == ([] if isinstance(fault, NoSnapshotError) else [fault])


# --- The stream ---


async def test_the_stream_begins_at_once_and_goes_on(source):
    async with admin_of(pages_of(source)) as session, session.get("/events") as response:
        assert (200, "text/event-stream") == (response.status, response.content_type)
        found = await events(response, 3)

    assert [1.0, 2.0, 3.0] == [each["at_s"] for each in found]


async def test_however_many_look_one_snapshot_a_period_is_made(source):
    async with admin_of(pages_of(source)) as session:
        responses = [await session.get("/events") for _ in range(10)]
        found = await asyncio.gather(*(events(response, 4) for response in responses))
        asked = source.asked
        for response in responses:
            response.close()

    assert asked <= 6
    assert all(each["at_s"] <= asked for some in found for each in some)


async def test_while_nobody_looks_nothing_is_made(source):
    pages = pages_of(source)
    async with admin_of(pages) as session:
        async with session.get("/events") as response:
            await events(response, 1)
            response.close()
        async with asyncio.timeout(5):
            while pages.streams:
                await asyncio.sleep(0.01)
        before = source.asked
        await asyncio.sleep(4 * PERIOD_S)

    assert before == source.asked


async def test_who_comes_later_need_not_wait_for_the_next_period():
    source = Source()
    async with admin_of(StatusPages(source, period_s=30.0)) as session:
        async with session.get("/events") as first:
            found = await events(first, 1)
        async with session.get("/events") as second:
            found += await events(second, 1)

    assert [1.0, 1.0] == [each["at_s"] for each in found]


async def test_streams_are_bounded_and_a_place_that_is_free_is_given_again(source, monkeypatch):
    monkeypatch.setattr(status, "MAX_STREAMS", 2)
    pages = pages_of(source)
    async with admin_of(pages) as session:
        responses = [await session.get("/events") for _ in range(2)]
        async with session.get("/events") as refused:
            assert (503, "10") == (refused.status, refused.headers["retry-after"])
        responses[0].close()
        async with asyncio.timeout(5):
            while pages.streams == 2:
                await asyncio.sleep(0.01)
        async with session.get("/events") as given:
            assert 200 == given.status
        responses[1].close()
    assert 0 < MAX_STREAMS <= 64


async def test_a_fault_of_the_source_leaves_the_stream_open_with_a_heartbeat(source):
    async with admin_of(pages_of(source)) as session, session.get("/events") as response:
        await events(response, 1)
        source.fault = ZeroDivisionError()
        async with asyncio.timeout(5):
            while await response.content.readline() != b": nothing new\n":
                pass
        source.fault = None
        assert 1 == len(await events(response, 1))


async def test_streams_wait_together_for_a_source_that_hangs(monkeypatch):
    """Each of 32 would else wait for the timeouts of all before it: a minute without a word."""
    monkeypatch.setattr(status, "MAKE_TIMEOUT_S", 0.2)
    pages, loop = pages_of(Hanging()), asyncio.get_running_loop()
    async with admin_of(pages) as session:
        responses = [await session.get("/events") for _ in range(MAX_STREAMS)]
        began = loop.time()
        await asyncio.gather(*(heartbeat(response) for response in responses))
        took = loop.time() - began
        for response in responses:
            response.close()

    assert took < MAX_STREAMS * 0.2 / 4


class Hanging(Source):
    """Says nothing."""

    async def snapshot(self) -> Snapshot:
        await asyncio.sleep(60)
        return await super().snapshot()


async def heartbeat(response: aiohttp.ClientResponse) -> None:
    async with asyncio.timeout(20):
        while await response.content.readline() != b": nothing new\n":
            pass


async def test_a_reader_that_does_not_read_is_dropped_and_holds_nobody_up():
    source = Source(tenants=4_000)  # some 600 KB each
    pages = pages_of(source, slow_reader_s=0.3)
    async with admin_of(front=pages, read_bufsize=2**22) as session, session.get("/events") as response:
        assert response.url.host is not None
        assert response.url.port is not None
        await events(response, 1)
        _, idle = await asyncio.open_connection(response.url.host, response.url.port, limit=1024)
        idle.write(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(20):
            while pages.streams < 2:
                await events(response, 1)
            while pages.streams == 2:
                await events(response, 1)
        assert 1 == len(await events(response, 1))
        assert 1 == pages.streams
        idle.close()


async def test_open_streams_do_not_hold_the_end_up():
    pages = StatusPages(Source(), period_s=30.0)
    loop = asyncio.get_running_loop()
    async with admin_of(front=pages) as session:
        response = await session.get("/events")
        await events(response, 1)
        ended = loop.time()
    response.close()

    assert loop.time() - ended < 0.5
    assert 0 == pages.streams


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
