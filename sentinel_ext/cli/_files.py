"""Files that commands write."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sentinel_ext.errors import StartError


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
