"""What tracing costs who is not sampled: `python -m benchmarks.unsampled --turns 300`.

Short rounds in turns: on a shared machine only differences of neighbours say something, and of those the
median. Several processes for each subject, as one is by luck of its memory half a microsecond faster than the
next. The first round of each is to get warm.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import subprocess
import sys
import time

import uvloop

from benchmarks.decision import running

CHECKS = 1_000
PROCESSES = 5
# Subject: the ratio of OTEL_TRACES_SAMPLER_ARG, None for off; the flags of the traceparent that calls carry.
SUBJECTS: dict[str, tuple[float | None, str | None]] = {
    "off": (None, None),
    "on": (0.0, None),
    "on, calls carry -00": (0.0, "00"),
    "off again": (None, None),
}


async def serve(subject: str) -> None:
    """Do a round for each line that comes; say how long the event loop's thread worked on it, µs a Check."""
    ratio, flags = SUBJECTS[subject]
    async with running("memory://", 100, 50, ratio, flags) as check:
        gc.freeze()
        for _ in sys.stdin:
            started = time.thread_time()
            await check(CHECKS)
            sys.stdout.write(f"{(time.thread_time() - started) / CHECKS * 1e6}\n")
            sys.stdout.flush()


def measure(turns: int) -> dict[str, list[float]]:
    """µs of each subject, turn by turn."""
    command = [sys.executable, "-m", "benchmarks.unsampled", "--subject"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    programs = {
        each: [subprocess.Popen([*command, each], **pipes) for _ in range(PROCESSES)] for each in SUBJECTS
    }
    found: dict[str, list[float]] = {each: [] for each in SUBJECTS}
    for turn in range(turns + PROCESSES):
        for each, several in programs.items():
            program = several[turn % PROCESSES]
            program.stdin.write("\n")
            program.stdin.flush()
            found[each].append(float(program.stdout.readline()))
    for program in itertools.chain.from_iterable(programs.values()):
        program.stdin.close()
        program.wait()
    return {each: values[PROCESSES:] for each, values in found.items()}


def main() -> None:
    """Print medians, those of the differences from `off` in the same turn, and the least disturbed round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=300, help="rounds of each (default: %(default)s)")
    parser.add_argument("--subject", choices=SUBJECTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.subject is not None:
        uvloop.run(serve(options.subject))
        return
    found = measure(options.turns)
    for subject, values in found.items():
        more = [value - off for value, off in zip(values, found["off"], strict=True)]
        low, middle, high = statistics.quantiles(more, n=4)
        sys.stdout.write(
            f"{subject:<20} {statistics.median(values):6.2f} µs, {middle:+.2f} "
            f"(half of the turns {low:+.2f} to {high:+.2f}), least {min(values):.2f} µs\n"
        )


if __name__ == "__main__":
    main()
