"""`sentinel-ext demo`: start everything, send the sample, stay up, leave nothing behind."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from sentinel_ext.demo import guide
from sentinel_ext.demo.board import Board, complaint
from sentinel_ext.demo.preflight import Setup, sample_tenants
from sentinel_ext.demo.processes import Crew
from sentinel_ext.demo.stack import Stack
from sentinel_ext.demo.traffic import SAMPLE_REQUESTS, Sender
from sentinel_ext.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentinel_ext.address import Address

# What a shell reports for a program that a signal ended.
_SIGNALLED = 128


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        once: end after the sample.
        as_json: print the summary as JSON on stdout at the end; everything else goes to stderr.
        envoy_admin: where Envoy's admin pages listen.
        prometheus: where a Prometheus is to listen; None starts none.
    """

    once: bool
    as_json: bool
    envoy_admin: Address
    prometheus: Address | None = None


async def run(options: Options) -> int:
    """Run the demo until its sample is done (`once`) or a signal comes; return the exit code.

    Raises:
        SentinelError: it cannot start, a part of it ended, or requests of the sample failed.
    """
    setup = Setup.prepare(options.envoy_admin, options.prometheus)
    board = Board(sys.stderr if options.as_json else sys.stdout)
    for warning in (*setup.settings.warnings, *setup.policy.warnings):
        board.say(warning)
    demo = _Demo(options, setup, board)
    with _stop_signal() as stop, tempfile.TemporaryDirectory(prefix="sentinel-demo-") as folder:
        async with AsyncExitStack() as exits:
            session = await exits.enter_async_context(aiohttp.ClientSession())
            await demo.perform_until(stop, Crew(Path(folder), exits), session)
            board.say("stopping")
    if stop.done() and not demo.has_sampled:
        return _SIGNALLED + stop.result()
    demo.conclude()
    return 0


class _Demo:
    """The course of one demo.

    Attributes:
        has_sampled: the whole sample was sent and answered.
    """

    def __init__(self, options: Options, setup: Setup, board: Board) -> None:
        self.has_sampled = False
        self._options = options
        self._setup = setup
        self._board = board
        self._tallies = sample_tenants(setup.policy)
        self._versions: dict[str, str] = {}

    async def perform_until(
        self, stop: asyncio.Future[int], crew: Crew, session: aiohttp.ClientSession
    ) -> None:
        """Perform until that ends, or `stop`, or a child ends by itself; leave no task running."""
        performance = asyncio.create_task(self._perform(crew, session), name="demo")
        watch = asyncio.create_task(crew.watch(), name="watch over the children")
        try:
            ends: set[asyncio.Future[Any]] = {performance, watch, stop}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # A dead child explains whatever else went wrong: look at it first.
            ended = [task for task in (watch, performance) if task.done()]
            performance.cancel()
            watch.cancel()
            await asyncio.gather(performance, watch, return_exceptions=True)
        for task in ended:
            task.result()

    async def _perform(self, crew: Crew, session: aiohttp.ClientSession) -> None:
        setup, board = self._setup, self._board
        stack = Stack(setup, board, crew, session)
        await stack.start()
        self._versions = {"envoy_version": stack.envoy_version, "redis_version": stack.redis_version}
        if stack.prometheus_version:
            self._versions["prometheus_version"] = stack.prometheus_version
        if not self._options.once:
            board.guide(
                {
                    "Try:": guide.things_to_try(setup, self._tallies, stack.redis_socket),
                    "Look:": guide.places_to_look(setup, crew.folder),
                }
            )
        names = ", ".join(tally.tenant for tally in self._tallies)
        board.say(f"sample: {SAMPLE_REQUESTS} requests as each of {names}")
        sender = Sender(session, f"{setup.listener}{guide.SAMPLE_PATH}", setup.tenant_header)
        with board.live(self._tallies):
            await sender.sample(self._tallies)
            self.has_sampled = True
            board.table(self._tallies)
            if self._options.once:
                return
            board.note("sending on, slowly; Ctrl-C ends the demo and removes everything it started")
            await sender.trickle(self._tallies)

    def conclude(self) -> None:
        """Tell how it ended.

        Raises:
            StartError: requests of the sample failed, and there is nobody to look at the table.
        """
        if not self._options.once:
            self._board.table(self._tallies)
        if self._options.as_json:
            tenants = {tally.tenant: tally.summary() for tally in self._tallies}
            sys.stdout.write(json.dumps({"tenants": tenants, **self._versions}) + "\n")
            sys.stdout.flush()
        complaints = [complaint(tally) for tally in self._tallies if tally.errors]
        if complaints and self._options.once:
            raise StartError("\n".join(complaints))


@contextmanager
def _stop_signal() -> Iterator[asyncio.Future[int]]:
    """Give a future of the first signal that asks to stop; later ones change nothing, stopping is bounded."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[int] = loop.create_future()

    def note(number: int) -> None:
        if not stop.done():
            stop.set_result(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    # The terminal was closed; under nohup it is ignored and shall stay so.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, note, number)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
