"""What the demo shows: progress, a table that lives in a terminal, and what to try. Plain lines elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from sentinel_ext.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sentinel_ext.demo.traffic import Tally

# The trickle changes the table six times a second; faster would only flicker.
_REFRESHES_PER_S = 8
_COLUMNS = ("tenant", "tier", "allowed", "429", "503", "remaining")
_TIER_STYLE = {"vital": "green", "standard": "cyan", "economy": "yellow"}


class Board:
    """Writes to one stream. In a terminal with colours and a live table, else one plain line per fact."""

    def __init__(self, stream: TextIO, *, is_terminal: bool | None = None) -> None:
        """Look at `stream` for a terminal unless told.

        Told to rich as well: it would see a terminal wherever FORCE_COLOR is set, as CI services do.
        """
        if is_terminal is None:
            is_terminal = stream.isatty()
        self._console = Console(file=stream, force_terminal=is_terminal, highlight=False)
        self._is_live = is_terminal and not self._console.is_dumb_terminal

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show that `name` is being waited for. The end of the wait is said with `done`."""
        if self._is_live:
            with self._console.status(f"waiting for {name} ..."):
                yield
        else:
            self.say(f"waiting for {name}")
            yield

    def done(self, name: str, detail: str) -> None:
        """Say that `name` is there."""
        self._line(f"[green]{name:<9}[/] {escape(detail)}" if self._is_live else f"{name:<9} {detail}")

    def say(self, text: str) -> None:
        """Write a line as it is: no markup, never folded, so that a command can be copied."""
        self._console.print(text, markup=False, soft_wrap=True)

    def guide(self, chapters: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        """Write what to try and where to look: a title, then rows of (what it shows, the command or URL)."""
        width = max(len(what) for rows in chapters.values() for what, _ in rows)
        for title, rows in chapters.items():
            self.say(f"\n{title}")
            for what, command in rows:
                self._line(f"  [dim]{what:<{width}}[/]  {escape(command)}")
        self.say("")

    @contextmanager
    def live(self, tallies: Sequence[Tally]) -> Iterator[None]:
        """Keep the table up to date; without a terminal, print it once at the end."""
        if not self._is_live:
            yield
            return
        with Live(
            get_renderable=lambda: _table(tallies), console=self._console, refresh_per_second=_REFRESHES_PER_S
        ):
            yield

    def note(self, text: str) -> None:
        """Write a line where no live table says the same in its caption."""
        if not self._is_live:
            self.say(text)

    def table(self, tallies: Sequence[Tally]) -> None:
        """Print the table where no live one shows it."""
        if not self._is_live:
            for line in plain_table(tallies):
                self.say(line)

    def _line(self, markup: str) -> None:
        self._console.print(markup, soft_wrap=True)


def cells(tally: Tally) -> tuple[str, ...]:
    """Return a tenant's row of the table."""
    numbers = (tally.allowed, tally.limited, tally.shed)
    return (tally.tenant, tally.tier, *map(str, numbers), tally.remaining or "-")


def plain_table(tallies: Sequence[Tally]) -> list[str]:
    """Return the table as aligned lines; words to the left, numbers to the right."""
    rows = [_COLUMNS, *(cells(tally) for tally in tallies)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = []
    for row in rows:
        padded = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return lines + [complaint(tally) for tally in tallies if tally.errors]


def complaint(tally: Tally) -> str:
    """Say what went wrong with a tenant's requests."""
    first = printable(tally.first_error)
    return f"{tally.tenant}: {tally.errors} of {tally.sent} requests failed; the first: {first}"


def _table(tallies: Sequence[Tally]) -> Table:
    complaints = [escape(complaint(tally)) for tally in tallies if tally.errors]
    table = Table(caption="\n".join(complaints) or "Ctrl-C ends the demo and removes everything it started")
    for column, name in enumerate(_COLUMNS):
        table.add_column(name, justify="left" if column < 2 else "right", min_width=len(name))
    for tally in tallies:
        row = [escape(cell) for cell in cells(tally)]
        style = _TIER_STYLE.get(tally.tier)
        row[1] = f"[{style}]{row[1]}[/]" if style else row[1]
        table.add_row(*row)
    return table
