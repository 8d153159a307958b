"""`sentinel-ext pressure`: how hard each upstream is pressed."""

# Without `from __future__ import annotations`: typer reads shared options where they are used.
from typing import Annotated

import typer

from sentinel_ext.cli import _names
from sentinel_ext.cli._options import AddressOption, Asking, JsonOption, TimeoutOption, print_json


def command(
    ctx: typer.Context,
    upstream: Annotated[
        str, typer.Argument(help="Only this one.", autocompletion=_names.upstreams, show_default=False)
    ] = "",
    address: AddressOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how hard each upstream is pressed, from 0 to 100, and what each tier may still send to it.

    Scores, rates and credit are the whole fleet's. `credit` is what may pass to the upstream per second;
    the shares say which part of each tier's requests passes. See docs/overload.md.

    Example: `sentinel-ext pressure orders`
    """
    asking = Asking.of(ctx, address, timeout, as_json)
    answer = asking.ask("GetPressure", {"upstream": upstream})
    if asking.as_json:
        print_json(answer)
        return
    from sentinel_ext.cli import _screen, _tables  # noqa: PLC0415  rich is for those who print tables

    _screen.show(*_tables.pressure(answer, _screen.console()))
