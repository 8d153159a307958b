"""`sentinel-ext` many times for the price of one start: a program that forks for every command it is given.

Each command goes through the real entry point with descriptors of its own, as a shell would set them up.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TESTS = Path(__file__).parents[1]
PATIENCE_S = 100.0
# What takes long to read is read once; none of it starts a thread.
PRELOADED = (
    "uvloop",
    "sentinel_ext.cli._explained",
    "sentinel_ext.cli.root",
    "sentinel_ext.client.decisions",
    "sentinel_ext.client.load",
    "sentinel_ext.demo.run",
    "sentinel_ext.policy.loader",
    "sentinel_ext.settings",
)
# Where standard output may go.
KEPT, FULL, CLOSED, NOBODY = "kept", "full", "closed", "nobody reads"
# It is kept, and standard input is closed.
NO_INPUT = "no input"


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def run_all(
    commands: Sequence[tuple[Sequence[str], str]], folder: Path, environment: Mapping[str, str]
) -> list[Ran]:
    """Run commands one after another: their words (surrogates are bytes), and where their output goes."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "support.forked"],
        input=json.dumps(commands),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS), "PYTHONUTF8": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert (0, "") == (done.returncode, done.stderr), done
    return [Ran(*each) for each in json.loads(done.stdout)]


def _run(words: list[str], goes: str) -> tuple[int, str, str]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _become(words, goes, out.fileno(), err.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode("utf-8", "backslashreplace"))
    return code, *said


def _become(words: list[str], goes: str, out: int, err: int) -> None:
    """Be the program, and end as the interpreter does: what is left in buffers is flushed, or fails."""
    os.dup2(err, 2)
    if goes == NOBODY:
        reader, out = os.pipe()
        os.close(reader)
    elif goes == FULL:
        out = os.open("/dev/full", os.O_WRONLY)
    os.dup2(out, 1)
    sys.stdin = None if goes == NO_INPUT else open(os.devnull)  # noqa: SIM115, PTH123  to its end
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    if goes == CLOSED:
        os.close(1)
        sys.stdout = None
    sys.argv = ["sentinel-ext", *words]
    code = 1
    try:
        from sentinel_ext.cli.entry import main  # noqa: PLC0415  the parent has read what takes long

        main()
    except SystemExit as asked:
        code = int(asked.code or 0)
    except BaseException:  # noqa: BLE001  as the interpreter does
        sys.excepthook(*sys.exc_info())
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        print("Exception ignored at the end:", error, file=sys.stderr)
        code = 120
    sys.stderr.flush()
    os._exit(code)


def _main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    json.dump([_run(*each) for each in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    _main()
