"""Plain lines where nobody watches a terminal, a table that lives where somebody does."""

from __future__ import annotations

import io

import pytest

from sentinel_ext.demo.board import Board, plain_table
from sentinel_ext.demo.traffic import Tally

TALLIES = [
    Tally("acme", "vital", sent=60, allowed=60, remaining="940"),
    Tally("trial-7", "economy", sent=60, allowed=15, limited=44, shed=1, remaining="0"),
]
LONG = "curl -i -H 'x-tenant-id: acme' " + "http://127.0.0.1:3000/proxy/hello" * 8


@pytest.fixture(params=["pipe", "forced colours"])
def plain(request, monkeypatch):
    """A board on a pipe, also where the environment asks rich for colours."""
    if request.param == "forced colours":
        monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    return Board(stream), stream


def test_plain_columns_stand_under_each_other() -> None:
    assert plain_table(TALLIES) == [
        "tenant   tier     allowed  429  503  remaining",
        "acme     vital         60    0    0        940",
        "trial-7  economy       15   44    1          0",
    ]


def test_an_unknown_remaining_is_a_dash_and_errors_are_told_below() -> None:
    tally = Tally("a", "vital", sent=3, errors=2, first_error="HTTP 503: no [healthy] upstream\x1b[2J")

    lines = plain_table([tally])

    assert lines[1].endswith("-")
    assert lines[2] == r"a: 2 of 3 requests failed; the first: HTTP 503: no [healthy] upstream\x1b[2J"


def test_a_pipe_gets_lines_without_escape_codes_and_the_table_once(plain) -> None:
    board, stream = plain

    with board.step("Envoy"):
        board.done("Envoy", "1.40.0 at [::1]:3000")
    with board.live(TALLIES):
        board.table(TALLIES)
        board.note("sending on")

    text = stream.getvalue()
    assert "\x1b" not in text
    assert "\r" not in text
    assert text.splitlines()[:2] == ["waiting for Envoy", "Envoy     1.40.0 at [::1]:3000"]
    assert text.count("trial-7") == 1
    assert text.endswith("sending on\n")


def test_commands_are_never_folded_nor_read_as_markup(plain) -> None:
    board, stream = plain

    board.guide({"Try:": [("one request", LONG)], "Look:": [("odd", "echo [red]")]})

    assert stream.getvalue().splitlines() == [
        "", "Try:", f"  one request  {LONG}", "", "Look:", "  odd          echo [red]", "",
    ]  # fmt: skip


def test_a_terminal_gets_a_live_table_and_no_second_one(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    board = Board(stream, is_terminal=True)

    with board.step("Redis"):
        board.done("Redis", "6.2.14")
    with board.live(TALLIES):
        board.table(TALLIES)
        board.note("sending on")

    text = stream.getvalue()
    assert "\x1b[" in text
    assert "Ctrl-C ends the demo" in text
    assert "sending on" not in text


def test_a_live_table_tells_of_errors_as_they_are(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    tally = Tally("[a]", "vital", sent=1, errors=1, first_error="HTTP 503: [x]")

    with Board(stream, is_terminal=True).live([tally]):
        pass

    assert "[a]" in stream.getvalue()
    assert "Ctrl-C" not in stream.getvalue()


def test_a_dumb_terminal_is_a_pipe_to_us(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = io.StringIO()
    board = Board(stream, is_terminal=True)

    with board.live(TALLIES):
        board.table(TALLIES)

    assert "\x1b[?25l" not in stream.getvalue()
    assert stream.getvalue().splitlines() == plain_table(TALLIES)
