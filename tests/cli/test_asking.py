"""Commands that ask the DecisionService: what they ask, what they show, and as JSON."""

from __future__ import annotations

import json

import grpc
import pytest
from support.decision_server import BREAKER, EVENT, EXPLAINED, PLAN, TENANT, Turns

JSON_COMMANDS = [
    (("explain", "acme"), "Explain"),
    (("tenants",), "ListTenants"),
    (("tenants", "acme"), "GetTenant"),
    (("tenants", "reset", "acme"), "ResetTenant"),
    (("pressure",), "GetPressure"),
    (("breakers",), "ListBreakers"),
    (("breakers", "orders"), "ListBreakers"),
    (("breakers", "set", "orders", "open"), "SetBreaker"),
    (("stages",), "Explain"),
    (("stages", "set", "window", "shadow"), "SetStageMode"),
]


@pytest.mark.parametrize(("words", "method"), JSON_COMMANDS, ids=" ".join)
def test_json_is_one_object_in_ascii_with_the_names_of_the_api(server, run, words, method):
    done = run(*words, "--json")

    assert (0, "") == (done.code, done.err)
    assert isinstance(json.loads(done.out), dict)
    assert done.out.isascii()
    assert method in server.asked


def test_numbers_are_numbers_and_what_is_absent_is_null(server, run):
    server.answers["GetTenant"] = {"tenant": {"tenant": "acme", "allowed": 2**63}, "instance": "i"}

    tenant = json.loads(run("tenants", "acme", "--json").out)["tenant"]

    assert 2**63 == tenant["allowed"]
    assert [None, None, None] == [tenant["used"], tenant["plan"], tenant["tokens"]]
    assert tenant["is_known"] is False


def test_explain_says_the_sentence_first_then_each_stage(server, run):
    done = run("explain", "acme", "POST", "/orders", "-u", "orders", "-H", "X-Team=blue=1")

    lines = done.out.splitlines()
    assert ["REFUSED 429 rate_limited", EXPLAINED["sentence"]] == lines[:2]
    assert f"Advice: {EXPLAINED['advice']}" == lines[2]
    window = next(line for line in lines if line.startswith("window"))
    assert ["window", "refuse", "<", "shadow", "(set)"] == window.split()[:5]
    assert "the plan's limit is 1000, now 900 hold" in done.out
    assert "x-sentinel-reason:  rate_limited" in done.out
    assert {
        "tenant": "acme",
        "method": "POST",
        "path": "/orders",
        "upstream": "orders",
        "headers": {"x-team": "blue=1"},
    } == server.asked["Explain"]["request"]


def test_explain_ends_with_0_whatever_the_answer_unless_told(server, run):
    assert [0, 1] == [run("explain", "acme", *more).code for more in ((), ("--exit-code",))]

    server.answers["Explain"] = {**EXPLAINED, "allowed": True}
    assert 0 == run("explain", "acme", "--exit-code").code


def test_explain_reads_requests_as_envoy_and_grpcurl_print_them(server, run, tmp_path):
    check = {"attributes": {"request": {"http": {"method": "GET", "headers": {"x-tenant-id": "zoe"}}}}}
    (tmp_path / "check.json").write_text(json.dumps(check))

    assert 0 == run("explain", "--check", "check.json").code
    assert check == server.asked["Explain"]["check"]
    assert 0 == run("explain", "--rate-limit", "-", stdin=b'{"domain": "shop", "hitsAddend": 2}').code
    assert {"domain": "shop", "hits_addend": 2} == server.asked["Explain"]["rate_limit"]


def test_explain_puts_a_rate_limit_request_together(server, run):
    run("explain", "--domain", "shop", "-d", "user=u=1,path=/", "-d", "generic_key")

    entries = [each["entries"] for each in server.asked["Explain"]["rate_limit"]["descriptors"]]
    assert [
        [{"key": "user", "value": "u=1"}, {"key": "path", "value": "/"}],
        [{"key": "generic_key"}],
    ] == entries


def test_explain_shows_every_descriptor_and_its_limits(server, run):
    limit = {
        "algorithm": "gcra", "limit": 10, "window_ms": 60_000, "used": 10, "over": True,
        "retry_ms": 1500, "leased": 2,
    }  # fmt: skip
    descriptor = {
        "entries": ["user=alice"],
        "rule": "user",
        "place": "shop.yaml:3:5",
        "why": "the value fits",
        "verdict": "refuse",
        "shadow": True,
        "limits": [limit],
    }
    server.answers["Explain"] = {"sentence": "Over.", "reason": "over_limit", "descriptors": [descriptor]}

    out = run("explain", "--domain", "shop", "-d", "user=alice").out

    assert "user=alice  refuse (shadow)" in out
    assert "shop.yaml:3:5" in out
    assert "10 of 10 per 60 s, gcra, 2 leased here; again in 1.5 s" in out


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("-u", "orders"),
        ("acme", "--domain", "shop", "-d", "a=b"),
        ("--domain", "shop"),
        ("--check", "missing.json"),
        ("acme", "-H", "no-equals"),
    ],
    ids=" ".join,
)
def test_a_wrong_question_is_not_asked(server, run, words):
    done = run("explain", *words)

    assert 2 == done.code
    assert done.err.startswith("sentinel-ext: ")
    assert {} == server.asked


@pytest.mark.parametrize(
    "text", [b"{", b"[]", b'{"attributs": 1}', b"\xff", b"[" * 5000, b"x" * (1 << 20 | 1)]
)
def test_a_file_that_is_no_request_is_told_on_one_line(server, run, text):
    done = run("explain", "--check", "-", stdin=text)

    assert 2 == done.code
    assert 1 == len(done.err.splitlines())
    assert done.err.startswith("sentinel-ext: --check -: ")


def test_tenants_are_a_table_with_bars(server, run):
    done = run("tenants", "--order", "denied", "-n", "5", "--prefix", "ac")

    head, row, foot = done.out.splitlines()
    assert ["acme", "vital", "gold", "12.3", "250", "1000", "██░░░░░░░░", "140", "60", "3"] == row.split()
    assert head.startswith("tenant")
    assert "1 of 7 tenants, by denied, at host-1a2b" == foot
    assert {"limit": 5, "order_by": "denied", "prefix": "ac"} == server.asked["ListTenants"]


def test_nobody_seen_yet_is_said(server, run):
    server.answers["ListTenants"] = {"instance": "i"}

    assert (
        "no tenants whose names begin with ac were seen here yet (i)\n"
        == run("tenants", "--prefix", "ac").out
    )


def test_a_name_after_tenants_or_breakers_is_shown_and_options_stand_before_or_after_it(server, run):
    before, after = run("tenants", "--json", "acme"), run("tenants", "acme", "--json")

    assert before == after
    assert "tenants.acme" in run("tenants", "acme").out
    assert {"tenant": "reset"} == (run("tenants", "show", "reset"), server.asked["GetTenant"])[1]
    assert "closed > open" in run("breakers", "orders").out
    assert {"upstream": "orders"} == server.asked["ListBreakers"]


def test_an_unlimited_tenant_and_a_limit_of_0_have_numbers_that_make_sense(server, run):
    plan = {**PLAN, "limit": 0}
    unlimited = {
        name: value for name, value in TENANT.items() if name not in {"effective_limit", "used", "tokens"}
    }
    server.answers["ListTenants"] = {
        "tenants": [unlimited, {**TENANT, "plan": plan, "effective_limit": 0, "used": 0}]
    }

    first, second = run("tenants").out.splitlines()[1:3]

    assert ["12.3", "-", "unlimited", "-"] == first.split()[3:7]
    assert ["0", "0", "██████████"] == second.split()[4:7]


def test_acting_sends_what_was_said(server, run):
    assert "acme: forgot what it had used" in run("tenants", "reset", "acme").out
    assert {"tenant": "acme"} == server.asked["ResetTenant"]
    run("breakers", "set", "orders", "auto")
    assert {"upstream": "orders", "mode": "auto"} == server.asked["SetBreaker"]
    assert "set; the policy says enforce" in run("stages", "set", "window", "shadow").out
    assert {"stage": "window", "mode": "shadow"} == server.asked["SetStageMode"]
    assert 2 == run("breakers", "set", "orders", "ajar").code
    assert 2 == run("stages", "set", "identify", "off").code


def test_stages_tell_who_set_them(server, run):
    acting = ("stages", "set", "window", "shadow")
    was_set = ["window", "shadow", "set;", "the", "policy", "says", "enforce"]
    told, acted = (run(*words).out.splitlines()[1:] for words in (("stages",), acting))

    assert [["bucket", "enforce", "policy"], was_set] == [line.split() for line in told]
    assert [told[1].split()] == [line.split() for line in acted]
    shown, done = (json.loads(run(*words, "--json").out) for words in (("stages",), acting))
    assert shown["stages"][1:] == done["stages"]
    assert shown.keys() == done.keys()


def test_a_half_open_breaker_shows_its_tries_and_a_forced_one_who_forced_it(server, run):
    trying = {**BREAKER["numbers"], "state": "half_open", "permits": 2, "without_store": True}
    forced = {"state": "closed", "forced": "closed"}
    server.answers["ListBreakers"] = {
        "breakers": [{"upstream": "a", "numbers": trying}, {"upstream": "b", "numbers": forced}]
    }

    out = run("breakers").out

    assert "failure_rate, without store" in out
    assert "2/5" in out
    assert "forced closed" in out


def test_watch_is_one_aligned_line_a_decision(server, run):
    done = run(
        "watch", "-t", "acme", "--stage", "window", "--verdict", "deny", "--sample", "0.5", "-u", "orders"
    )

    head, denied, missed, allowed = done.out.splitlines()
    assert denied.startswith("03:04:05.678  DENY    window: rate_limited")
    assert "... missed 3: this end reads too slowly" == missed
    assert denied.index("acme") == allowed.index("acme") == head.index("tenant")
    assert "again in 1200 ms" in denied
    assert {
        "tenants": ["acme"],
        "stages": ["window"],
        "verdict": "deny",
        "sample": 0.5,
        "upstreams": ["orders"],
    } == server.asked["WatchDecisions"]


def test_watch_as_json_is_a_line_each_and_count_ends_it(server, run):
    done = run("watch", "--json", "--count", "1", "--kind", "rate_limit")

    (line,) = done.out.splitlines()
    assert EVENT.items() <= json.loads(line).items()
    assert "rate_limit" == server.asked["WatchDecisions"]["kind"]


def test_a_rate_limit_decision_has_its_domain_and_rules(server, run):
    event = {**EVENT, "kind": "rate_limit", "stage": "", "tenant": "", "domain": "shop", "rules": ["user"]}
    server.answers["WatchDecisions"] = [{**event, "fallback": "local", "shadow": ["window:rate_limited"]}]

    line = run("watch").out.splitlines()[1]

    assert ["DENY", "rate_limited", "shop", "orders"] == line.split()[1:5]
    assert "without store: local, shadow window:rate_limited, rule user" in line


def test_top_prints_one_frame_with_everything(server, run):
    out = run("top", "--once", "--order", "used").out

    assert "host-1a2b at 127.0.0.1" in out.splitlines()[0]
    assert [out.index(word) for word in ("high", "orders", "open", "acme")] == sorted(
        out.index(word) for word in ("high", "orders", "open", "acme")
    )
    assert "used" == server.asked["ListTenants"]["order_by"]


def test_top_as_json_is_a_line_a_refresh_and_count_ends_it(server, run):
    done = run("top", "--json", "--count", "2", "--interval", "100ms")

    first, second = map(json.loads, done.out.splitlines())
    assert ["time", "address", "tenants", "pressure", "breakers"] == list(first)
    assert first["time"] < second["time"]
    for name, words in (("tenants", ("tenants",)), ("pressure", ("pressure",)), ("breakers", ("breakers",))):
        assert json.loads(run(*words, "--json").out) == second[name]
    assert 1 == len(run("top", "--json", "--once").out.splitlines())


def test_top_says_once_that_nothing_answers_and_goes_on(server, run):
    """A service that is away for three refreshes leaves no holes in what is counted."""
    real = server.answers["ListBreakers"]
    away = (grpc.StatusCode.UNAVAILABLE, "draining")
    server.answers["ListBreakers"] = Turns([real, away, away, away, real])

    done = run("top", "--json", "--count", "2", "--interval", "100ms")

    assert (0, 2) == (done.code, len(done.out.splitlines()))
    (line,) = done.err.splitlines()
    assert line.startswith("sentinel-ext: ")
    assert line.endswith("; asking again")
    server.answers["ListBreakers"] = away
    assert (1, "") == (run("top", "--once").code, run("top", "--json").out)


def test_top_prints_frames_one_below_the_other(server, run):
    done = run("top", "--count", "2", "--interval", "100ms")

    assert 2 == sum(line.startswith("host-1a2b at ") for line in done.out.splitlines())
    assert [2, 0] == [run("top", "--once", "-n", n).code for n in ("2", "1")]


def test_top_needs_a_terminal_to_go_on(server, run):
    done = run("top")

    assert 2 == done.code
    assert "`sentinel-ext top --once`" in done.err
    assert 2 == run("top", "--interval", "10ms", "--once").code
