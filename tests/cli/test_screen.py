"""Whatever stands in names, and wherever the output goes: nothing acts on a terminal, nothing breaks."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.console import Console
from rich.text import Text
from support.decision_server import BREAKER, EVENT, EXPLAINED, HOSTILE, PRESSURE, TENANT

from sentinel_ext.cli import _screen, _tables, top
from sentinel_ext.wording import printable

ESCAPED = r"[red]x[/red]\x1b[2J\n\x7f\x9b\u202e\u2066evil"


def hostile(value: object) -> object:
    """Put HOSTILE into every free text of an answer."""
    if isinstance(value, dict):
        return {
            key: each
            if key == "time"
            else {f"{HOSTILE}{name}": 1 for name in each}
            if key == "signals"
            else hostile(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [hostile(each) for each in value]
    return HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize(
    "words",
    [
        ("explain", "acme"),
        ("tenants",),
        ("tenants", "acme"),
        ("tenants", "reset", "acme"),
        ("pressure",),
        ("breakers", "orders"),
        ("breakers", "set", "orders", "open"),
        ("stages",),
        ("stages", "set", "window", "off"),
        ("watch",),
        ("top", "--once"),
    ],
    ids=" ".join,
)
def test_hostile_text_is_shown_escaped(server, run, words):
    server.answers |= {name: hostile(answer) for name, answer in server.answers.items()}

    done = run(*words)

    assert 0 == done.code
    assert ESCAPED in done.out or "[red]x[/red]\\x1b[2J" in done.out
    assert all(line.isprintable() for line in done.out.splitlines())
    # Every line is ours: none begins with what a name smuggled in after a line feed.
    assert not any(line.startswith(("\u202e", "evil")) for line in done.out.splitlines())
    as_json = run(*words, "--json").out
    # DEL is the one control character that JSON itself would let through.
    assert as_json.isascii()
    assert as_json.replace("\n", "").isprintable()
    assert HOSTILE in strings(json.loads(as_json.splitlines()[0] if words[0] == "watch" else as_json))


def strings(value: object) -> set[str]:
    if isinstance(value, dict | list):
        return set().union(*map(strings, value.values() if isinstance(value, dict) else value))
    return {value} if isinstance(value, str) else set()


def test_a_tenant_of_any_name_that_nobody_has_seen_is_shown_escaped(server, run):
    server.answers["ListTenants"] = {"instance": HOSTILE}

    out = run("tenants", "--prefix", HOSTILE).out

    assert f"no tenants whose names begin with {ESCAPED} were seen here yet ({ESCAPED})\n" == out


def test_names_of_files_and_plans_are_shown_escaped(run, tmp_path):
    (tmp_path / HOSTILE.replace("/", "_")).write_text("version: 1\nplans: {gold: {limt: 5}}\n")
    quoted = json.dumps(HOSTILE)
    limits = (
        f"domain: {quoted}\ndescriptors:\n- key: {quoted}\n  value: {quoted}\n"
        "  rate_limit: {unit: second, requests_per_unit: 1}\n"
    )
    (tmp_path / f"right{HOSTILE}".replace("/", "_")).write_text(limits)

    for name in tmp_path.iterdir():
        done = run("check-config", name.name)
        assert "evil" in done.out + done.err
        assert all(line.isprintable() for line in (done.out + done.err).split("\n"))


def test_what_forgets_to_be_escaped_is_escaped_on_its_way_out(capsys):
    out = _screen.console()
    out.print(Text(f"a{HOSTILE}", "bold"))
    out.print(_tables.table([_screen.Column("name")], [[HOSTILE]], 80))

    lines = capsys.readouterr().out.split("\n")

    assert "evil" in lines[1]
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("text", ["plain", "é 漢", "", " ", "[red]"])
def test_what_is_harmless_stays(text):
    assert text == printable(text)


@pytest.mark.parametrize(
    "text", ["\x1b]0;title\x07", "a\r\nb", "\x00", "\x9b2J", "\u200b", "\u2028", "\ud800", "\U000e0001"]
)
def test_what_a_terminal_would_act_on_is_escaped(text):
    assert printable(text).isprintable()
    assert printable(text).isascii()


def console(width: int, **more: object) -> Console:
    return Console(file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False, **more)


ASKED = {
    "tenants": {"tenants": [TENANT | {"tenant": "x" * 256}], "total": 1, "instance": "i" * 60},
    "pressure": PRESSURE,
    "breakers": {"breakers": [BREAKER]},
    "address": "unix:///" + "s" * 90,
}


@pytest.mark.parametrize("width", [1, 20, 40, 60, 80, 100, 130, 200])
def test_no_line_is_wider_than_the_terminal(server, width):
    answers = {
        "tenants": decoded("ListTenants", ASKED["tenants"]),
        "pressure": decoded("GetPressure", PRESSURE),
        "breakers": decoded("ListBreakers", ASKED["breakers"]),
        "address": ASKED["address"],
    }
    out = console(width)

    out.print(top.frame(answers, out))

    assert max(len(line) for line in out.file.getvalue().splitlines()) <= width


def decoded(name: str, fields: dict) -> dict:
    from google.protobuf import json_format  # noqa: PLC0415

    from sentinel_ext.services.decision_client import METHODS, plain  # noqa: PLC0415

    return plain(json_format.ParseDict(fields, METHODS[name].response()))


def test_narrow_terminals_leave_out_what_matters_least():
    tenants = decoded("ListTenants", {"tenants": [TENANT]})["tenants"]

    def heads(width: int) -> list[str]:
        return [str(column.header) for column in _tables.tenants(tenants, console(width)).columns]

    assert ["tenant", "req/s", "used", "limit", "denied"] == heads(40)
    assert 10 == len(heads(120))


class Ascii(io.TextIOWrapper):
    """A terminal of old, or a pipe of a program with another encoding."""

    def __init__(self, *, tty: bool) -> None:
        self.raw_bytes = io.BytesIO()
        self._tty = tty
        super().__init__(self.raw_bytes, encoding="ascii")

    def isatty(self) -> bool:
        return self._tty

    def written(self) -> str:
        self.flush()
        return self.raw_bytes.getvalue().decode("ascii")


def test_where_only_ascii_goes_bars_and_names_are_ascii(server, run, monkeypatch):
    server.answers["ListTenants"] = {"tenants": [{**TENANT, "tenant": "müller"}]}
    out = Ascii(tty=False)
    monkeypatch.setattr(sys, "stdout", out)

    run("tenants")

    assert "##--------" in out.written()
    assert r"m\xfcller" in out.written()


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_terminals_have_colours_unless_they_want_none(server, run, monkeypatch, environment, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = Ascii(tty=True)
    monkeypatch.setattr(sys, "stdout", out)

    run("watch")

    assert coloured == ("\x1b[31mDENY" in out.written())
    assert "\x1b[2J" not in out.written()


def test_pipes_have_none_whatever_ci_services_set(server, run, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")

    out = run("tenants").out

    assert "\x1b" not in out
    assert 3 == len(out.splitlines())
    assert all(line == line.rstrip() for line in out.splitlines())


def test_watch_cuts_lines_on_terminals_and_leaves_them_whole_in_pipes(server, run, monkeypatch):
    server.answers["WatchDecisions"] = [{**EVENT, "tenant": "t" * 200}]
    assert "t" * 200 in run("watch").out
    monkeypatch.setenv("COLUMNS", "60")
    out = Ascii(tty=True)
    monkeypatch.setattr(sys, "stdout", out)

    run("watch")

    assert "t" * 21 not in out.written()
    assert 2 == len(out.written().splitlines())


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0, "0"), (2.0, "2"), (0.123456, "0.123"), (12.345, "12.3"), (123456.7, "123457")],
)
def test_numbers(value, shown):
    assert shown == _screen.number(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 ms"), (999, "999 ms"), (1500, "1.5 s"), (60_000, "60 s"), (180_000, "3 min"), (1e8, "27.8 h")],
)
def test_times(value, shown):
    assert shown == _screen.milliseconds(value)


@pytest.mark.parametrize(("share", "full"), [(-1, 0), (0, 0), (0.5, 5), (1, 10), (7, 10)])
def test_bars_are_never_longer_than_they_are(share, full):
    assert "#" * full + "-" * (10 - full) == _screen.bar(share, "ascii").plain


def test_a_body_that_is_no_json_is_shown_as_it_is(server, run):
    server.answers["Explain"] = {**EXPLAINED, "body": "no json\x1b"}

    assert r"no json\x1b" in run("explain", "acme").out
