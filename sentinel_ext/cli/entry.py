"""Where `sentinel-ext` begins: a health probe takes the quick way, everything else the command line."""

from __future__ import annotations

import sys

from sentinel_ext.cli import _ends


def main() -> None:
    """Run `sentinel-ext`, and end with its exit code."""
    sys.exit(_ends.ended(_command))


def _command() -> None:
    """Go the quick way, if it is one.

    typer and what it imports take 150 ms of CPU. A container with a tenth of a core would spend more than a
    second on that, which is all the time that Kubernetes gives a probe.
    """
    if sys.argv[1:2] == ["healthcheck"]:
        from sentinel_ext.cli import _probe  # noqa: PLC0415  others do not pay for it

        code = _probe.quickly(sys.argv[2:])
        if code is not None:
            sys.exit(code)
    from sentinel_ext.cli.root import main as run  # noqa: PLC0415  this is what takes the time

    run()
