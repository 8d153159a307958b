"""`sentinel-ext top`: tenants, pressure and breakers, live."""

# Without `from __future__ import annotations`: typer reads shared options where they are used.
import select
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import typer

from sentinel_ext.cli._options import AddressOption, Asking, TimeoutOption, seconds
from sentinel_ext.cli.tenants import Order
from sentinel_ext.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console, Group

    from sentinel_ext.client.decisions import DecisionClient

MIN_INTERVAL_S: Final = 0.1
# What of a screen the other tables take, in lines.
_OTHER_LINES: Final = 12
_MAX_TENANTS: Final = 100


def command(
    ctx: typer.Context,
    interval: Annotated[float, typer.Option(parser=seconds, metavar="TIME", help="How often to ask.")] = 1.0,
    order: Annotated[Order, typer.Option(help="Which tenants come first.")] = Order.RATE,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Show tenants, pressure and breakers of a running instance, again every second, until q or Ctrl-C.

    When the service goes away, the last frame stays, and it is asked again. For programs there are
    `tenants --json`, `pressure --json` and `breakers --json`.

    Exit codes: 0 ended by q or Ctrl-C, 1 the service could not be asked, 2 wrong arguments.

    Example: `sentinel-ext top --order denied`, in a pipe `sentinel-ext top --once`
    """
    if interval < MIN_INTERVAL_S:
        raise typer.BadParameter("at least 100ms", param_hint="--interval")
    from sentinel_ext.cli import _screen  # noqa: PLC0415  `--help` does not pay for rich's tables

    out = _screen.console()
    with Asking.of(ctx, address, timeout, as_json=False).connect() as client:
        if once:
            _screen.show(frame(_asked(client, order, _MAX_TENANTS), out))
            return
        if not out.is_terminal:
            raise ConfigError(["this is no terminal; `sentinel-ext top --once` prints one frame"])
        try:
            _live(client, order, interval, out)
        except KeyboardInterrupt:
            # That is how it ends, as with q.
            raise typer.Exit(0) from None


def _live(client: "DecisionClient", order: Order, interval_s: float, out: "Console") -> None:
    from rich.console import Group  # noqa: PLC0415  as above
    from rich.live import Live  # noqa: PLC0415

    from sentinel_ext.cli import _screen  # noqa: PLC0415
    from sentinel_ext.client.decisions import AskError  # noqa: PLC0415

    shown = frame(_asked(client, order, _lines(out)), out)
    with Keys() as keys, Live(shown, console=out, screen=True, auto_refresh=False) as live:
        while True:
            live.update(shown, refresh=True)
            if keys.pressed(interval_s) in {"q", "Q"}:
                return
            try:
                shown = frame(_asked(client, order, _lines(out)), out)
            except AskError as error:
                said = _screen.text(f"{error}; asking again", _screen.BAD)
                live.update(Group(said, shown), refresh=True)
                if keys.pressed(interval_s) in {"q", "Q"}:
                    return


def _lines(out: "Console") -> int:
    return min(max(out.height - _OTHER_LINES, 3), _MAX_TENANTS)


def _asked(client: "DecisionClient", order: Order, limit: int) -> dict[str, Any]:
    return {
        "tenants": client.ask("ListTenants", {"limit": limit, "order_by": order.value}),
        "pressure": client.ask("GetPressure"),
        "breakers": client.ask("ListBreakers"),
        "address": str(client.address),
    }


def frame(asked: dict[str, Any], out: "Console") -> "Group":
    """Return one screen."""
    from rich.console import Group  # noqa: PLC0415  as above

    from sentinel_ext.cli import _screen, _tables  # noqa: PLC0415

    tenants, breakers = asked["tenants"]["tenants"], asked["breakers"]["breakers"]
    allowed, denied = (sum(each[name] for each in tenants) for name in ("allowed", "denied"))
    rate = sum(each["rate_per_s"] for each in tenants)
    state = _screen.text(
        f"{asked['tenants']['instance']} at {asked['address']}: {asked['tenants']['total']} tenants; "
        f"of those shown {_screen.number(rate)} requests per second, {allowed} allowed, {denied} denied",
        "bold",
    )
    parts: list[Any] = [state, *_tables.pressure(asked["pressure"], out), ""]
    if breakers:
        parts += [_tables.breakers(breakers, out), ""]
    parts.append(_tables.tenants(tenants, out))
    return Group(*parts)


class Keys:
    """Reads single keys of a terminal; where standard input is none, it only waits."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        if sys.stdin.isatty():
            import termios  # noqa: PLC0415  not everywhere
            import tty  # noqa: PLC0415

            self._before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._before is not None:
            import termios  # noqa: PLC0415

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    def pressed(self, timeout_s: float) -> str:
        """Wait for a key; "" when none was pressed."""
        watched = [sys.stdin] if self._before is not None else []
        ready, _, _ = select.select(watched, [], [], timeout_s)
        return sys.stdin.read(1) if ready else ""
