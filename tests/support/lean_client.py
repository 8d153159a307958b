"""A client in a process of its own: `python lean_client.py TARGET` makes as many calls as each line says.

It keeps its one connection open till the end of its input, and leaves no objects in the server's process.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Self

import grpc

if TYPE_CHECKING:
    from types import TracebackType

METHODS = ("Now", "Later", "Echo")
AT_ONCE = 50


class Flood:
    """The process, as a test starts it."""

    def __init__(self, where: str) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, where], stdin=subprocess.PIPE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        # The server shares this loop and may have replies to write still.
        while self._process.poll() is None:
            await asyncio.sleep(0.01)

    def call(self, count: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"%d\n" % count)
        self._process.stdin.flush()


def main() -> None:
    with grpc.insecure_channel(sys.argv[1]) as channel:
        methods = [channel.unary_unary(f"/test.Service/{name}") for name in METHODS]
        for line in sys.stdin:
            for start in range(0, int(line), AT_ONCE):
                calls = [
                    methods[number % len(methods)].future(b"%d" % (number % 7), timeout=20)
                    for number in range(start, start + AT_ONCE)
                ]
                for call in calls:
                    call.exception()


if __name__ == "__main__":
    main()
