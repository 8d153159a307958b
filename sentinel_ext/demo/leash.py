"""Run a program that cannot outlive its parent: `python leash.py PARENT_PID PROGRAM ARG...`.

A demo that is killed with SIGKILL cannot stop its children; Linux does it (prctl(2), PR_SET_PDEATHSIG).
This is a program of its own and not a preexec_fn: Python code between fork and exec can deadlock once
threads run, and Python 3.12 warns about it. The process keeps its id through exec, so the pid the demo knows
is the program's. Imports only the standard library: it runs isolated, before the program it turns into.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

# From linux/prctl.h.
PR_SET_PDEATHSIG = 1
# What a shell answers for a program that cannot be started.
EXIT_CANNOT_START = 127


def main(arguments: list[str]) -> int:
    """Tie this process to its parent, then become the program."""
    parent, program = int(arguments[0]), arguments[1]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            # The parent died before prctl: no signal will come.
            return EXIT_CANNOT_START
    try:
        os.execv(program, arguments[1:])  # noqa: S606  no shell is wanted
    except OSError as error:
        sys.stderr.write(f"cannot start {program}: {error.strerror}\n")
    return EXIT_CANNOT_START


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
