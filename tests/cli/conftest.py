"""The command line in this process, and a DecisionService to ask."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from support.decision_server import DecisionServer

from sentinel_ext.cli import root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass
class Done:
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def running() -> Iterator[DecisionServer]:
    with DecisionServer() as server:
        yield server


@pytest.fixture
def server(running: DecisionServer, monkeypatch: pytest.MonkeyPatch) -> DecisionServer:
    """One whose address the environment names, with its first answers."""
    running.reset()
    monkeypatch.setenv("DEBUG_GRPC_ADDRESS", running.address)
    return running


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Done]:
    """`sentinel-ext` with these arguments, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["sentinel-ext", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            root.main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return run
