"""The real prometheus and promtool, which `make prometheus` puts into .tools/bin."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / ".tools/bin"


def program(name: str) -> str:
    """Return `prometheus` or `promtool`; skip where this project could not have brought it."""
    found = shutil.which(name, path=f"{TOOLS}:{os.environ['PATH']}")
    if found is None:
        assert shutil.which("apt-get") is None, f"apt-get is here, so `make tools` must have brought {name}"
        pytest.skip(f"{name} is not installed: `make tools` where there is apt-get")
    return found
