"""What commands show: tables, bars and text, on terminals, in pipes and where only ASCII goes."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Final

import msgspec
from rich.console import Console, Group
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from sentinel_ext.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import ConsoleOptions, RenderableType

# In a pipe nothing is cut: the longest names have 256 characters.
PIPE_WIDTH: Final = 1_000
BAR_CELLS: Final = 10
# Names longer than this are cut where lines have to stay aligned; --json has all of them.
MAX_NAME: Final = 40
GOOD, DOUBTFUL, BAD, QUIET = "green", "yellow", "red", "dim"


class _Console(Console):
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Let nothing through that a terminal would act on, whoever forgot `text` below."""
        for segment in super().render(renderable, options):
            words, style, control = segment
            if control or words == "\n" or words.isprintable():
                yield segment
            else:
                yield Segment("\n".join(map(printable, words.split("\n"))), style)

    def on_broken_pipe(self) -> None:
        """Leave it to `main`, which ends every command alike."""
        raise BrokenPipeError(32, "nobody reads any more")


def console(*, err: bool = False) -> Console:
    """Return a console for standard output, or for errors. It writes no codes where there is no terminal.

    Told, because rich sees a terminal wherever FORCE_COLOR is set, as CI services do. It knows NO_COLOR.
    """
    file = sys.stderr if err else sys.stdout
    if isinstance(file, io.TextIOWrapper):
        # As _ends has it for the whole program; a test may have put another one there.
        file.reconfigure(errors="backslashreplace")
    is_terminal = file.isatty()
    return _Console(
        file=file,
        force_terminal=is_terminal,
        width=None if is_terminal else PIPE_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )


def show(*parts: RenderableType) -> None:
    """Print to standard output; lines have no blanks at their ends."""
    out = console()
    if out.is_terminal:
        out.print(Group(*parts))
        return
    with out.capture() as captured:
        out.print(Group(*parts))
    out.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    out.file.flush()


def text(value: object, style: str = "", *, most: int = 0) -> Text:
    """Return what came from elsewhere as text that no terminal acts on, cut to `most` characters if given."""
    shown = printable(str(value))
    if most and len(shown) > most:
        shown = f"{shown[: most - 3]}..."
    return Text(shown, style)


class Column(msgspec.Struct, frozen=True):
    """A column of a table.

    Attributes:
        right: numbers stand right.
        from_width: left out where the terminal is narrower, in columns.
    """

    name: str
    right: bool = False
    from_width: int = 0


def table(columns: Sequence[Column], rows: Iterable[Sequence[RenderableType]], width: int) -> Table:
    """Return rows under headers, without lines, for `width` columns of a terminal."""
    wanted = [at for at, column in enumerate(columns) if width >= column.from_width]
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for at in wanted:
        column = columns[at]
        grid.add_column(
            column.name,
            justify="right" if column.right else "left",
            no_wrap=column.right,
            overflow="crop" if column.right else "fold",
        )
    for row in rows:
        grid.add_row(*(row[at] for at in wanted))
    return grid


def facts(pairs: Iterable[tuple[str, RenderableType]], indent: int = 0) -> RenderableType:
    """Return words and what they are about, one a line."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(text(name), value)
    return Padding(grid, (0, 0, 0, indent))


def bar(share: float, encoding: str, *, cells: int = BAR_CELLS) -> Text:
    """Draw a share of 0 to 1: the fuller, the redder."""
    share = min(max(share, 0.0), 1.0)
    full = round(share * cells)
    on, off = ("█", "░") if encoding.lower().startswith("utf") else ("#", "-")
    return Text.assemble((on * full, colour(share)), (off * (cells - full), QUIET))


def colour(share: float) -> str:
    """Return the colour of a share of 0 to 1: the fuller, the redder."""
    return BAD if share >= 0.9 else DOUBTFUL if share >= 0.6 else GOOD


def number(value: float | None, absent: str = "-") -> str:
    """Write a number as people read it: three digits at least, no more than needed."""
    if value is None:
        return absent
    if value == int(value) or abs(value) >= 1_000:
        return f"{value:.0f}"
    return f"{value:.3g}"


def milliseconds(value: float) -> str:
    """Write a time of milliseconds in the unit that fits it."""
    if value < 1_000:
        return f"{value:g} ms"
    if value < 120_000:
        return f"{value / 1_000:.3g} s"
    return f"{value / 60_000:.3g} min" if value < 7_200_000 else f"{value / 3_600_000:.3g} h"


def pairs_of(values: Mapping[str, float]) -> str:
    """Write `latency 71, queue 20`, what is highest first; what is 0 has nothing to say."""
    there = ((name, value) for name, value in values.items() if value)
    ordered = sorted(there, key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {number(value)}" for name, value in ordered) or "-"
