"""envoyproxy/ratelimit's own server beside ours: `make peer` builds it where Go is at hand."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import cpu
from benchmarks.processes import ROOT, Programs, UnavailableError, accepts, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "ratelimit-peer"


def binary() -> Path:
    """Return the program, of this tree or on PATH.

    Raises:
        UnavailableError: it was not built.
    """
    built = ROOT / ".tools" / "bin" / NAME
    found = built if built.exists() else shutil.which(NAME)
    if found is None:
        raise UnavailableError("envoyproxy/ratelimit is not built; `make peer` does it where Go is at hand")
    return Path(found)


def start(
    programs: Programs, rules: str, redis_socket: str, extra: Mapping[str, str] | None = None
) -> tuple[int, int]:
    """Start it on core 0 with `rules`, the text of one file; return its gRPC port and process id.

    Raises:
        UnavailableError: it is not built, or does not start.
    """
    root = programs.folder / "peer"
    folder = root / "ratelimit" / "config"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yaml").write_text(rules, encoding="utf-8")
    port = free_port()
    environment = {
        "HOST": "127.0.0.1", "PORT": str(free_port()),
        "DEBUG_HOST": "127.0.0.1", "DEBUG_PORT": str(free_port()),
        "GRPC_HOST": "127.0.0.1", "GRPC_PORT": str(port),
        "RUNTIME_ROOT": str(root), "RUNTIME_SUBDIRECTORY": "ratelimit", "RUNTIME_WATCH_ROOT": "false",
        "REDIS_SOCKET_TYPE": "unix", "REDIS_URL": redis_socket,
        "LOG_LEVEL": "error",
        # Metrics as ours; without a place for them it logs each answer's time.
        "USE_STATSD": "false", "USE_PROMETHEUS": "true", "PROMETHEUS_ADDR": f"127.0.0.1:{free_port()}",
        # One core is what it gets here; more threads would only switch.
        "GOMAXPROCS": "1",
        **(extra or {}),
    }  # fmt: skip
    pid = programs.start([binary()], cpu.core(0), lambda: accepts(port), environment)
    return port, pid
