"""`sentinel-ext worker`: one of WORKERS processes; `serve` starts it, nobody else does."""

from __future__ import annotations

import socket
import sys
from typing import Annotated

import typer


def command(
    index: Annotated[int, typer.Option(help="Which worker.")],
    count: Annotated[int, typer.Option(help="Of how many.")],
    admin_descriptor: Annotated[int, typer.Option(help="The listening socket for its admin pages.")],
) -> None:
    """Run one worker of `serve`, until SIGTERM or the end of its standard input."""
    import uvloop  # noqa: PLC0415  as in serve.py

    from sentinel_ext.app import Application, Place  # noqa: PLC0415
    from sentinel_ext.policy.sources import load_all  # noqa: PLC0415
    from sentinel_ext.settings import Settings  # noqa: PLC0415
    from sentinel_ext.telemetry.logging import LogWriter  # noqa: PLC0415

    settings = Settings.load()
    policy = load_all(settings)
    place = Place(index, count, socket.socket(fileno=admin_descriptor), sys.stdin.fileno())
    logs = LogWriter(settings.log_level, sys.stdout, worker=index, redact=settings.log_redact or ())
    logs.start()
    try:
        uvloop.run(Application(settings, policy, logs, place).run())
    finally:
        logs.stop()
