"""An environment that has a wheel and what the wheel declares: as `pip install` leaves it, in seconds.

Installing everything anew takes half a minute of CPU and an index. Here the declared dependencies, and
theirs, are links to what the tests' own environment has of them; nothing else of it can be seen. pip itself
then installs the wheel without an index, so it refuses when a declared dependency is not there.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import venv
from collections import defaultdict
from importlib.metadata import Distribution, distribution, distributions
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def needed(requirements: list[str]) -> dict[str, Distribution]:
    """Return the distributions that requirements lead to, by name."""
    found: dict[str, Distribution] = {}
    done: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found.setdefault(name, distribution(name))
        for each in {"", *requirement.extras}:
            if (name, each) not in done:
                done.add((name, each))
                waiting += [(Requirement(text), each) for text in found[name].requires or ()]
    return found


def files_of(installed: Distribution) -> set[str]:
    """Return the modules and data of a distribution by their path in site-packages; scripts are left out."""
    # Its `files` makes a path of each, which takes seconds for 20,000 of them.
    rows = csv.reader((installed.read_text("RECORD") or "").splitlines())
    return {name for name, *_ in rows if not name.startswith(("..", "/"))}


def above(name: str) -> Iterator[str]:
    """Tell the folders of a file, the outermost first."""
    at = name.find("/")
    while at >= 0:
        yield name[:at]
        at = name.find("/", at + 1)


def owners() -> dict[str, set[str]]:
    """Return who has files in a folder of site-packages, of all that is installed."""
    found: dict[str, set[str]] = defaultdict(set)
    for installed in distributions():
        owner = canonicalize_name(installed.name)
        for folder in {folder for name in files_of(installed) for folder in above(name)}:
            found[folder].add(owner)
    return found


def link(packages: Path, installed: dict[str, Distribution]) -> None:
    """Link distributions into a site-packages: whole folders where nobody else has files in them."""
    owned = owners()
    for owner, each in installed.items():
        names = files_of(each)
        for name in {next((up for up in above(name) if owned[up] == {owner}), name) for name in names}:
            (packages / name).parent.mkdir(parents=True, exist_ok=True)
            if not (packages / name).is_symlink():
                (packages / name).symlink_to(str(each.locate_file(name)))


def make(folder: Path, wheel: Path, requirements: list[str]) -> Path:
    """Make the environment in `folder`; return the folder of its programs."""
    venv.create(folder, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    link(folder / "lib" / version / "site-packages", needed(requirements))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            folder / "bin" / "python",
            "install",
            "--no-index",
            "-q",
            wheel,
        ],
        env=os.environ
        | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_ROOT_USER_ACTION": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return folder / "bin"
