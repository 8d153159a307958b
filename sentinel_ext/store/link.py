"""One connection to Redis that looks after itself: connects, loads nothing it does not need, comes back."""

from __future__ import annotations

import asyncio
import contextlib
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import hiredis
from redis.exceptions import RedisError

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.credentials import PasswordFile
from sentinel_ext.store.endpoint import CONNECT_TIMEOUT_S, Endpoint, FixedEndpoint
from sentinel_ext.store.exchange import Exchange
from sentinel_ext.store.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn, TypeAlias

    from redis.asyncio.connection import AbstractConnection

    # A script, its keys, its arguments.
    Command: TypeAlias = tuple["Script", Sequence[bytes], Sequence[bytes | str | int]]
    # EVAL or EVALSHA, the script's text or digest, the command.
    _Line: TypeAlias = tuple[bytes, bytes, Command]

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


class RedirectError(StoreError):
    """A node of a cluster says that another one has the slot.

    Attributes:
        is_moved: for good (MOVED); else only for this once (ASK).
        slot, host, port: where to; "" is the host that was asked.
    """

    def __init__(self, words: str) -> None:
        super().__init__(StoreFault.ERROR, f"Redis refused: {words}")
        kind, slot, place = (*words.split(" "), "", "", "")[:3]
        self.is_moved = kind == "MOVED"
        self.slot = int(slot) if slot.isdigit() else -1
        self.host, _, port = place.rpartition(":")
        self.port = int(port) if port.isdigit() else 0


class _NoScriptError(StoreError):
    """Redis does not know the script's digest."""


def _is_error(reply: Any, kind: str) -> bool:  # noqa: ANN401  as Redis replies
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith(kind)


def _stalled(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


class Link:
    """A connection kept up by a task of its own. One call at a time: callers take turns by `lock`."""

    def __init__(
        self,
        place: str | Endpoint,
        changed: Callable[[bool, str], None],
        jitter: Callable[[], float],
        refusals: Refusals | None = None,
    ) -> None:
        """Know where to connect; `start` does it.

        Args:
            place: redis://, rediss:// or unix:// URL, or what makes the connections.
            changed: told (is up, why) when the connection comes or goes.
            jitter: a number in [0, 1) that spreads the reconnects of a fleet.
            refusals: hears what Redis refuses; connections of one store share it.
        """
        self.lock = asyncio.Lock()
        self.is_up = False
        self._endpoint: Endpoint = FixedEndpoint(place) if isinstance(place, str) else place
        self._connection: AbstractConnection | None = None
        self._exchange: Exchange | None = None
        self._login: PasswordFile | None = None
        self._changed = changed
        self._jitter = jitter
        self._refusals = Refusals() if refusals is None else refusals
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

    async def many(self, commands: Sequence[Command], *, asking: bool = False) -> list[Any]:
        """Run scripts in one write; each result is Redis' reply, or a StoreError.

        Args:
            asking: say ASKING before each: a cluster's slot is on its way here.

        Raises:
            StoreError: the connection failed; nothing is known of any.
        """
        replies = await self._round([(b"EVALSHA", c[0].digest, c) for c in commands], asking=asking)
        unknown = [at for at, reply in enumerate(replies) if _is_error(reply, "NOSCRIPT")]
        if unknown:
            # One text for each script, in front: Redis knows it when it comes to the others.
            first: dict[bytes, int] = {}
            for at in unknown:
                first.setdefault(commands[at][0].digest, at)
            again: list[_Line] = []
            for at in unknown:
                script = commands[at][0]
                is_first = first[script.digest] == at
                how = (b"EVAL", script.text) if is_first else (b"EVALSHA", script.digest)
                again.append((*how, commands[at]))
            for at, reply in zip(unknown, await self._round(again, asking=asking), strict=True):
                replies[at] = reply
        return [await self._result(reply) for reply in replies]

    async def _round(self, lines: Sequence[_Line], *, asking: bool) -> list[Any]:
        """Send commands in one write and read as many replies, error replies as values."""
        exchange = self._exchange
        if exchange is None:
            raise StoreError(StoreFault.UNREACHABLE, "not connected to Redis")
        packed: list[Sequence[bytes | str | int]] = []
        for verb, named, (_, keys, arguments) in lines:
            if asking:
                packed.append((b"ASKING",))
            packed.append((verb, named, len(keys), *keys, *arguments))
        try:
            waiters = exchange.send_many(packed)
            async with asyncio.timeout(STALL_S):
                replies = [await waiter for waiter in waiters]
        except OSError as error:
            await self._lost(error)
        return replies[1::2] if asking else replies

    async def _result(self, reply: Any) -> Any:  # noqa: ANN401  as Redis replies
        if not isinstance(reply, hiredis.ReplyError):
            return reply
        try:
            await self._refused(str(reply))
        except StoreError as error:
            return error

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
        except OSError as error:
            await self._lost(error)
        if isinstance(reply, hiredis.ReplyError):
            await self._refused(str(reply))
        return reply

    async def _lost(self, error: OSError) -> NoReturn:
        """Give the connection up and make of it what callers understand."""
        if isinstance(error, TimeoutError):
            await self._give_up(f"no reply within {STALL_S * 1000:.0f} ms")
            raise StoreError(StoreFault.TIMEOUT, "Redis did not reply in time") from error
        await self._give_up(str(error))
        raise StoreError(StoreFault.UNREACHABLE, str(error)) from error

    async def _refused(self, words: str) -> NoReturn:
        """Make an error reply an exception."""
        kind = words.partition(" ")[0]
        if kind == "NOSCRIPT":
            raise _NoScriptError(StoreFault.ERROR, words)
        # A script that meets it on its way has it in the middle of its own words (Redis 6.2).
        if kind in {"READONLY", "MASTERDOWN"} or "-READONLY " in words:
            await self._give_up("a replica answered; connecting again may find the primary")
        elif kind == "LOADING":
            await self._give_up("Redis is loading its data set")
        elif kind in {"MOVED", "ASK"}:
            raise RedirectError(words)
        self._refusals.hear(words, self._loop.time())
        if kind == "NOAUTH":
            await self._give_up("the login does not hold any more")
        raise StoreError(StoreFault.ERROR, f"Redis refused: {words}")

    async def _disconnect(self) -> None:
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
            self._connection = None

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
                await self._renew_password()
                if not self.lock.locked():
                    async with self.lock:
                        with contextlib.suppress(StoreError):
                            await self._ask(b"TIME")

    async def _renew_password(self) -> None:
        """Say the new password when its file has changed; what the old one opened stays open meanwhile.

        Redis may hear of it later than we do: one that is refused is said again.
        """
        login = self._login
        news = None if login is None else login.news()
        if login is None or news is None:
            return
        with contextlib.suppress(StoreError):
            async with self.lock:
                await self._ask(b"AUTH", *news)
            login.said(news)

    async def _keep_up(self) -> None:
        backoff = BACKOFF_FIRST_S
        while not self._closed.is_set():
            await self._until_down()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    self._connection = await self._endpoint.open()
                    login = self._connection.credential_provider
                    self._login = login if isinstance(login, PasswordFile) else None
                    self._exchange = Exchange.over(self._connection)
                    # A server that loads its data set or cannot run scripts is not up yet.
                    await self._ask(b"TIME")
            except (TimeoutError, RedisError, OSError, StoreError) as error:
                await self._disconnect()
                self._refusals.hear(str(error), self._loop.time())
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
