"""A server that speaks Redis' protocol and says what a test wants: states that a real one is seldom in."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

import hiredis

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

OK = b"+OK\r\n"


def bulks(*words: str | bytes) -> bytes:
    """Return an array of strings, as Redis writes it."""
    encoded = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


class FakeRedis:
    """Answers each command by `answer(words)`; to None it stays silent. `commands` are those that came."""

    def __init__(
        self, answer: Callable[[list[bytes]], bytes | None], context: ssl.SSLContext | None = None
    ) -> None:
        self.commands: list[list[bytes]] = []
        self._answer, self._context = answer, context
        self._served: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        for writer in self._served:
            writer.transport.abort()
        if self._served:
            await asyncio.wait(list(self._served.values()))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def count(self, verb: bytes) -> int:
        return sum(words[0].upper() == verb for words in self.commands)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._served[writer] = task
        parser = hiredis.Reader()
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                parser.feed(data)
                while (words := parser.gets()) is not False:
                    self.commands.append(words)
                    reply = OK if words[0].upper() == b"CLIENT" else self._answer(words)
                    if reply is not None:
                        writer.write(reply)
        writer.close()
