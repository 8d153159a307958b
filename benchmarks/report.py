"""Results as rows, rows as a table or JSON."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import msgspec

from benchmarks.processes import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.load import Result

# Of the server measured: what does not depend on who else uses the machine.
_RATE = "answers_per_cpu_s"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a table: what was measured and what came out, columns in order.

    Attributes:
        note: why there are no numbers, or what to know about them.
    """

    what: dict[str, str | int]
    values: dict[str, float]
    note: str = ""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """The results of one suite."""

    name: str
    title: str
    rows: list[Row]
    notes: list[str] = []


def measured(
    results: Sequence[Result] | UnavailableError, *, what: dict[str, str | int], server: str = "server"
) -> Row:
    """Return medians over the runs of one subject. CPU is that of the watched process called `server`."""
    if isinstance(results, UnavailableError):
        return missing(what, results)
    answers = sum(result.answers for result in results)
    values = {
        _RATE: _median([_per(r.answers, r.cpu[server]) for r in results]),
        "answers_per_s": _median([_per(r.answers, r.seconds) for r in results]),
        "p50_ms": _median([r.p50 * 1e3 for r in results]),
        "p99_ms": _median([r.p99 * 1e3 for r in results]),
        "server_busy": _median([_per(r.cpu[server], r.seconds) for r in results]),
        "client_busy": _median([_per(r.cpu["client"], r.seconds) for r in results]),
    }
    bad = sum(
        sum(r.outcomes.values()) - r.outcomes.get("0", 0) - r.outcomes.get("http 200", 0) for r in results
    )
    return Row(what=what, values=values, note=_outcomes(results) if bad else "" if answers else "no answers")


def with_values(row: Row, values: dict[str, float], note: str = "") -> Row:
    """Return `row` with more columns, and `note` behind its own."""
    notes = [each for each in (row.note, note) if each]
    return Row(what=row.what, values={**row.values, **values}, note="; ".join(notes))


def ratios(rows: list[Row], base: str = "grpcio") -> list[Row]:
    """Return `rows` with answers per CPU second against those of the server `base`, if it is among them."""
    of = next((row.values[_RATE] for row in rows if row.what["server"] == base and row.values), None)
    if of is None:
        return rows
    return [with_values(row, {"ratio": _per(row.values[_RATE], of)}) if row.values else row for row in rows]


def missing(what: dict[str, str | int], why: object) -> Row:
    """Return the row of something that could not be measured."""
    return Row(what=what, values={}, note=f"not measured: {why}")


def render(table: Table) -> str:
    """Return the table as text, columns aligned."""
    names = [*dict.fromkeys(name for row in table.rows for name in row.what)]
    numbers = [*dict.fromkeys(name for row in table.rows for name in row.values)]
    lines = [[*names, *numbers, ""]]
    for row in table.rows:
        cells = [str(row.what.get(name, "")) for name in names]
        cells += [_number(row.values[name]) if name in row.values else "-" for name in numbers]
        lines.append([*cells, row.note])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]) - 1)]
    text = [f"{table.name}: {table.title}"]
    for line in lines:
        cells = [
            cell.ljust(width) if i < len(names) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=False))
        ]
        text.append("  ".join(["", *cells, line[-1]]).rstrip())
    return "\n".join([*text, *(f"  {note}" for note in table.notes)])


def _outcomes(results: Sequence[Result]) -> str:
    totals: dict[str, int] = {}
    for result in results:
        for outcome, count in result.outcomes.items():
            totals[outcome] = totals.get(outcome, 0) + count
    return "outcomes: " + ", ".join(f"{name} x {count}" for name, count in sorted(totals.items()))


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _per(amount: float, of: float) -> float:
    # A very short run may not have used one tick of CPU.
    return amount / of if of else float("nan")


def _median(values: list[float]) -> float:
    known = [value for value in values if value == value]  # noqa: PLR0124  nan is unlike itself
    return statistics.median(known) if known else float("nan")
