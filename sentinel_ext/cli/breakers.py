"""`sentinel-ext breakers`: the circuit breakers, and forcing one."""

# Without `from __future__ import annotations`: typer reads shared options where they are used.
from enum import StrEnum
from typing import Annotated, Any

import typer

from sentinel_ext.cli import _names
from sentinel_ext.cli._options import AddressOption, Asking, JsonOption, TimeoutOption, print_json

app = _names.group("[UPSTREAM | set UPSTREAM open|closed|auto]", _names.UpstreamGroup)
UpstreamArgument = Annotated[
    str,
    typer.Argument(
        metavar="UPSTREAM", help="The upstream.", autocompletion=_names.upstreams, show_default=False
    ),
]


class Forced(StrEnum):
    """An operator's word."""

    OPEN = "open"
    CLOSED = "closed"
    AUTO = "auto"


@app.callback()
def command(
    ctx: typer.Context,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the circuit breakers: closed lets requests pass, open refuses them, half_open tries the upstream.

    They are the whole fleet's; `ok`, `failed` and `slow` are of the window that trips one. See
    docs/breaker.md.

    Example: `sentinel-ext breakers`, of one upstream with its latest changes `sentinel-ext breakers orders`,
    and to leave an upstream alone `sentinel-ext breakers set orders open`.
    """
    asking = Asking.of(ctx, address, timeout, as_json)
    ctx.obj = asking
    if ctx.invoked_subcommand is None:
        _show(asking, asking.ask("ListBreakers"), with_changes=False)


@app.command("show")
def show(
    ctx: typer.Context,
    upstream: UpstreamArgument,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one breaker and its latest changes; the word `show` may be left out.

    Example: `sentinel-ext breakers orders`
    """
    asking = Asking.of(ctx, address, timeout, as_json)
    _show(asking, asking.ask("ListBreakers", {"upstream": upstream}), with_changes=True)


@app.command("set")
def set_mode(
    ctx: typer.Context,
    upstream: UpstreamArgument,
    mode: Annotated[Forced, typer.Argument(help="auto lets it go by itself again.", show_default=False)],
    address: AddressOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Force a breaker open or closed on all instances, or let it go by itself again.

    Needs ADMIN_ACTIONS=true where `serve` runs; the log says what was done.

    Example: `sentinel-ext breakers set orders open`, and afterwards `sentinel-ext breakers set orders auto`.
    """
    asking = Asking.of(ctx, address, timeout, as_json)
    _show(asking, asking.ask("SetBreaker", {"upstream": upstream, "mode": mode.value}), with_changes=False)


def _show(asking: Asking, answer: dict[str, Any], *, with_changes: bool) -> None:
    if asking.as_json:
        print_json(answer)
        return
    from sentinel_ext.cli import _screen, _tables  # noqa: PLC0415  rich is for those who print tables

    # What acts answers with the one it acted on.
    shown = answer["breakers"] if "breakers" in answer else [answer["breaker"]]
    if not shown:
        _screen.show(_screen.text("no upstream has a breaker"))
        return
    parts: list[Any] = [_tables.breakers(shown, _screen.console())]
    if with_changes and any(each["history"] for each in shown):
        parts += ["", _tables.changes(shown)]
    _screen.show(*parts)
