"""The board as tables for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sim.board import Board
    from sim.scenario import Scenario

# The widest table must not fold where the output is no terminal.
MIN_WIDTH = 175

# Figure, title, format.
_FIGURES = (
    ("goodput", "goodput: answers within the client's timeout, share of the capacity", "{:.2f}"),
    ("vital", "vital: requests that ended well, share of what was offered", "{:.3f}"),
    ("standard", "standard, likewise", "{:.3f}"),
    ("economy", "economy, likewise", "{:.3f}"),
    ("p99_ms", "p99 of the answers, ms", "{:.0f}"),
    ("cv", "cv of the goodput per second", "{:.3f}"),
    ("shed", "shed: share of all attempts", "{:.3f}"),
)


def show(board: Board, policies: Sequence[str], scenarios: Sequence[Scenario], seeds: int) -> None:
    """Print one table per figure, and how long until goals were reached."""
    console = Console()
    if console.width < MIN_WIDTH:
        console = Console(width=MIN_WIDTH)
    for figure, title, form in _FIGURES:

        def cell(policy: str, column: str, figure: str = figure, form: str = form) -> str:
            value = getattr(board[policy][column].score, figure)
            return "-" if value is None else form.format(value)

        console.print(_table(f"{title} (mean of {seeds})", policies, [one.name for one in scenarios], cell))
    goals = {f"{one.name}\n{goal.label}": (one.name, goal.label) for one in scenarios for goal in one.goals}
    if not goals:
        return

    def reached(policy: str, column: str) -> str:
        scenario, label = goals[column]
        value = board[policy][scenario].score.settled_s[label]
        return "never" if value is None else f"{value:.1f}"

    console.print(
        _table("seconds until a goal was reached for good, in all seeds", policies, list(goals), reached)
    )


def _table(
    title: str, policies: Sequence[str], columns: Sequence[str], cell: Callable[[str, str], str]
) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("policy", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for policy in policies:
        table.add_row(policy, *(cell(policy, column) for column in columns), style=_style(policy))
    return table


def _style(policy: str) -> str:
    return "bold" if policy == "sentinel" else ""
