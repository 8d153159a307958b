"""The load client as a process of its own, with the CPU time of everybody who takes part.

It reads a plan as JSON from stdin and writes the result as JSON to stdout.
"""

from __future__ import annotations

import sys
import time

import msgspec
import uvloop

from benchmarks import cpu
from sentinel_ext.client import load
from sentinel_ext.client.load_connection import Load, LoadError


class Plan(Load, frozen=True, kw_only=True):
    """One run.

    Attributes:
        watched: processes whose CPU time counts, by what to call them.
    """

    watched: dict[str, int] = msgspec.field(default_factory=dict)


class Result(load.Measured, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        cpu: CPU seconds of each watched process and of this `client`.
    """

    cpu: dict[str, float]


async def run(plan: Plan) -> Result:
    """Carry out `plan`.

    Raises:
        LoadError: no result.
        OSError: nobody listens at the target.
    """
    used: list[dict[str, float]] = []
    measured = await load.run(plan, at_edge=lambda: used.append(_cpu(plan.watched)))
    before, after = used
    return Result(
        **msgspec.structs.asdict(measured), cpu={name: after[name] - before[name] for name in before}
    )


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
