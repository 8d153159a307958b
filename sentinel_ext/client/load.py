"""A load client of its own, so that results need no other program.

It holds `connections` times `streams` requests open and sends the next one when one is answered.
"""

from __future__ import annotations

import asyncio
from itertools import cycle
from typing import TYPE_CHECKING, Final

import msgspec

from sentinel_ext.client.load_connection import Connection, Load, LoadError, Meter, Requests
from sentinel_ext.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONNECT_TIMEOUT_S: Final = 10.0


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. Times are seconds.

    Attributes:
        outcomes: answers by outcome: grpc-status, `http` and a status, `rst` and an error code.
        words: answered messages by what `read` said of them.
        samples: some answers' messages with their prefix, for a look at what was decided.
    """

    answers: int
    seconds: float
    p50: float
    p99: float
    p999: float = float("nan")
    outcomes: dict[str, int]
    words: dict[str, int] = {}
    samples: list[bytes]


def _nothing() -> None:
    pass


async def run(
    load: Load, read: Callable[[bytes], str] | None = None, at_edge: Callable[[], None] = _nothing
) -> Measured:
    """Carry out `load`.

    Args:
        load: the run.
        read: says in a word what an answered message is.
        at_edge: called when measuring begins, and when it ends.

    Raises:
        LoadError: no result.
        OSError: nobody listens at the target.
    """
    loop = asyncio.get_running_loop()
    failure: asyncio.Future[None] = loop.create_future()
    meter, requests = Meter(read), Requests(load)

    def failed(reason: str) -> None:
        if not failure.done():
            failure.set_exception(LoadError(reason))

    connections: list[Connection] = []
    try:
        for _, target in zip(range(load.connections), cycle((load.target, *load.more_targets))):
            connections.append(
                await _connect(target, lambda: Connection(requests, meter, load.streams, failed))
            )
        await _pass(failure, load.warm_s)
        at_edge()
        meter.on, started_ns = True, monotonic_ns()
        await _pass(failure, load.measured_s)
        meter.on, seconds = False, (monotonic_ns() - started_ns) / 1e9
        at_edge()
    finally:
        failure.cancel()
        for connection in connections:
            connection.close()
    return _measured(meter, seconds)


def _measured(meter: Meter, seconds: float) -> Measured:
    latencies = sorted(meter.latencies)
    p50, p99, p999 = (percentile(latencies, percent) / 1e9 for percent in (50, 99, 99.9))
    return Measured(
        answers=len(latencies),
        seconds=seconds,
        p50=p50,
        p99=p99,
        p999=p999,
        outcomes=dict(meter.outcomes),
        words=dict(meter.words),
        samples=meter.samples,
    )


def percentile(ordered: Sequence[int], percent: float) -> float:
    """Return the value that `percent` of the values do not exceed (nearest rank); nan if there are none."""
    return ordered[max(0, int(-(-len(ordered) * percent // 100)) - 1)] if ordered else float("nan")


async def _connect(target: str, make: Callable[[], Connection]) -> Connection:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        if target.startswith("unix:"):
            return (await loop.create_unix_connection(make, target.removeprefix("unix:")))[1]
        host, _, port = target.rpartition(":")
        return (await loop.create_connection(make, host.strip("[]"), int(port)))[1]


async def _pass(failure: asyncio.Future[None], seconds: float) -> None:
    await asyncio.wait({failure}, timeout=seconds)
    if failure.done():
        failure.result()
