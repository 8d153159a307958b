"""A load client of its own, so that results need no other program.

It holds `connections` times `streams` requests open and sends the next one when one is answered. Run as a
process of its own it reads a plan as JSON from stdin and writes the result as JSON to stdout.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Final

import msgspec
import uvloop

from benchmarks import cpu
from benchmarks.client import Connection, LoadError, Meter, Plan, Requests
from sentinel_ext.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECT_TIMEOUT_S: Final = 10.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. Times are seconds.

    Attributes:
        outcomes: answers by outcome: grpc-status, `http` and a status, `rst` and an error code.
        cpu: CPU seconds of each watched process and of this `client`.
        samples: some answers' messages with their prefix, for a look at what was decided.
    """

    answers: int
    seconds: float
    p50: float
    p99: float
    outcomes: dict[str, int]
    cpu: dict[str, float]
    samples: list[bytes]


async def run(plan: Plan) -> Result:
    """Carry out `plan`.

    Raises:
        LoadError: no result.
        OSError: nobody listens at the target.
    """
    loop = asyncio.get_running_loop()
    failure: asyncio.Future[None] = loop.create_future()
    meter, requests = Meter(), Requests(plan)

    def failed(reason: str) -> None:
        if not failure.done():
            failure.set_exception(LoadError(reason))

    connections = [
        await _connect(plan.target, lambda: Connection(requests, meter, plan.streams, failed))
        for _ in range(plan.connections)
    ]
    try:
        await _pass(failure, plan.warm_s)
        meter.on, used, started_ns = True, _cpu(plan.watched), monotonic_ns()
        await _pass(failure, plan.measured_s)
        meter.on, used_after, seconds = False, _cpu(plan.watched), (monotonic_ns() - started_ns) / 1e9
    finally:
        failure.cancel()
        for connection in connections:
            connection.close()
    latencies = sorted(meter.latencies)
    return Result(
        answers=len(latencies),
        seconds=seconds,
        p50=percentile(latencies, 50) / 1e9,
        p99=percentile(latencies, 99) / 1e9,
        outcomes=dict(meter.outcomes),
        cpu={name: used_after[name] - used[name] for name in used},
        samples=meter.samples,
    )


def percentile(ordered: list[int], percent: int) -> float:
    """Return the value that `percent` of the values do not exceed (nearest rank); nan if there are none."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else float("nan")


async def _connect(target: str, make: Callable[[], Connection]) -> Connection:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        if target.startswith("unix:"):
            return (await loop.create_unix_connection(make, target.removeprefix("unix:")))[1]
        host, _, port = target.rpartition(":")
        return (await loop.create_connection(make, host, int(port)))[1]


async def _pass(failure: asyncio.Future[None], seconds: float) -> None:
    await asyncio.wait({failure}, timeout=seconds)
    if failure.done():
        failure.result()


def _cpu(watched: dict[str, int]) -> dict[str, float]:
    used = {name: cpu.seconds_used(pid) for name, pid in watched.items()}
    return {**used, "client": time.process_time()}


def main() -> None:
    """Read a plan from stdin, write the result to stdout."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    try:
        result = uvloop.run(run(plan))
    except (LoadError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
