"""A real Envoy of the tests' own, from the wheel; all on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ENVOY = Path(sys.executable).parent / "envoy"
READY_S = 30.0


def free_port() -> int:
    """Return a loopback port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def validate(config: Path) -> subprocess.CompletedProcess[str]:
    """Run `envoy --mode validate`."""
    command = [ENVOY, "--mode", "validate", "-c", config, "-l", "warning"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class EnvoyProcess:
    """Starts Envoy with a configuration file; ends only the process it started."""

    def __init__(self, config: Path, admin_port: int) -> None:
        self.admin = f"http://127.0.0.1:{admin_port}"
        self._config = config
        self._log = config.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> EnvoyProcess:
        command = [ENVOY, "-c", self._config, "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_S
        while not self._is_ready():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)
        return self

    def stat(self, name: str) -> int:
        """Read one counter or gauge."""
        with urllib.request.urlopen(f"{self.admin}/stats?filter=^{name}$", timeout=5) as response:
            line = response.read().decode().strip()
        return int(line.rpartition(" ")[2]) if line else 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.admin}/ready", timeout=1) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False
