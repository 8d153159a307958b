"""docs/cli.md: its commands run against a running demo, and what they answered stands below them.

cd tests && python -m support.cli_page     writes the answers into the page (`make debugging-docs`)
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from support.debug_page import ADDRESS, running_demo

from sentinel_ext.cli.root import app

if TYPE_CHECKING:
    from support.debug_page import Demo

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/cli.md"
GRPC_ADDRESS = "127.0.0.1:50051"
MAX_LINES = 34
_BLOCK = re.compile(r"```console\n\$ (?P<command>[^\n]+)\n(?P<answer>.*?)```", re.DOTALL)
_CODE = re.compile(r"^# exit code ([0-9]+)\n", re.MULTILINE)
# Ids and instances differ from run to run.
_CHANGING = [
    (re.compile(r"\b[0-9a-f]{16,}\b"), "\u2026"),
    (re.compile(r"[\w.-]+:[0-9a-f]{8}\b"), "gateway-1:1a2b3c4d"),
]


@dataclass
class Block:
    """A command of the page, what stands below it, and its exit code."""

    command: str
    answer: str
    code: int


@dataclass
class Ran:
    """What a command did; `complaint` is what it said on standard error beyond progress."""

    answer: str
    code: int
    complaint: str


def blocks() -> list[Block]:
    """Return every command of the page."""
    return [
        Block(found["command"], _CODE.sub("", found["answer"]), _code(found["answer"]))
        for found in _BLOCK.finditer(PAGE.read_text())
    ]


def _code(answer: str) -> int:
    found = _CODE.search(answer)
    return int(found[1]) if found else 0


def names() -> list[str]:
    """Return every command that `sentinel-ext --help` lists."""
    command = typer.main.get_command(app)
    return [name for name, each in command.commands.items() if not each.hidden]  # type: ignore[attr-defined]


def furnish(folder: Path) -> None:
    """Put what the page's commands read into a folder."""
    folder.mkdir()
    shutil.copy(ROOT / "sentinel_ext/demo/policy.yaml", folder / "policy.yaml")
    check = '{"attributes": {"request": {"http": {"method": "GET", "headers": {"x-tenant-id": "acme"}}}}}\n'
    (folder / "check.json").write_text(check)


def run(command: str, demo: Demo, folder: Path) -> Ran:
    """Run a line as it stands, in the shell, but for the ports."""
    done = subprocess.run(
        ["bash", "-c", command.replace(ADDRESS, demo.debug).replace(GRPC_ADDRESS, demo.grpc)],
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "DEBUG_GRPC_ADDRESS": demo.debug,
            "GRPC_ADDRESS": demo.grpc,
            "PYTHONUTF8": "1",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    answer = (done.stdout + (done.stderr if done.returncode else "")).replace(demo.debug, ADDRESS)
    progress = "connections x" in done.stderr
    complaint = "" if done.returncode or progress else done.stderr
    return Ran(answer.replace(demo.grpc, GRPC_ADDRESS), done.returncode, complaint)


def shown(answer: str) -> str:
    """Cut an answer for the page, and take out what is never the same twice."""
    for pattern, instead in _CHANGING:
        answer = pattern.sub(instead, answer)
    lines = answer.splitlines()
    if len(lines) > MAX_LINES:
        lines = [*lines[:MAX_LINES], "\u2026"]
    return "".join(f"{line}\n" for line in lines)


def write_page() -> None:
    """Run every line and write what it answered below it."""
    with tempfile.TemporaryDirectory(prefix="snt-") as name, running_demo(Path(name)) as demo:
        folder = Path(name) / "cli"
        furnish(folder)

        def again(found: re.Match[str]) -> str:
            ran = run(found["command"], demo, folder)
            assert ran.code == _code(found["answer"]), ran
            code = f"# exit code {ran.code}\n" if ran.code else ""
            return f"```console\n$ {found['command']}\n{code}{shown(ran.answer)}```"

        PAGE.write_text(_BLOCK.sub(again, PAGE.read_text()))


if __name__ == "__main__":
    write_page()
