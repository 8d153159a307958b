"""`sentinel-ext stages`: which stages decide, which only look on, and changing that."""

# Without `from __future__ import annotations`: typer reads shared options where they are used.
from enum import StrEnum
from typing import Annotated, Any

import typer

from sentinel_ext.cli._options import AddressOption, Asking, JsonOption, TimeoutOption, print_json

app = typer.Typer(
    invoke_without_command=True,
    subcommand_metavar="[set STAGE MODE]",
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    stages = [{name: each[name] for name in ("stage", "mode", "is_mode_set")} for each in answer["stages"]]
    if asking.as_json:
        print_json({"stages": stages, "instance": answer["instance"]})
        return
    _show(
        (each["stage"], each["mode"], "set by an operator" if each["is_mode_set"] else "policy")
        for each in stages
    )


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
    if asking.as_json:
        print_json(answer)
        return
    _show(
        (
            each["stage"],
            each["mode"],
            "policy"
            if each["mode"] == each["policy_mode"]
            else f"set; the policy says {each['policy_mode']}",
        )
        for each in answer["stages"]
    )


def _show(rows: Any) -> None:  # noqa: ANN401  triples of text
    from sentinel_ext.cli import _screen  # noqa: PLC0415  rich is for those who print tables

    colours = {"enforce": _screen.GOOD, "shadow": _screen.DOUBTFUL, "off": _screen.QUIET}
    cells = [
        [_screen.text(stage, "bold"), _screen.text(mode, colours.get(mode, "")), _screen.text(why)]
        for stage, mode, why in rows
    ]
    columns = [_screen.Column("stage"), _screen.Column("mode"), _screen.Column("from")]
    _screen.show(_screen.table(columns, cells, _screen.console().width))
