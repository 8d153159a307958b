"""Run policies through scenarios on all cores, and keep the means."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import msgspec
from sim.engine import simulate
from sim.registry import POLICIES
from sim.scenario import Scenario
from sim.score import Lines, Score, lines, mean, score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DIGITS = 4


class Job(msgspec.Struct, frozen=True):
    """Some policies through one scenario with one seed: they share its arrivals."""

    policies: tuple[str, ...]
    scenario: Scenario
    seed: int


class Outcome(msgspec.Struct, frozen=True):
    """One policy in one scenario with one seed."""

    policy: str
    scenario: str
    seed: int
    score: Score
    lines: Lines


class Cell(msgspec.Struct, frozen=True):
    """One policy in one scenario: the mean over the seeds, and the time lines of the first."""

    score: Score
    lines: Lines


Board = dict[str, dict[str, Cell]]


def jobs(policies: Sequence[str], scenarios: Sequence[Scenario], seeds: int) -> list[Job]:
    """Make the jobs, the long ones first: then no core waits for another at the end."""
    made = [Job(tuple(policies), scenario, seed) for scenario in scenarios for seed in range(1, seeds + 1)]
    return sorted(made, key=lambda job: -max(x for _, x in job.scenario.load))


def perform(job: Job) -> list[Outcome]:
    """Run one job."""
    found = []
    for policy in job.policies:
        record = simulate(job.scenario, POLICIES[policy], job.seed)
        found.append(Outcome(policy, job.scenario.name, job.seed, score(record), lines(record)))
    return found


def run(work: Sequence[Job], processes: int, advance: Callable[[int], None]) -> Board:
    """Run all jobs; `advance` hears of each that is done how many runs it was."""
    outcomes: list[Outcome] = []
    for some in _performed(work, processes):
        outcomes.extend(some)
        advance(len(some))
    outcomes.sort(key=lambda one: one.seed)
    cells: dict[tuple[str, str], list[Outcome]] = {}
    for one in outcomes:
        cells.setdefault((one.policy, one.scenario), []).append(one)
    board: Board = {}
    for (policy, scenario), ones in cells.items():
        board.setdefault(policy, {})[scenario] = Cell(mean([one.score for one in ones]), ones[0].lines)
    return board


def _performed(work: Sequence[Job], processes: int) -> Iterator[list[Outcome]]:
    if processes == 1:
        yield from map(perform, work)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(perform, work)


def figures(
    board: Board, policies: Sequence[str], scenarios: Sequence[str]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Give the board as plain data: policy, scenario, figure."""
    return {
        policy: {
            scenario: {name: _rounded(getattr(board[policy][scenario].score, name)) for name in FIGURES}
            for scenario in scenarios
        }
        for policy in policies
    }


FIGURES = ("goodput", "vital", "standard", "economy", "p99_ms", "cv", "shed")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
