"""`cd tests && python -m sim.document`: copy the board's figures into docs/overload.md, between its marks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
BOARD = DOCS / "sim" / "board.json"
PAGE = DOCS / "overload.md"
BEGIN, END = "<!-- board -->\n", "<!-- end of board -->\n"

LOADS = ("x0.9", "x1.2", "x2", "x3", "x5")
DYNAMIC = ("step", "dip", "metastable", "hog", "als-outage", "redis-outage")

Board = dict[str, dict[str, dict[str, float | None]]]


def tables(board: Board) -> str:
    """Render two tables: constant loads, and what changes or breaks."""
    heads = [
        *(f"{name} " for name in LOADS),
        *(f"V {name[1:]}x" for name in LOADS[2:]),
        "p99 3x",
        "cv 3x",
    ]
    steady = [
        [
            *(_share(board[policy][name]["goodput"]) for name in LOADS),
            *(_share(board[policy][name]["vital"]) for name in LOADS[2:]),
            _number(board[policy]["x3"]["p99_ms"], 0),
            _number(board[policy]["x3"]["cv"], 3),
        ]
        for policy in board
    ]
    changing = [
        [
            f"{_share(board[policy][name]['goodput'])} / {_share(board[policy][name]['vital'])}"
            for name in DYNAMIC
        ]
        for policy in board
    ]
    return f"{_table(board, heads, steady)}\n{_table(board, list(DYNAMIC), changing)}"


def _table(board: Board, heads: list[str], rows: list[list[str]]) -> str:
    lines = [f"| policy | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for policy, cells in zip(board, rows, strict=True):
        name = "**sentinel**" if policy == "sentinel" else policy
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _share(value: float | None) -> str:
    return _number(value, 2)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def main() -> int:
    """Write the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{tables(json.loads(BOARD.read_text()))}{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
