"""Broken surroundings: every command ends with a word of what to do, never with a traceback."""

from __future__ import annotations

import pytest
from support.decision_server import HOSTILE
from support.envoy import free_port
from support.forked import CLOSED, FULL, KEPT, NO_INPUT, NOBODY, Ran, run_all

# Two bytes that are no UTF-8, as Python hands them on.
NO_UTF8 = "\udcff\udcfe"
BAD_HOSTS = ("xn--..", "a..b", "l" * 64, "\u00e4" * 60, "\x1b[2J", "\u202ehost")
ASKING = (
    ("explain", "acme"),
    ("watch", "--count", "1"),
    ("top", "--once"),
    ("top", "--json"),
    ("pressure",),
    ("tenants",),
    ("tenants", "acme"),
    ("tenants", "reset", "acme"),
    ("breakers", "show", "orders"),
    ("breakers", "set", "orders", "open"),
    ("stages",),
    ("stages", "set", "window", "shadow"),
)
SAYING = (
    *ASKING,
    ("tenants", "--json"),
    ("watch", "--json"),
    ("check-config", "policy.yaml"),
    ("check-config", "--json", "policy.yaml"),
    # As envoy-config, which takes seconds to read Envoy's types.
    ("policy-schema",),
    ("protoset",),
    ("--version",),
    ("--help",),
)
ADDRESSED = (*ASKING, ("healthcheck",), ("healthcheck", "--json"), ("bench",))


@pytest.fixture
def ran(running, tmp_path):
    """Commands with a service to ask, in a folder with a policy."""
    running.reset()
    (tmp_path / "policy.yaml").write_text("version: 1\nplans:\n  gold: {limit: 5, window: 1s}\n")
    environment = {"DEBUG_GRPC_ADDRESS": running.address, "DOWNSTREAM_URL": "http://127.0.0.1:1"}
    return lambda commands: dict(zip(commands, run_all(commands, tmp_path, environment), strict=True))


def named(words: tuple[str, ...], goes: str) -> str:
    return f"{' '.join(words)!a} > {goes}"


def wrong(found: dict, right) -> dict[str, Ran]:
    return {named(*command): ran for command, ran in found.items() if not right(*command, ran)}


def test_output_that_goes_nowhere_is_told_and_a_reader_that_went_away_is_not(ran):
    said = {
        FULL: (1, "sentinel-ext: the output cannot be written: no space left on device\n"),
        CLOSED: (2, "sentinel-ext: standard output is closed; `>/dev/null` throws it away\n"),
        NOBODY: (1, ""),
    }

    # What a full disk and a reader that went away do differently is one handler; that it is closed is seen
    # before the command is read.
    full, nobody = (
        [(words, goes) for words in some] for some, goes in ((SAYING, FULL), (SAYING[::3], NOBODY))
    )
    found = ran([*full, *nobody, (("tenants",), CLOSED)])

    assert {} == wrong(found, lambda _words, goes, done: said[goes] == (done.code, done.err))


def test_arguments_that_are_no_utf8_are_wrong_arguments(ran):
    commands = [
        ("explain", NO_UTF8), ("explain", "acme", "-H", f"{NO_UTF8}=1"), ("explain", "--check", NO_UTF8),
        ("watch", "-t", NO_UTF8), ("top", "--address", f"{NO_UTF8}:80"), ("pressure", NO_UTF8),
        ("tenants", NO_UTF8), ("tenants", "--prefix", NO_UTF8), ("breakers", NO_UTF8), ("stages", NO_UTF8),
        ("healthcheck", "-a", f"{NO_UTF8}:80"), ("healthcheck", "-a", "h:1", "-s", NO_UTF8),
        ("bench", "-t", NO_UTF8), ("check-config", NO_UTF8), ("envoy-config", "-o", NO_UTF8),
        ("protoset", "-o", NO_UTF8), ("demo", "--envoy-admin-address", f"{NO_UTF8}:1"), (NO_UTF8,),
    ]  # fmt: skip

    found = ran([(words, KEPT) for words in commands])

    def right(_words, _goes, done):
        return (
            2 == done.code and done.err.startswith("sentinel-ext: an argument is not UTF-8: ") and one(done)
        )

    assert {} == wrong(found, right)


def one(done: Ran) -> bool:
    """Say whether that is one harmless line."""
    return "" == done.out and done.err.endswith("\n") and done.err[:-1].isprintable()


def test_hosts_that_no_resolver_can_be_asked_for_are_wrong_arguments(ran):
    # One of them through every command, all of them through one.
    pairs = [*((words, BAD_HOSTS[0]) for words in ADDRESSED), *((("bench",), host) for host in BAD_HOSTS[1:])]

    found = ran([((*words, "--address", f"{host}:80"), KEPT) for words, host in pairs])

    def right(_words, _goes, done):
        return 2 == done.code and "labels of 1 to 63 characters" in done.err and one(done)

    assert {} == wrong(found, right)


def test_a_closed_standard_input_is_told(ran):
    commands = [("explain", "--check", "-"), ("explain", "--rate-limit", "-"), ("check-config", "-")]

    found = ran([(words, NO_INPUT) for words in commands])

    def right(_words, _goes, done):
        return 2 == done.code and "standard input is closed" in done.err and one(done)

    assert {} == wrong(found, right)


def test_what_typer_complains_of_is_shown_escaped(ran):
    port = free_port()
    commands = [
        (HOSTILE,), (f"--{HOSTILE}",), ("pressure", "a", HOSTILE), ("stages", "set", HOSTILE, "off"),
        ("tenants", "--order", HOSTILE), ("tenants", "--limit", HOSTILE), ("tenants", "--timeout", HOSTILE),
        ("tenants", f"--{HOSTILE}"), ("watch", "--sample", HOSTILE), ("bench", "-c", HOSTILE),
        ("explain", "acme", "-H", HOSTILE), ("explain", "--check", HOSTILE), ("check-config", HOSTILE),
        ("protoset", "-o", f"{HOSTILE}/x"), ("healthcheck", "-a", f"unix:///{HOSTILE}"),
        ("bench", "-a", f"127.0.0.1:{port}", "-t", HOSTILE, "-u", HOSTILE), ("serve", HOSTILE),
    ]  # fmt: skip

    found = ran([(words, KEPT) for words in commands])

    def right(_words, _goes, done):
        return done.code in {1, 2} and "evil" not in done.out and harmless(done.err)

    assert {} == wrong(found, right)


def harmless(said: str) -> bool:
    return bool(said) and all(line.isprintable() for line in said.split("\n"))
