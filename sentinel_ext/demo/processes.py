"""Child processes: started on a leash, watched, stopped in reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sentinel_ext.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AsyncExitStack
    from typing import NoReturn

    Poll = Callable[[], Awaitable[bool]]

# Sentinel drains before it ends; Envoy and Redis end within milliseconds.
GRACE_S = 12.0
# All of them are ready within two seconds on an idle machine; a busy CI machine gets patience.
READY_TIMEOUT_S = 45.0
POLL_S = 0.05
LAST_LINES = 8
# The end of a log is read, not all of it: a child may have talked for hours.
_TAIL_BYTES = 16_384
_LEASH = Path(__file__).with_name("leash.py")


class Child:
    """A running program whose output goes to a file. Made by Crew.start."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self.ended: asyncio.Task[int] = asyncio.create_task(process.wait(), name=f"{name} ends")
        self._process = process

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its process group."""
        return self._process.pid

    async def wait_ready(self, poll: Poll, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Call `poll` until it says True.

        Raises:
            StartError: the program ended, or took longer than `timeout_s`.
        """
        polling = asyncio.create_task(_until(poll), name=f"{self.name} gets ready")
        try:
            await asyncio.wait({polling, self.ended}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if polling.done():
                polling.result()
            elif self.ended.done():
                raise StartError(self.obituary())
            else:
                raise StartError(f"{self.name} was not ready within {timeout_s:g} s{self._said()}")
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)

    def obituary(self) -> str:
        """Say how the program ended, what it said last and what to do: one line, then its words."""
        code = self.ended.result()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        said = self._said()
        return f"{self.name} {how}; {'its last lines may say why' if said else 'start the demo again'}{said}"

    def last_lines(self, count: int = LAST_LINES) -> list[str]:
        """Return the end of what the program wrote."""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()][-count:]

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """End the program and whatever it started: SIGTERM, and SIGKILL after `grace_s`."""
        self._signal(signal.SIGTERM)
        await asyncio.wait({self.ended}, timeout=grace_s)
        self._signal(signal.SIGKILL)
        await self.ended

    def _signal(self, number: signal.Signals) -> None:
        # Once it has ended, its id may be another program's.
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _said(self) -> str:
        return "".join(f"\n  {self.name} | {line}" for line in self.last_lines())


class Crew:
    """The children of one demo, and what ends with them: closing `exits` stops the last started first."""

    def __init__(self, folder: Path, exits: AsyncExitStack) -> None:
        """Put the children's logs into `folder`."""
        self.folder = folder
        self.exits = exits
        self._children: list[Child] = []
        self._dead: asyncio.Future[Child] = asyncio.get_running_loop().create_future()

    async def start(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Child:
        """Start `argv`; its first word is an absolute path.

        The child gets a session of its own, so that Ctrl-C in a terminal reaches only the demo, which stops
        its children in order.
        """
        log = self.folder / f"{name.lower()}.log"
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), *argv,
                stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file,
                env=environment, start_new_session=True,
            )  # fmt: skip
        child = Child(name, process, log)
        self._children.append(child)
        self.exits.push_async_callback(self._retire, child)
        child.ended.add_done_callback(lambda _: self._bury(child))
        return child

    async def watch(self) -> NoReturn:
        """Wait until a child ends by itself.

        Raises:
            StartError: one did; says which.
        """
        child = await asyncio.shield(self._dead)
        raise StartError(child.obituary())

    async def _retire(self, child: Child) -> None:
        self._children.remove(child)
        await child.stop()

    def _bury(self, child: Child) -> None:
        # A child that is being stopped is no longer on the list.
        if child in self._children and not self._dead.done():
            self._dead.set_result(child)


async def _until(poll: Poll) -> None:
    while not await poll():  # noqa: ASYNC110  another process has no event to wait for
        await asyncio.sleep(POLL_S)
