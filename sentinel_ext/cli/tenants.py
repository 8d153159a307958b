"""`sentinel-ext tenants`: who asks, how much of what they bought they have used, and giving it back."""

# Without `from __future__ import annotations`: typer reads shared options where they are used.
from enum import StrEnum
from typing import Annotated, Any

import typer

from sentinel_ext.cli import _names
from sentinel_ext.cli._options import AddressOption, Asking, JsonOption, TimeoutOption, print_json

app = _names.group("[NAME | reset NAME]", _names.TenantGroup)
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The tenant.", autocompletion=_names.tenants, show_default=False)
]


class Order(StrEnum):
    """What comes first."""

    RATE = "rate"
    USED = "used"
    DENIED = "denied"


@app.callback()
def command(  # noqa: PLR0913  one parameter per option
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most.")] = 20,
    order: Annotated[
        Order,
        typer.Option(help="Requests per second here, part of the limit used up, or refusals come first."),
    ] = Order.RATE,
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="Only names that begin so.")] = "",
    address: AddressOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the busiest tenants of one instance, or one tenant: `tenants acme`.

    Rates, counts and tokens are those of the instance that answers, `used` of the window is the whole
    fleet's. A tenant that was never seen has a plan, too.

    Example: `sentinel-ext tenants --order denied --limit 5`, and of one `sentinel-ext tenants acme`.
    A tenant whose name is `show` or `reset`: `sentinel-ext tenants show reset`.
    """
    asking = Asking.of(ctx, address, timeout, as_json)
    ctx.obj = asking
    if ctx.invoked_subcommand is not None:
        return
    answer = asking.ask("ListTenants", {"limit": limit, "order_by": order.value, "prefix": prefix})
    if asking.as_json:
        print_json(answer)
        return
    from sentinel_ext.cli import _screen, _tables  # noqa: PLC0415  rich is for those who print tables

    shown, total = answer["tenants"], answer["total"]
    if not shown:
        started = f" whose names begin with {_screen.text(prefix).plain}" if prefix else ""
        _screen.show(_screen.text(f"no tenants{started} were seen here yet ({answer['instance']})"))
        return
    _screen.show(
        _tables.tenants(shown, _screen.console()),
        _screen.text(f"{len(shown)} of {total} tenants, by {order.value}, at {answer['instance']}", "dim"),
    )


@app.command("show")
def show(
    ctx: typer.Context,
    name: NameArgument,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one tenant; the word `show` may be left out.

    Example: `sentinel-ext tenants acme`
    """
    asking = Asking.of(ctx, address, timeout, as_json)
    _show_one(asking, asking.ask("GetTenant", {"tenant": name}))


@app.command("reset")
def reset(
    ctx: typer.Context,
    name: NameArgument,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget what a tenant has used: its window over all instances, its bucket at the one that answers.

    Needs ADMIN_ACTIONS=true where `serve` runs; the log says what was done.

    Example: `sentinel-ext tenants reset acme`
    """
    asking = Asking.of(ctx, address, timeout, as_json)
    answer = asking.ask("ResetTenant", {"tenant": name})
    was = "forgot what it had used" if answer["had_used"] else "there was nothing in its window"
    _show_one(asking, answer, f"{name}: {was}")


def _show_one(asking: Asking, answer: dict[str, Any], done: str = "") -> None:
    if asking.as_json:
        print_json(answer)
        return
    from sentinel_ext.cli import _screen, _tables  # noqa: PLC0415  as above

    first = [_screen.text(done)] if done else []
    _screen.show(*first, _tables.tenant(answer["tenant"], answer["instance"], _screen.console()))
