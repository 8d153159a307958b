"""One connection to Redis that looks after itself: connects, loads nothing it does not need, comes back."""

from __future__ import annotations

import asyncio
import contextlib
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import hiredis
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.exceptions import RedisError

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

# Connecting includes TLS, AUTH and SELECT; a Redis that needs longer is not one to wait for.
CONNECT_TIMEOUT_S = 1.0
# A call that takes this long has left every request's deadline far behind: its connection is given up, so
# that a frozen server costs callers nothing from then on.
STALL_S = 0.25
BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0
# An idle connection is tried this often: a store that went away is known before the next request needs it.
PING_S = 1.0


class Script:
    """A Lua file of this package and the digest Redis knows it by."""

    __slots__ = ("digest", "text")

    def __init__(self, name: str) -> None:
        """Read `store/lua/<name>.lua`."""
        self.text = files("sentinel_ext.store").joinpath(f"lua/{name}.lua").read_bytes()
        # Redis names scripts by SHA-1; nothing secret hangs on it.
        self.digest = sha1(self.text, usedforsecurity=False).hexdigest().encode()


class _NoScriptError(StoreError):
    """Redis does not know the script's digest."""


def _stalled(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


class Link:
    """A connection kept up by a task of its own. One call at a time: callers take turns by `lock`."""

    def __init__(self, url: str, changed: Callable[[bool, str], None], jitter: Callable[[], float]) -> None:
        """Know where to connect; `start` does it.

        Args:
            url: redis://, rediss:// or unix:// URL.
            changed: told (is up, why) when the connection comes or goes.
            jitter: a number in [0, 1) that spreads the reconnects of a fleet.
        """
        self.lock = asyncio.Lock()
        self.is_up = False
        self._connection = _connection(url)
        self._exchange: Exchange | None = None
        self._changed = changed
        self._jitter = jitter
        self._down = asyncio.Event()
        self._closed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect in the background."""
        self._loop = asyncio.get_running_loop()
        self._down.set()
        self._task = asyncio.create_task(self._keep_up(), name="store-link")

    async def call(self, script: Script, keys: Sequence[bytes], *args: bytes | str | int) -> Any:  # noqa: ANN401  as Redis replies
        """Run a script; its text is sent only when Redis does not know it (first use, SCRIPT FLUSH, restart).

        Raises:
            StoreError: with the fault; a connection in doubt has been given up.
        """
        try:
            return await self._ask(b"EVALSHA", script.digest, len(keys), *keys, *args)
        except _NoScriptError:
            return await self._ask(b"EVAL", script.text, len(keys), *keys, *args)

    async def close(self) -> None:
        """Stop keeping up and disconnect."""
        # Seen with redis-py 8.1 on Python 3.11: a cancellation that meets a connection just made is swallowed
        # on the way. So the task looks at the flag as well.
        self._closed.set()
        self._down.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self.is_up = False
        await self._disconnect()

    async def _ask(self, *command: bytes | str | int) -> Any:  # noqa: ANN401  as Redis replies
        """Run one exchange within STALL_S; a connection in doubt is given up.

        Raises:
            StoreError: the one place that makes it from what Redis and the connection say.
        """
        exchange = self._exchange
        if exchange is None:
            raise StoreError(StoreFault.UNREACHABLE, "not connected to Redis")
        try:
            waiter = exchange.send(*command)
            # A timer, not asyncio.timeout: that is 3 µs, this 0.5.
            stall = self._loop.call_later(STALL_S, _stalled, waiter)
            try:
                reply = await waiter
            finally:
                stall.cancel()
        except TimeoutError as error:
            await self._give_up(f"no reply within {STALL_S * 1000:.0f} ms")
            raise StoreError(StoreFault.TIMEOUT, "Redis did not reply in time") from error
        except OSError as error:
            await self._give_up(str(error))
            raise StoreError(StoreFault.UNREACHABLE, str(error)) from error
        if isinstance(reply, hiredis.ReplyError):
            await self._refused(str(reply))
        return reply

    async def _refused(self, words: str) -> NoReturn:
        """Make an error reply an exception."""
        kind = words.partition(" ")[0]
        if kind == "NOSCRIPT":
            raise _NoScriptError(StoreFault.ERROR, words)
        if kind == "READONLY":
            await self._give_up("a replica answered; connecting again may find the primary")
        elif kind == "LOADING":
            await self._give_up("Redis is loading its data set")
        raise StoreError(StoreFault.ERROR, f"Redis refused: {words}")

    async def _disconnect(self) -> None:
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None
        await self._connection.disconnect(nowait=True)

    async def _give_up(self, why: str) -> None:
        if self.is_up:
            self.is_up = False
            self._changed(False, why)
        await self._disconnect()
        self._down.set()

    async def _until_down(self) -> None:
        """Return when the connection was given up; try it while nobody uses it."""
        while not self._down.is_set():
            try:
                async with asyncio.timeout(PING_S):
                    await self._down.wait()
            except TimeoutError:
                if not self.lock.locked():
                    async with self.lock:
                        with contextlib.suppress(StoreError):
                            await self._ask(b"TIME")

    async def _keep_up(self) -> None:
        backoff = BACKOFF_FIRST_S
        while not self._closed.is_set():
            await self._until_down()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                    self._exchange = Exchange.over(self._connection)
                    # A server that loads its data set or cannot run scripts is not up yet.
                    await self._ask(b"TIME")
            except (TimeoutError, RedisError, OSError, StoreError) as error:
                await self._disconnect()
                self._changed(False, str(error) or f"no answer within {CONNECT_TIMEOUT_S:.0f} s")
                await asyncio.sleep(backoff * (0.5 + 0.5 * self._jitter()))
                backoff = min(BACKOFF_MAX_S, backoff * 2)
                continue
            if self._closed.is_set():
                break
            backoff = BACKOFF_FIRST_S
            self._down.clear()
            self.is_up = True
            self._changed(True, "connected")


def _connection(url: str) -> AbstractConnection:
    kwargs: dict[str, Any] = dict(parse_url(url))
    kind: type[AbstractConnection] = kwargs.pop("connection_class", Connection)
    kwargs.setdefault("socket_timeout", CONNECT_TIMEOUT_S)
    kwargs.setdefault("socket_connect_timeout", CONNECT_TIMEOUT_S)
    # RESP2 needs no HELLO: fewer rights for an ACL user, and every proxy speaks it.
    kwargs.setdefault("protocol", 2)
    return kind(**kwargs)
