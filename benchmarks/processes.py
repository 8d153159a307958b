"""The programs of a benchmark: started on a core of their own, watched, ended when the benchmark is done."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from benchmarks.load import Result
from sentinel_ext.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from benchmarks.load import Plan

ROOT = Path(__file__).parent.parent
READY_S = 30.0
POLL_S = 0.02
# Sentinel drains for seconds before it ends.
GRACE_S = 20.0
# What a run may take above its own seconds.
LOAD_GRACE_S = 60.0
_PATH = re.compile(r"(?:/[^/\s'\":]+){2,}")


class UnavailableError(Exception):
    """This part cannot be measured here; the text says why."""


class Programs:
    """A scope: what is started inside ends with it, the last first; so does its folder."""

    def __enter__(self) -> Self:
        self._exits = ExitStack()
        # /tmp keeps the names of Unix sockets short (108 bytes in all).
        self.folder = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="snb-")))
        self._count = 0
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def start(
        self,
        argv: Sequence[str | Path],
        cores: set[int],
        is_ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Start `argv` on `cores` and wait until `is_ready`; return its process id.

        Raises:
            UnavailableError: it ended, or was not ready within READY_S.
        """
        self._count += 1
        log = self.folder / f"{self._count}-{Path(argv[0]).name}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=child_environment(environment),
                cwd=self.folder,
                # Before exec: threads that the program starts at once inherit it.
                preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509  this process has one thread
            )
        self._exits.callback(_end, process)
        deadline_ns = monotonic_ns() + round(READY_S * 1e9)
        while not is_ready():
            if process.poll() is not None or monotonic_ns() > deadline_ns:
                said = log.read_text(encoding="utf-8", errors="replace")
                raise UnavailableError(f"{Path(argv[0]).name} did not get ready: {last_line(said)}")
            time.sleep(POLL_S)
        return process.pid

    def python(
        self, module: str, *arguments: str, cores: set[int], is_ready: Callable[[], bool], **environment: str
    ) -> int:
        """Start a Python module like `start`."""
        return self.start([sys.executable, "-m", module, *arguments], cores, is_ready, environment)


def load(plan: Plan, cores: set[int]) -> Result:
    """Run the load client on `cores`.

    Raises:
        UnavailableError: the run is void; says why.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=msgspec.json.encode(plan),
        capture_output=True,
        check=False,
        env=child_environment(),
        timeout=plan.warm_s + plan.measured_s + LOAD_GRACE_S,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    if done.returncode != 0:
        said = last_line(done.stderr.decode(errors="replace"))
        raise UnavailableError(f"the load client gave up: {said}")
    return msgspec.json.decode(done.stdout, type=Result)


@contextmanager
def frozen(pids: Sequence[int]) -> Iterator[None]:
    """Stop processes for a while: what idle ones do would cost the one measured on their core."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def free_port() -> int:
    """Return a loopback port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Say whether somebody listens on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def http_get(url: str) -> bytes | None:
    """Return the body of a 200 from a loopback page; None for anything else."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bytes(response.read()) if response.status == 200 else None
    except (urllib.error.URLError, OSError):
        return None


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a child gets: `extra` and what Python needs, nothing of the caller's settings."""
    # PATH finds redis-server; the package `benchmarks` is at the root.
    own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return {**own, **(extra or {})}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_line(text: str) -> str:
    """Return the last line, which says what was wrong; without paths, which belong into no result."""
    lines = text.strip().splitlines() or ["it said nothing"]
    return _PATH.sub("...", lines[-1])


def find(name: str) -> Path:
    """Return a program beside this Python or on PATH.

    Raises:
        UnavailableError: there is none.
    """
    beside = Path(sys.executable).parent
    found = shutil.which(name, path=str(beside)) or shutil.which(name)
    if found is None:
        raise UnavailableError(f"{name} is neither on PATH nor beside this Python")
    return Path(found)


def rss_mib(pid: int) -> float:
    """Resident memory of a process, MiB (Linux /proc)."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in text.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024
