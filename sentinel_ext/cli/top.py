"""`sentinel-ext top`: tenants, pressure and breakers, live."""

# Without `from __future__ import annotations`: typer reads shared options where they are used.
import itertools
import os
import re
import select
import signal
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import typer

from sentinel_ext.cli._ends import complain
from sentinel_ext.cli._options import AddressOption, Asking, TimeoutOption, print_json, seconds
from sentinel_ext.cli.tenants import Order
from sentinel_ext.clock import monotonic_ns, wall_s
from sentinel_ext.errors import ConfigError
from sentinel_ext.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, Group

    from sentinel_ext.client.decisions import DecisionClient

MIN_INTERVAL_S: Final = 0.1
# What of a screen the other tables take, in lines.
_OTHER_LINES: Final = 12
_MAX_TENANTS: Final = 100
# What terminals send for keys that are no letter (ECMA-48 §5.4), and Alt with one.
_SEQUENCE: Final = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)


def command(  # noqa: PLR0913  one parameter per option
    ctx: typer.Context,
    interval: Annotated[float, typer.Option(parser=seconds, metavar="TIME", help="How often to ask.")] = 1.0,
    order: Annotated[Order, typer.Option(help="Which tenants come first.")] = Order.RATE,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end, as --count 1.")] = False,
    count: Annotated[
        int, typer.Option("--count", "-n", min=0, help="Print so many frames and end; 0 goes on.")
    ] = 0,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show tenants, pressure and breakers of a running instance, again every second, until q or Ctrl-C.

    When the service goes away, the last frame stays, a line above it says so, and it is asked again. With
    `--json` or `--count` frames stand below each other; while nothing answers there are none, and standard
    error says so once. A frame in JSON holds what `tenants --json`, `pressure --json` and `breakers --json`
    print, under these names.

    Exit codes: 0 ended by q, Ctrl-C or `--count`, 1 the service could not be asked for the first frame,
    2 wrong arguments.

    Example: `sentinel-ext top --order denied`, in a pipe `sentinel-ext top --once`, and for scripts
    `sentinel-ext top --json --count 10 | jq .pressure.score`
    """
    if interval < MIN_INTERVAL_S:
        raise typer.BadParameter("at least 100ms", param_hint="--interval")
    if once and count > 1:
        raise typer.BadParameter("--once prints one", param_hint="--count")
    try:
        with Asking.of(ctx, address, timeout, as_json).connect() as client:
            ask = partial(_asked, client, order)
            if as_json or once or count:
                _print(ask, interval, 1 if once else count, as_json=as_json)
            else:
                _live(ask, interval)
    except KeyboardInterrupt:
        # That is how it ends, as with q.
        raise typer.Exit(0) from None


def _print(ask: "Callable[[int], dict[str, Any]]", interval_s: float, count: int, *, as_json: bool) -> None:
    def wait() -> bool:
        time.sleep(interval_s)
        return False

    shown, said = 0, ""
    for asked, problem in _rounds(lambda: ask(_MAX_TENANTS), wait):
        if problem:
            if problem != said:
                complain(f"{printable(problem)}; asking again")
            said = problem
            continue
        said = ""
        if as_json:
            print_json(asked, one_line=True)
        else:
            from sentinel_ext.cli import _screen  # noqa: PLC0415  --json does not pay for rich

            _screen.show(*[""] * (shown > 0), frame(asked, _screen.console()))
        shown += 1
        if shown == count:
            return


def _live(ask: "Callable[[int], dict[str, Any]]", interval_s: float) -> None:
    from rich.console import Group  # noqa: PLC0415  as above
    from rich.live import Live  # noqa: PLC0415

    from sentinel_ext.cli import _screen  # noqa: PLC0415

    out, keys = _screen.console(), Keys()
    if not out.is_terminal:
        raise ConfigError(["this is no terminal; `sentinel-ext top --once` prints one frame"])
    rounds = _rounds(lambda: ask(_lines(out)), lambda: keys.asked_to_end(interval_s))
    # Before the screen is taken: who cannot be asked at all is told on the lines below the command.
    first = next(rounds)
    with _ending_in_order(), keys, Live(console=out, screen=True, auto_refresh=False) as live:
        for asked, problem in itertools.chain([first], rounds):
            said = [_screen.text(f"{problem}; asking again", _screen.BAD)] if problem else []
            live.update(Group(*said, frame(asked, out)), refresh=True)


@contextmanager
def _ending_in_order() -> "Iterator[None]":
    """Let what `kill` and a closed terminal send end as q does: who has the screen must give it back."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _rounds(
    ask: "Callable[[], dict[str, Any]]", wait: "Callable[[], bool]"
) -> "Iterator[tuple[dict[str, Any], str]]":
    """Yield what was answered last and, while nobody answers, why; until `wait` says that it is enough.

    Raises:
        AskError: the first question had no answer.
    """
    from sentinel_ext.client.decisions import AskError  # noqa: PLC0415  `--help` does not pay for grpc

    asked, problem = ask(), ""
    while True:
        yield asked, problem
        if wait():
            return
        try:
            asked, problem = ask(), ""
        except AskError as error:
            problem = str(error)


def _lines(out: "Console") -> int:
    return min(max(out.height - _OTHER_LINES, 3), _MAX_TENANTS)


def _asked(client: "DecisionClient", order: Order, limit: int) -> dict[str, Any]:
    now = datetime.fromtimestamp(wall_s(), UTC).isoformat(timespec="milliseconds")
    return {
        "time": now.replace("+00:00", "Z"),
        "address": str(client.address),
        "tenants": client.ask("ListTenants", {"limit": limit, "order_by": order.value}),
        "pressure": client.ask("GetPressure"),
        "breakers": client.ask("ListBreakers"),
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
        if sys.stdin is not None and sys.stdin.isatty():
            import termios  # noqa: PLC0415  not everywhere
            import tty  # noqa: PLC0415

            self._before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._before is not None:
            import termios  # noqa: PLC0415

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    def asked_to_end(self, timeout_s: float) -> bool:
        """Wait for that long, or until somebody presses q or the terminal is gone; say which."""
        watched = [sys.stdin] if self._before is not None else []
        deadline_ns = monotonic_ns() + round(timeout_s * 1e9)
        while (left_ns := deadline_ns - monotonic_ns()) > 0:
            ready, _, _ = select.select(watched, [], [], left_ns / 1e9)
            if ready:
                # All that is there, past Python's buffer: arrows and the like are several bytes each.
                typed = os.read(sys.stdin.fileno(), 1024)
                if not typed or b"q" in _SEQUENCE.sub(b"", typed).lower():
                    return True
        return False
