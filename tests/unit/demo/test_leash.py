"""A program on a leash ends with its parent, however the parent ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sentinel_ext.demo import leash

# Starts a leashed program that writes its pid and then waits on a pipe, whose end tells us that it is gone.
PARENT = """
import os, subprocess, sys
subprocess.Popen([
    sys.executable, "-I", "-S", sys.argv[1], str(os.getpid()),
    sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)",
])
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux'")
def test_sigkill_of_the_parent_ends_the_program() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, leash.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"

        parent.kill()

        # The program holds the other end of stdout: reading to the end waits for its end.
        assert parent.stdout.read() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux'")
def test_a_parent_that_died_before_is_noticed() -> None:
    done = subprocess.run(
        [sys.executable, leash.__file__, "1", sys.executable, "-c", "print('must not run')"],
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (leash.EXIT_CANNOT_START, b"")
