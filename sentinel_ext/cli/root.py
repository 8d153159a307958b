"""The `sentinel-ext` command and its sub-commands."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from sentinel_ext.cli import (
    bench,
    breakers,
    check_config,
    demo,
    envoy_config,
    explain,
    healthcheck,
    policy_schema,
    pressure,
    protoset,
    serve,
    stages,
    tenants,
    top,
    watch,
    worker,
)
from sentinel_ext.cli._ends import complain
from sentinel_ext.errors import SentinelError
from sentinel_ext.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN, LOOK, ACT, CONFIGURE = "Run", "Look", "Look and act", "Configure"


class _Root(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401  typer keeps click's types to itself
        """List panels in the order in which somebody meets them; typer puts groups last."""
        panels = [RUN, LOOK, ACT, CONFIGURE]

        def place(name: str) -> int:
            panel = getattr(self.commands[name], "rich_help_panel", None)
            return panels.index(panel) if panel in panels else len(panels)

        return sorted(super().list_commands(ctx), key=place)

    def make_context(self, *args: Any, **more: Any) -> Any:  # noqa: ANN401  likewise
        """Read the command line."""
        with _harmless():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  likewise
        """Run the command."""
        with _harmless():
            return super().invoke(ctx)


@contextmanager
def _harmless() -> Iterator[None]:
    """Escape what stands in typer's complaints: it repeats arguments as they were given."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):
            # Click's own class, which typer keeps to itself.
            error.message = printable(str(getattr(error, "message", "")))  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    cls=_Root,
    name="sentinel-ext",
    help="The decision service beside Envoy: rate limits, tiers and circuit breaking for a whole fleet.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve", rich_help_panel=RUN)(serve.command)
app.command("worker", hidden=True)(worker.command)
app.command("demo", rich_help_panel=RUN)(demo.command)
app.command("healthcheck", rich_help_panel=RUN)(healthcheck.command)
app.command("bench", rich_help_panel=RUN)(bench.command)
app.command("explain", rich_help_panel=LOOK)(explain.command)
app.command("watch", rich_help_panel=LOOK)(watch.command)
app.command("top", rich_help_panel=LOOK)(top.command)
app.command("pressure", rich_help_panel=LOOK)(pressure.command)
app.add_typer(tenants.app, name="tenants", rich_help_panel=ACT)
app.add_typer(breakers.app, name="breakers", rich_help_panel=ACT)
app.add_typer(stages.app, name="stages", rich_help_panel=ACT)
app.command("check-config", rich_help_panel=CONFIGURE)(check_config.command)
app.command("envoy-config", rich_help_panel=CONFIGURE)(envoy_config.command)
app.command("policy-schema", rich_help_panel=CONFIGURE)(policy_schema.command)
app.command("protoset", rich_help_panel=CONFIGURE)(protoset.command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from sentinel_ext import __version__  # noqa: PLC0415  takes 30 ms to look up

        typer.echo(f"sentinel-ext {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; `entry` is around it.

    Exit codes: 0 done, 1 could not, 2 wrong configuration or arguments, 130 ended by Ctrl-C.
    """
    try:
        app(prog_name="sentinel-ext")
    except SentinelError as error:
        # Names of a service and of files stand in them.
        for line in str(error).splitlines():
            complain(printable(line))
        sys.exit(error.exit_code)
