"""CPU time of processes, and which cores they may use. Linux only: it reads /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def seconds_used(pid: int) -> float:
    """Return user and system CPU seconds of all threads of `pid`, ended ones too; in steps of 10 ms."""
    # The command's name is in parentheses and may hold spaces; the 14th and 15th fields are utime and stime.
    fields = (
        Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    )
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def core(number: int) -> set[int]:
    """Return the `number`-th core this process may use, counted round: 0 for the server, 1 for the client."""
    allowed = sorted(os.sched_getaffinity(0))
    return {allowed[number % len(allowed)]}
