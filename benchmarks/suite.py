"""What every suite gets: how long to measure, how often, and where to say how it goes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from benchmarks.processes import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.load import Result

# The load client's own user agent for every gRPC call; Envoy's is as long.
GRPC_HEADERS = [("te", "trailers"), ("content-type", "application/grpc"), ("grpc-timeout", "5000m")]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds.

    Attributes:
        runs: how often each subject is measured, in turns with the others.
        quick: fewer points and short runs: does it work, not how fast is it.
    """

    runs: int = 5
    warm_s: float = 0.5
    measured_s: float = 3.0
    quick: bool = False

    @classmethod
    def short(cls) -> Options:
        """One run of a blink."""
        return cls(runs=1, warm_s=0.1, measured_s=0.3, quick=True)


def progress(text: str) -> None:
    """Tell the person who waits."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def interleave(
    subjects: Sequence[str], runs: int, measure: Callable[[str], Result]
) -> dict[str, list[Result] | UnavailableError]:
    """Measure each subject `runs` times, in turns: what else the machine does meets all of them alike.

    A subject that fails is measured no more, and what it failed with is its result.
    """
    results: dict[str, list[Result]] = {subject: [] for subject in subjects}
    failed: dict[str, UnavailableError] = {}
    for run in range(runs):
        for subject in subjects:
            if subject in failed:
                continue
            progress(f"  run {run + 1} of {runs}: {subject}")
            try:
                results[subject].append(measure(subject))
            except UnavailableError as error:
                progress(f"  {subject}: {error}")
                failed[subject] = error
    return {subject: failed.get(subject, results[subject]) for subject in subjects}


def grpc_request(path: str) -> list[tuple[str, str]]:
    """Return the fields of a gRPC request as Envoy orders them."""
    pseudo = [(":method", "POST"), (":path", path), (":authority", "sentinel"), (":scheme", "http")]
    return [*pseudo, *GRPC_HEADERS]
