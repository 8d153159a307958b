"""Where the demo's programs are: on PATH, or beside this Python, where their wheels put them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from sentinel_ext.errors import StartError

# Not resolved: inside a virtual environment the interpreter is a link, and the wheels' scripts are beside it.
_BESIDE = Path(sys.executable).parent
_REMEDY = "install it, or both wheels with: pip install 'sentinel-ext[demo]'"


def find_redis(beside: Path = _BESIDE, path: str | None = None) -> Path:
    """Return redis-server: the one on PATH if there is one, else the wheel's.

    Args:
        beside: the folder of this Python's scripts.
        path: folders to search instead of PATH.

    Raises:
        StartError: there is none.
    """
    return _first("redis-server", [path, str(beside)], beside)


def find_envoy(beside: Path = _BESIDE, path: str | None = None) -> Path:
    """Return envoy: the wheel's, whose version is the tested one, else the one on PATH.

    Raises:
        StartError: there is none.
    """
    return _first("envoy", [str(beside), path], beside)


def on_path(name: str) -> Path | None:
    """Return a program of PATH that no wheel brings; None if there is none."""
    found = shutil.which(name)
    return None if found is None else Path(os.path.abspath(found))  # noqa: PTH100  as below


def _first(name: str, places: list[str | None], beside: Path) -> Path:
    for place in places:
        found = shutil.which(name, path=place)
        if found is not None:
            # A relative entry of PATH would mean another file once a child has another working directory.
            return Path(os.path.abspath(found))  # noqa: PTH100  resolve() would follow the wheel's links
    raise StartError(f"{name} is neither on PATH nor in {beside}: {_REMEDY}")
