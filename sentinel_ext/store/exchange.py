"""Command and reply on a connection that redis-py has made: no streams, no task, no timer of its own.

redis-py's own call goes through asyncio's streams, two timeouts and a lock: 64 µs of CPU for one script call,
which small batches pay in full; this takes about 15 (benchmarks/decision.py --batch 1). redis-py still does
what is worth a library: URLs, TLS, AUTH and SELECT; hiredis packs and parses.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import hiredis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio.connection import AbstractConnection

# A batch of 512 requests to a cluster is a command for each slot, and the other batch likewise; more means
# that replies stopped coming.
MAX_WAITING: Final = 2_048


class Exchange(asyncio.Protocol):
    """Owns the transport from now on. Replies come in the order of the commands."""

    def __init__(self, transport: asyncio.Transport) -> None:
        """Take `transport` over; nothing may be under way on it."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._lost: Exception | None = None
        transport.set_protocol(self)

    @classmethod
    def over(cls, connection: AbstractConnection) -> Exchange:
        """Take over what redis-py has connected and authenticated."""
        writer = connection._writer  # noqa: SLF001  redis-py has no public way to its transport
        if writer is None:
            raise ConnectionError("not connected")
        return cls(cast("asyncio.Transport", writer.transport))

    def send(self, *command: bytes | str | int) -> asyncio.Future[Any]:
        """Send a command; the future gets its reply, an error reply as `hiredis.ReplyError` value.

        A caller that loses patience cancels the future: the reply is then read and dropped.

        Raises:
            ConnectionError: the connection is gone, or replies have stopped coming.
        """
        if self._lost is not None:
            raise ConnectionError(str(self._lost)) from self._lost
        if len(self._waiting) >= MAX_WAITING:
            raise ConnectionError("replies have stopped coming")
        waiter = self._loop.create_future()
        self._waiting.append(waiter)
        self._transport.write(hiredis.pack_command(command))
        return waiter

    def send_many(self, commands: Sequence[Sequence[bytes | str | int]]) -> list[asyncio.Future[Any]]:
        """Send commands in one write; see `send`.

        Raises:
            ConnectionError: the connection is gone, or replies have stopped coming.
        """
        if self._lost is not None:
            raise ConnectionError(str(self._lost)) from self._lost
        if len(self._waiting) + len(commands) > MAX_WAITING:
            raise ConnectionError("replies have stopped coming")
        waiters = [self._loop.create_future() for _ in commands]
        self._waiting.extend(waiters)
        self._transport.write(b"".join([hiredis.pack_command(tuple(command)) for command in commands]))
        return waiters

    def close(self) -> None:
        """Close the transport; who waits is told."""
        self._transport.abort()
        self._fail(ConnectionError("closed"))

    def data_received(self, data: bytes) -> None:
        """Hand out the replies that are whole."""
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            # Not Redis, or out of step: no later reply could be trusted to be whose it seems.
            self._transport.abort()
            self._fail(ConnectionError("what came is not a reply"))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell who waits."""
        self._fail(error or ConnectionError("Redis closed the connection"))

    def _fail(self, error: Exception) -> None:
        self._lost = self._lost or error
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(ConnectionError(str(error)))
                waiter.exception()  # retrieved: nobody may wait any more
