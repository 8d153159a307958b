"""`make sim`, or `cd tests && python -m sim`: policies against scenarios; prints tables, draws docs/sim."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sim import board, drawings, tables
from sim.registry import POLICIES
from sim.scenarios import BOARD, SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FOLDER = Path(__file__).parents[2] / "docs" / "sim"
MAX_SEEDS = 100
SEEDS = 5
PROCESSES = 2

EXAMPLES = """examples:
  make sim                                             all policies, the board's scenarios, docs/sim
  make sim ARGS='--json' > board.json                  the same as one JSON object: policy, scenario, figure
  make sim ARGS='--policy sentinel --policy aimd --scenario x3 --scenario step --seeds 1'
  make sim ARGS='--list'                               what there is
Only a run of the whole board writes to docs/sim."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for; return the exit code."""
    parser = _parser()
    asked = parser.parse_args(argv)
    if asked.list:
        sys.stdout.write(_listed())
        return 0
    if not 1 <= asked.seeds <= MAX_SEEDS:
        parser.error(f"--seeds {asked.seeds}: 1 to {MAX_SEEDS}")
    policies = _chosen(parser, "policy", asked.policy, POLICIES)
    names = _chosen(parser, "scenario", asked.scenario, SCENARIOS) if asked.scenario else list(BOARD)
    found = _run(policies, names, asked.seeds)
    if asked.json:
        sys.stdout.buffer.write(_document(board.figures(found, policies, names)))
    else:
        tables.show(found, policies, [SCENARIOS[name] for name in names], asked.seeds)
    if not (asked.no_svg or asked.policy or asked.scenario):
        _write(found, policies, names)
    return 0


def _run(policies: list[str], names: list[str], seeds: int) -> board.Board:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    work = board.jobs(policies, [SCENARIOS[name] for name in names], seeds)
    runs = len(policies) * len(work)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("simulating", total=runs)
        processes = min(PROCESSES, os.cpu_count() or 1, len(work))
        return board.run(work, processes, lambda done: progress.advance(task, done))


def _write(found: board.Board, policies: list[str], names: list[str]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "board.json").write_bytes(_document(board.figures(found, policies, names)))
    for name, text in drawings.all_of(found).items():
        (FOLDER / f"{name}.svg").write_text(text)
    sys.stderr.write(f"wrote {FOLDER.relative_to(FOLDER.parents[1])}\n")


def _document(content: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content)) + b"\n"


def _chosen(
    parser: argparse.ArgumentParser, what: str, asked: Iterable[str] | None, there: Iterable[str]
) -> list[str]:
    known = list(there)
    if not asked:
        return known
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            parser.error(f"no {what} {name!r}{hint}; there is: {' '.join(known)}")
    return list(dict.fromkeys(asked))


def _listed() -> str:
    scenarios = (f"  {name:18} {scenario.title}" for name, scenario in SCENARIOS.items())
    policies = (f"  {name}" for name in POLICIES)
    board_names = f"board: {' '.join(BOARD)}"
    return "\n".join(["policies:", *policies, "scenarios:", *scenarios, board_names]) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim",
        description="Overload: clients, sidecars, batched access logs, an upstream that does dead work.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
    )
    parser.add_argument("--policy", action="append", metavar="NAME", help="run this one; may be repeated")
    parser.add_argument("--scenario", action="append", metavar="NAME", help="run this one; may be repeated")
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, metavar="N", help=f"mean over seeds 1 to N (default {SEEDS})"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--no-svg", action="store_true", help="write nothing to docs/sim")
    parser.add_argument("--list", action="store_true", help="list policies and scenarios")
    return parser


if __name__ == "__main__":
    sys.exit(main())
