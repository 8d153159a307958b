"""The command line: one file per command."""

from __future__ import annotations

from sentinel_ext.cli.root import main

__all__ = ["main"]
