"""The status page: `GET /` for browsers, `GET /status` its data as JSON, `GET /events` that once a second.

However many look, one snapshot a second is made, and none while nobody looks. Nothing waits for a slow
reader: each stream sends the newest snapshot there is when its reader has taken the one before.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from aiohttp import web

from sentinel_ext.server.page import HEADERS, page

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.core.snapshot import Snapshot

PERIOD_S: Final = 1.0
# Of one process. A stream holds a few KB here, and at most twice 64 KB while its reader is slow.
MAX_STREAMS: Final = 32
RETRY_AFTER_S: Final = 10
# Whoever does not take a snapshot for so long is sent away; a browser comes back by itself.
SLOW_READER_S: Final = 5.0
# Making one takes milliseconds; the store, or a worker, may take its own timeout.
MAKE_TIMEOUT_S: Final = 2.0
RECONNECT_MS: Final = 1_000

_NO_STORE: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_STREAM_HEADERS: Final = {**_NO_STORE, "content-type": "text/event-stream", "x-accel-buffering": "no"}
_HEARTBEAT: Final = b": nothing new\n\n"


class NoSnapshotError(Exception):
    """Nobody could say anything just now."""


class Source(Protocol):
    """What is shown."""

    async def snapshot(self) -> Snapshot:
        """Look at everything once.

        Raises:
            NoSnapshotError: nobody could say anything just now.
        """
        ...


class Frame(msgspec.Struct, frozen=True):
    """One snapshot as JSON.

    Attributes:
        number: ascends from 1.
        made_s: when it was made, or last failed to be; the event loop's time.
        is_old: another one should be there and could not be made.
    """

    number: int = 0
    made_s: float = float("-inf")
    body: bytes = b""
    is_old: bool = False


class Feed:
    """Makes snapshots for all who look, one at a time and not more than one a period."""

    def __init__(self, source: Source, failed: Callable[[Exception], None], period_s: float) -> None:
        """Ask `source`; `failed` hears of its faults."""
        self._source, self._failed, self._period_s = source, failed, period_s
        self._frame = Frame()
        self._turn = asyncio.Lock()
        self._closed = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        """No more frames come."""
        return self._closed.is_set()

    def close(self) -> None:
        """Let everybody go."""
        self._closed.set()

    async def after(self, seen: int) -> Frame:
        """Return a frame that is not the one with the number `seen`, and not older than a period.

        Waits until there is one. If none can be made, or the feed is closed, the last one is returned.
        """
        if self._frame.number != seen and self._due_s() > 0:
            return self._frame  # whoever holds the turn may be waiting for the next
        before = self._frame
        async with self._turn:
            if self._frame is not before:
                return self._frame  # made, or failed to be, while this one waited: not once more for each
            if self._frame.number == seen:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closed.wait(), max(0.0, self._due_s()))
            if self._due_s() <= 0 and not self.is_closed:
                await self._make()
            return self._frame

    def _due_s(self) -> float:
        return self._frame.made_s + self._period_s - asyncio.get_running_loop().time()

    async def _make(self) -> None:
        loop, number = asyncio.get_running_loop(), self._frame.number
        now_s = loop.time()
        try:
            async with asyncio.timeout(MAKE_TIMEOUT_S):
                body = msgspec.json.encode(await self._source.snapshot())
        except (TimeoutError, NoSnapshotError):
            # Not tried again before the next period, however many ask.
            self._frame = Frame(number, loop.time(), self._frame.body, is_old=True)
        except Exception as error:  # noqa: BLE001  the page must not end because of a bug of ours
            self._frame = Frame(number, loop.time(), self._frame.body, is_old=True)
            self._failed(error)
        else:
            self._frame = Frame(number + 1, now_s, body)


class StatusPages:
    """The three routes. `GET /` is the admin server's: it asks `front`."""

    index = "/status    what the page at / shows browsers, as JSON; /events streams it\n"

    def __init__(
        self,
        source: Source,
        failed: Callable[[Exception], None] = lambda _error: None,
        *,
        period_s: float = PERIOD_S,
        slow_reader_s: float = SLOW_READER_S,
    ) -> None:
        """Show `source`; `failed` hears of its faults."""
        self.streams = 0
        self._feed = Feed(source, failed, period_s)
        self._slow_reader_s = slow_reader_s

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/status", self._status)
        app.router.add_get("/events", self._events, allow_head=False)
        app.on_shutdown.append(self._shut_down)

    @staticmethod
    def front(request: web.Request) -> web.Response | None:
        """Return the page if the request comes from a browser."""
        if "text/html" not in request.headers.get("accept", ""):
            return None
        return web.Response(body=page().body, headers={**HEADERS, **page().headers})

    async def _shut_down(self, _app: web.Application) -> None:
        self._feed.close()

    async def _status(self, _request: web.Request) -> web.Response:
        frame = await self._feed.after(-1)
        if frame.is_old or not frame.body:
            return web.json_response(
                {"error": "nobody can say anything just now"}, status=503, headers=_NO_STORE
            )
        return web.Response(body=frame.body, content_type="application/json", headers=_NO_STORE)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self.streams >= MAX_STREAMS or self._feed.is_closed:
            headers = {**_NO_STORE, "retry-after": str(RETRY_AFTER_S)}
            return web.Response(status=503, text="too many streams are open\n", headers=headers)
        self.streams += 1
        try:
            response = web.StreamResponse(headers=_STREAM_HEADERS)
            await response.prepare(request)
            await self._stream(response)
        except TimeoutError:
            # What it has not read would wait for it in the buffers: there is no polite end.
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass
        finally:
            self.streams -= 1
        return response

    async def _stream(self, response: web.StreamResponse) -> None:
        await response.write(b"retry: %d\n\n" % RECONNECT_MS)
        seen = 0
        while not self._feed.is_closed:
            frame = await self._feed.after(seen)
            event = _HEARTBEAT if frame.is_old or frame.number == seen else b"data: %s\n\n" % frame.body
            seen = frame.number
            async with asyncio.timeout(self._slow_reader_s):
                await response.write(event)
