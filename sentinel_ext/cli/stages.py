"""`sentinel-ext stages`: which stages decide, which only look on, and changing that."""

# Without `from __future__ import annotations`: typer reads shared options where they are used.
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from sentinel_ext.cli import _names
from sentinel_ext.cli._options import AddressOption, Asking, JsonOption, TimeoutOption, print_json

app = _names.group("[set STAGE MODE]")


# The fields of the API's StageState.
STATE: Final = ("stage", "mode", "policy_mode", "is_mode_set")


class Stage(StrEnum):
    """What has a mode."""

    BUCKET = "bucket"
    WINDOW = "window"
    PRESSURE = "pressure"
    BREAKER = "breaker"


class Mode(StrEnum):
    """How a stage runs."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"
    POLICY = "policy"


@app.callback()
def command(
    ctx: typer.Context,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the mode of each stage: enforce decides, shadow decides and lets pass, off is not asked.

    Modes come from the policy file's `stages:`, unless somebody has set another one (`stages set`).

    Example: `sentinel-ext stages`, and to see what the pressure stage would do without letting it refuse
    anybody `sentinel-ext stages set pressure shadow`.
    """
    asking = Asking.of(ctx, address, timeout, as_json)
    ctx.obj = asking
    if ctx.invoked_subcommand is not None:
        return
    # Explaining names the mode of every stage, whoever asks.
    answer = asking.ask("Explain", {"request": {"tenant": "anonymous"}})
    stages = [{name: each[name] for name in STATE} for each in answer["stages"]]
    _show(asking, {"stages": stages, "instance": answer["instance"]})


@app.command("set")
def set_mode(
    ctx: typer.Context,
    stage: Annotated[Stage, typer.Argument(show_default=False, help="The stage.")],
    mode: Annotated[Mode, typer.Argument(show_default=False, help="policy goes by the policy file again.")],
    address: AddressOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a stage in another mode than the policy says, on all instances, until it is set back to `policy`.

    Needs ADMIN_ACTIONS=true where `serve` runs; the log says what was done.

    Example: `sentinel-ext stages set window shadow`, and back `sentinel-ext stages set window policy`.
    """
    asking = Asking.of(ctx, address, timeout, as_json)
    answer = asking.ask("SetStageMode", {"stage": stage.value, "mode": mode.value})
    _show(asking, answer)


def _show(asking: Asking, answer: dict[str, Any]) -> None:
    """Print `stages` of an answer: StageStates, wherever they come from."""
    if asking.as_json:
        print_json(answer)
        return
    from sentinel_ext.cli import _screen  # noqa: PLC0415  rich is for those who print tables

    colours = {"enforce": _screen.GOOD, "shadow": _screen.DOUBTFUL, "off": _screen.QUIET}
    cells = [
        [
            _screen.text(each["stage"], "bold"),
            _screen.text(each["mode"], colours.get(each["mode"], "")),
            _screen.text(f"set; the policy says {each['policy_mode']}" if each["is_mode_set"] else "policy"),
        ]
        for each in answer["stages"]
    ]
    columns = [_screen.Column("stage"), _screen.Column("mode"), _screen.Column("from")]
    _screen.show(_screen.table(columns, cells, _screen.console().width))
