"""The benchmarks run and report; nothing here asks how fast anything was."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 110


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.run", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], dict]:
    path = tmp_path_factory.mktemp("results") / "results.json"
    done = run("--quick", "--only", "constant", "--json", str(path))
    assert 0 == done.returncode, done.stderr
    return done, json.loads(path.read_text())


def test_every_server_answers_every_request(quick) -> None:
    _, document = quick
    (table,) = document["tables"]

    assert "constant" == table["name"]
    assert ["grpcio", "lean", "lean-async"] == [row["what"]["server"] for row in table["rows"]]
    for row in table["rows"]:
        assert "" == row["note"]
        assert row["values"]["answers_per_s"] > 0
        assert 0 < row["values"]["p50_ms"] <= row["values"]["p99_ms"]


def test_the_table_is_on_stdout_and_progress_on_stderr(quick) -> None:
    done, _ = quick

    lines = done.stdout.splitlines()
    assert lines[0].startswith("constant: ")
    assert ["server", "answers_per_cpu_s", "answers_per_s"] == lines[1].split()[:3]
    assert "lean-async" in lines[4]
    assert "run 1 of 1: lean" in done.stderr


def test_results_name_the_machine_s_kind_but_neither_the_machine_nor_its_folders(quick) -> None:
    _, document = quick
    machine = document["machine"]
    text = json.dumps(document)

    assert {"cpu", "cores", "system", "python", "packages", "redis_server"} == set(machine)
    assert machine["python"].endswith(".".join(map(str, sys.version_info[:3])))
    assert "grpcio" in machine["packages"]
    assert str(ROOT) not in text
    assert str(Path.home()) not in text
    assert socket.gethostname() not in {word.strip('",:') for word in text.split()}


def test_help_tells_the_suites_and_a_wrong_one_is_refused() -> None:
    told, refused = run("--help"), run("--only", "nothing")

    assert 0 == told.returncode
    assert all(name in told.stdout for name in ("constant", "check", "proxy", "growth", "--quick", "--json"))
    assert 2 == refused.returncode
    assert "invalid choice" in refused.stderr


@pytest.mark.parametrize("arguments", [("--runs", "0"), ("--seconds", "0"), ("--seconds", "601")])
def test_numbers_out_of_range_are_refused(arguments: tuple[str, str]) -> None:
    assert 2 == run(*arguments).returncode
