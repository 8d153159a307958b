"""Files that commands write, and what they are given on standard input."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from sentinel_ext.errors import ConfigError, StartError


def read_stdin(most: int) -> bytes:
    """Return what stands on standard input, at most so many bytes.

    Raises:
        ConfigError: it is closed.
    """
    if sys.stdin is None:
        raise ConfigError(["-: standard input is closed; lead a file into it, or name one"])
    return sys.stdin.buffer.read(most)


def write(path: Path, data: bytes) -> None:
    """Replace `path` in one step: who reads it meanwhile gets the old file or the new one, whole.

    Raises:
        StartError: it cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(data)
        os.chmod(file.name, 0o644)  # noqa: PTH101  others read it, Envoy as another user; nothing is secret
        Path(file.name).replace(path)
    except OSError as error:
        raise StartError(f"--output: cannot write {path}: {error.strerror}") from error
