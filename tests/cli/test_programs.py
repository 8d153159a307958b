"""`sentinel-ext` as a program: pipes that close, Ctrl-C, a terminal, completion, load."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from support.decision_server import ANSWERS, EVENT, HOSTILE, TENANT

from sentinel_ext.services.protoset import protoset

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "sentinel_ext"]
PATIENCE_S = 20.0


def started(*words: str, **more: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
    )


def endless() -> Iterator[dict]:
    while True:
        yield EVENT
        time.sleep(0.001)


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_reader_that_goes_away_ends_a_watch_without_a_word(server, more):
    server.answers["WatchDecisions"] = endless()

    with started("watch", *more) as watch:
        assert watch.stdout.readline()
        watch.stdout.close()

        assert 1 == watch.wait(PATIENCE_S)
        assert b"" == watch.stderr.read()


@pytest.mark.parametrize(("words", "code"), [(("watch",), 0), (("tenants", "--timeout", "1m"), 130)])
def test_ctrl_c_ends_quietly(server, words, code):
    server.answers["WatchDecisions"] = endless()
    server.delay_s = 0.0 if words[0] == "watch" else 3.0
    program = started(*words)
    deadline = time.monotonic() + PATIENCE_S
    while not {"WatchDecisions", "ListTenants"} & set(server.asked):
        assert time.monotonic() < deadline
        time.sleep(0.01)

    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=PATIENCE_S)

    assert (code, b"") == (program.returncode, err)
    assert b"Aborted" not in out


def test_top_on_a_terminal_goes_on_until_q_and_leaves_it_as_it_was(server):
    mine, its = pty.openpty()
    top = subprocess.Popen(
        [*PROGRAM, "top", "--interval", "100ms"], stdin=its, stdout=its, stderr=its,
        env={**os.environ, "TERM": "xterm", "LINES": "30", "COLUMNS": "100"},
    )  # fmt: skip
    shown = read_until(mine, b"acme")
    server.answers["ListTenants"] = {"tenants": [{**TENANT, "tenant": "globex"}], "total": 1}
    shown += read_until(mine, b"globex")
    server.answers["GetPressure"] = (grpc.StatusCode.INTERNAL, "broken")
    shown += read_until(mine, b"asking again")
    # Arrows and other keys neither end it nor hurry it; each picture of a service that is away says so.
    os.write(mine, b"\x1b[A\x1bOq\x1b[3~x")
    away = b"".join(read_until(mine, b"asking again") for _ in range(3))
    pictures = away.split(b"\x1b[H")[1:-1]
    assert len(pictures) > 1
    assert all(b"asking again" in each and b"globex" in each for each in pictures)
    server.answers["GetPressure"] = ANSWERS["GetPressure"]
    read_until(mine, b"globex")
    # What comes in one read is seen whole.
    os.write(mine, b"\x1b[Bq")
    shown += read_until(mine, b"\x1b[?1049l")

    assert 0 == top.wait(PATIENCE_S)
    assert b"Traceback" not in shown
    # The alternate screen, so that what was on the terminal comes back.
    assert shown.index(b"\x1b[?1049h") < shown.index(b"acme")
    os.close(mine)
    os.close(its)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 0)])
def test_a_signal_makes_top_give_the_terminal_back(server, number, code):
    mine, its = pty.openpty()
    before = termios.tcgetattr(its)
    top = subprocess.Popen([*PROGRAM, "top"], stdin=its, stdout=its, stderr=its)
    try:
        read_until(mine, b"acme")
        assert before != termios.tcgetattr(its)

        top.send_signal(number)
        shown = read_until(mine, b"\x1b[?1049l")

        assert code == top.wait(PATIENCE_S)
        assert before == termios.tcgetattr(its)
        assert b"Traceback" not in shown
    finally:
        top.kill()
        top.wait()
    os.close(mine)
    os.close(its)


def read_until(descriptor: int, wanted: bytes) -> bytes:
    """Read a terminal until it shows something."""
    data, deadline = b"", time.monotonic() + PATIENCE_S
    while wanted not in data:
        ready, _, _ = select.select([descriptor], [], [], deadline - time.monotonic())
        assert ready, data
        data += os.read(descriptor, 65536)
    return data


def completed(line: str, **environment: str) -> list[str]:
    """Ask as bash's completion script does."""
    words = line.split(" ")
    done = subprocess.run(
        [*PROGRAM[:1], "-c", "from sentinel_ext.cli.entry import main; main()"],
        env={
            **os.environ,
            "_SENTINEL_EXT_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert "" == done.stderr
    return done.stdout.split()


def test_completion_knows_commands_names_and_words(server):
    server.answers["ListTenants"] = {
        "tenants": [{"tenant": name} for name in ("acme", "ac$(id)", HOSTILE, "ac me")]
    }

    assert ["tenants"] == completed("sentinel-ext ten")
    assert ["acme"] == completed("sentinel-ext tenants ac")
    assert ["acme"] == completed("sentinel-ext explain ac")
    assert ["orders"] == completed("sentinel-ext breakers set o")
    assert ["shadow"] == completed("sentinel-ext stages set window s")
    assert {"prefix": "ac"}.items() <= server.asked["ListTenants"].items()


def test_completion_is_silent_when_nothing_answers():
    assert [] == completed("sentinel-ext explain ac", DEBUG_GRPC_ADDRESS="127.0.0.1:1")


def test_the_protoset_is_the_committed_one(run, tmp_path):
    committed = (ROOT / "protos/sentinel.protoset").read_bytes()

    assert committed == protoset(), "run `make protos`"
    assert 0 == run("protoset", "-o", "made.protoset").code
    assert committed == (tmp_path / "made.protoset").read_bytes()
    piped = subprocess.run([*PROGRAM, "protoset"], capture_output=True, check=True)
    assert committed == piped.stdout
    assert 1 == run("protoset", "-o", "missing/made.protoset").code


def test_every_command_has_a_help_with_an_example(run):
    commands = [
        "serve", "demo", "healthcheck", "bench", "explain", "watch", "top", "pressure", "tenants", "breakers",
        "stages",
        "check-config", "envoy-config", "policy-schema", "protoset",
    ]  # fmt: skip
    root = run("--help").out
    places = [root.index(f"│ {name} ") for name in commands]

    assert sorted(places) == places, "in the order of the panels"
    for name in commands:
        words = " ".join(run(name, "--help").out.split())
        assert "Example" in words, name
    for words in (("tenants", "show"), ("tenants", "reset"), ("breakers", "set"), ("stages", "set")):
        assert "Example" in run(*words, "--help").out
