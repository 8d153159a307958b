"""`sentinel-ext watch`: decisions as they are made."""

# Without `from __future__ import annotations`: typer reads shared options where they are used.
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sentinel_ext.cli import _names
from sentinel_ext.cli._options import AddressOption, Asking, print_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# Columns of time, verdict, stage and reason, tenant, upstream, numbers.
_WIDTHS: Final = (12, 6, 28, 20, 14, 14, 9)


class Stage(StrEnum):
    """What decided."""

    IDENTIFY = "identify"
    BUCKET = "bucket"
    WINDOW = "window"
    PRESSURE = "pressure"
    BREAKER = "breaker"


class Verdict(StrEnum):
    """What was decided."""

    ALLOW = "allow"
    DENY = "deny"


class Kind(StrEnum):
    """What was asked."""

    CHECK = "check"
    RATE_LIMIT = "rate_limit"


def command(  # noqa: PLR0913  one parameter per option
    ctx: typer.Context,
    tenant: Annotated[
        list[str] | None,
        typer.Option(
            "--tenant",
            "-t",
            metavar="NAME",
            help="Only of this one. Repeatable.",
            autocompletion=_names.tenants,
        ),
    ] = None,
    stage: Annotated[
        list[Stage] | None, typer.Option("--stage", help="Only decided by this stage. Repeatable.")
    ] = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Only these.")] = None,
    sample: Annotated[
        float, typer.Option(min=0, max=1, help="Show a part: 0.01 is one in a hundred; 0 shows all.")
    ] = 0.0,
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            "--upstream",
            "-u",
            metavar="NAME",
            help="Only for this one. Repeatable.",
            autocompletion=_names.upstreams,
        ),
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only Checks, or only rate limit requests.")] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=0, help="End after so many; 0 goes on until Ctrl-C.")
    ] = 0,
    address: AddressOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show decisions of one instance as they are made, one a line, until Ctrl-C.

    When this end reads too slowly, some are left out, and a line says how many. Times are UTC.

    Exit codes: 0 ended by Ctrl-C or `--count`, 1 the service could not be asked or went away, 2 wrong
    arguments.

    Example: `sentinel-ext watch --verdict deny --tenant acme`, and for scripts
    `sentinel-ext watch --json --count 100 | jq .reason`
    """
    fields = {
        "tenants": tenant or [],
        "stages": [each.value for each in stage or []],
        "verdict": verdict.value if verdict else "",
        "sample": sample,
        "upstreams": upstream or [],
        "kind": kind.value if kind else "",
    }
    try:
        with Asking.of(ctx, address, None, as_json).connect() as client:
            _print(islice(client.watch(fields), count or None), as_json=as_json)
    except KeyboardInterrupt:
        # That is how a watch ends.
        raise typer.Exit(0) from None


def _print(events: Any, *, as_json: bool) -> None:  # noqa: ANN401  an iterator of DecisionEvents
    if as_json:
        for event in events:
            print_json(event, one_line=True)
        return
    from sentinel_ext.cli import _screen  # noqa: PLC0415  --json does not pay for rich

    out = _screen.console()
    head = ("time", "", "stage: reason", "tenant", "upstream", "left", "took")
    for number, event in enumerate(events):
        if number == 0:
            _line(out, _cells(head, out, "bold"))
        if event["missed"]:
            _line(
                out,
                _screen.text(f"... missed {event['missed']}: this end reads too slowly", _screen.DOUBTFUL),
            )
        _line(out, event_line(event, out))


def _line(out: "Console", line: "Text") -> None:
    line.rstrip()
    # On a terminal one line each, whatever the width; in a pipe all of it.
    out.print(line, no_wrap=True, overflow="crop", crop=True)


def event_line(event: dict[str, Any], out: "Console") -> "Text":
    """Return a DecisionEvent as one aligned line."""
    from sentinel_ext.cli import _screen  # noqa: PLC0415  as above

    allowed = event["allowed"]
    stage = f"{event['stage']}: " if event["stage"] else ""
    limit, remaining = event["limit"], event["remaining"]
    line = _cells(
        (
            _clock(event["time"]),
            "allow" if allowed else "DENY",
            f"{stage}{event['reason']}",
            event["tenant"] or event["domain"],
            event["upstream"],
            f"{_screen.number(remaining)}/{_screen.number(limit)}" if limit is not None else "-",
            f"{event['duration_us']} us",
        ),
        out,
        _screen.GOOD if allowed else _screen.BAD,
    )
    line.append_text(_screen.text(", ".join(_more(event)), _screen.QUIET))
    return line


def _cells(words: tuple[str, ...], out: "Console", style: str) -> "Text":
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415  as above
    from rich.text import Text  # noqa: PLC0415

    from sentinel_ext.wording import printable  # noqa: PLC0415

    line = Text()
    for at, (word, width) in enumerate(zip(words, _WIDTHS, strict=True)):
        cell = printable(word)
        if cell_len(cell) < width or out.is_terminal:
            cell = set_cell_size(cell, width)
        line.append(cell + "  ", style if at == 1 or style == "bold" else "")
    return line


def _more(event: dict[str, Any]) -> list[str]:
    """Return what only some decisions have."""
    more = []
    if event["retry_ms"]:
        more.append(f"again in {event['retry_ms']} ms")
    if event["fallback"]:
        more.append(f"without store: {event['fallback']}")
    more += [f"shadow {each}" for each in event["shadow"]]
    more += [f"rule {each}" for each in event["rules"]]
    if event["route"]:
        more.append(f"route {event['route']}")
    if event["trace_id"]:
        more.append(f"trace {event['trace_id']}")
    elif event["correlation_id"]:
        more.append(event["correlation_id"])
    return more


def _clock(time: str | None) -> str:
    """Return `12:34:56.789` of a time in RFC 3339."""
    if not time:
        return "?"
    whole, _, fraction = time.partition("T")[2].rstrip("Z").partition(".")
    return f"{whole}.{fraction[:3].ljust(3, '0')}"
