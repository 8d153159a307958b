"""`sentinel-ext protoset`: descriptors for clients where reflection is off."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sentinel_ext.cli import _files


def command(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of stdout.")
    ] = None,
) -> None:
    """Write a FileDescriptorSet of all that Sentinel serves, for `grpcurl -protoset` where reflection is off.

    Example: `sentinel-ext protoset -o sentinel.protoset`, then

    `grpcurl -plaintext -protoset sentinel.protoset 127.0.0.1:50052 sentinel.v1.DecisionService/GetPressure`
    """
    if output is None and sys.stdout.isatty():
        raise typer.BadParameter("it is binary; name a file, or lead it into one", param_hint="--output")
    from sentinel_ext.services.protoset import protoset  # noqa: PLC0415  other commands do not pay for it

    data = protoset()
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        _files.write(output, data)
