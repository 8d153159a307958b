"""The `sentinel-ext` command and its sub-commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sentinel_ext import __version__
from sentinel_ext.cli import check_config, demo, envoy_config, policy_schema, serve, worker
from sentinel_ext.errors import SentinelError

app = typer.Typer(
    name="sentinel-ext",
    help="The decision service beside Envoy: rate limits, tiers and circuit breaking for a whole fleet.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.command)
app.command("worker", hidden=True)(worker.command)
app.command("demo")(demo.command)
app.command("check-config")(check_config.command)
app.command("envoy-config")(envoy_config.command)
app.command("policy-schema")(policy_schema.command)


def _show_version(wanted: bool) -> None:
    if wanted:
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
    """Run the command line. Exit codes: 0 done, 1 could not, 2 wrong configuration or arguments."""
    try:
        app()
    except SentinelError as error:
        for line in str(error).splitlines():
            typer.echo(f"sentinel-ext: {line}", err=True)
        sys.exit(error.exit_code)
