"""The suite that measures beside envoyproxy/ratelimit: what it counts and what it says without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import peer, processes, ratelimit
from benchmarks.processes import Programs, UnavailableError

ROOT = Path(__file__).parents[2]
PATIENCE_S = 110


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def wait_for_state(pid: int, stopped: bool) -> None:
    deadline = time.monotonic() + 5
    while (state(pid) == "T") != stopped:
        assert time.monotonic() < deadline, state(pid)


def test_our_trips_are_script_calls_and_all_that_redis_ran_counts_as_commands() -> None:
    called = {"evalsha": 10, "get": 40, "set": 40, "time": 10, "info": 3, "client|setname": 1}

    assert {"commands": 1.0, "trips": 0.1} == ratelimit.redis_use(called, 100, pipelined=0)


def test_the_peers_increments_of_one_request_are_one_trip() -> None:
    called = {"incrby": 400, "expire": 400, "info": 3}

    assert {"commands": 8.0, "trips": 1.0} == ratelimit.redis_use(called, 100, pipelined=4)


def test_decisions_that_never_asked_redis_have_no_trips() -> None:
    assert {"commands": 0.0, "trips": 0.0} == ratelimit.redis_use({"info": 2}, 100, pipelined=1)


def test_where_the_peer_is_not_built_it_says_how_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UnavailableError, match="make peer"):
        peer.binary()


def test_a_peer_on_the_path_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / peer.NAME
    program.touch(mode=0o755)
    monkeypatch.setattr(peer, "ROOT", tmp_path / "elsewhere")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert program == peer.binary()


def test_frozen_processes_stand_still_and_go_on_afterwards_even_after_an_error() -> None:
    with Programs() as programs:
        pid = programs.start(
            [sys.executable, "-c", "import signal; signal.pause()"],
            os.sched_getaffinity(0),
            lambda: True,
        )
        with pytest.raises(UnavailableError), processes.frozen([pid]):  # noqa: PT012  both belong to the property
            wait_for_state(pid, stopped=True)
            raise UnavailableError("the run is void")
        wait_for_state(pid, stopped=False)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp("results") / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", "--quick", "--only", "ratelimit", "--json", str(path)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    (only,) = json.loads(path.read_text())["tables"]
    return only


def test_sentinel_answers_every_case_as_the_case_wants(table: dict) -> None:
    ours = [row for row in table["rows"] if row["what"]["server"] != ratelimit.PEER]

    assert [(case.name, server) for case in ratelimit.CASES[::2] for server in ("sentinel", "no leases")] == [
        (row["what"]["case"], row["what"]["server"]) for row in ours
    ]
    for row in ours:
        assert "" == row["note"]
        assert row["values"]["answers_per_s"] > 0
        assert row["values"]["trips"] < 1


def test_the_peer_is_measured_or_said_to_be_missing(table: dict) -> None:
    theirs = [row for row in table["rows"] if row["what"]["server"] == ratelimit.PEER]

    assert theirs
    for row in theirs:
        if row["values"]:
            assert 1 == row["values"]["ratio"]
        else:
            assert "not measured" in row["note"]
            assert "make peer" in row["note"]
