"""Every variable: its default, what it takes, and the line that a wrong value gets."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sentinel_ext.address import Address
from sentinel_ext.core.policy import PlanDefaults, UpstreamDefaults
from sentinel_ext.errors import SettingsError
from sentinel_ext.settings import MAX_ENV_FILE_BYTES, Settings

PASSWORD = "hunter2"
# OpenTelemetry's own variables (tests/unit/test_settings_tracing.py).
STANDARD = [name for name in Settings.model_fields if name.startswith("otel_")]


def load(**environ: str) -> Settings:
    return Settings.load(environ, None)


def problems(env_file: Path | None = None, /, **environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ, env_file)
    return caught.value.problems


def test_the_defaults_are_the_documented_ones():
    shown = json.loads(load().model_dump_json())

    assert {
        "port": 3000,
        "downstream_url": "http://localhost:8080",
        "redis_url": "redis://localhost:6379/0",
        "log_level": "info",
        "tenant_header": "x-tenant-id",
        "burst_capacity": 20,
        "refill_rate": 10.0,
        "window_ms": 60000,
        "base_rate_limit": 100,
        "log_allowed_ratio": 0.0,
        "log_redact": None,
        **dict.fromkeys(STANDARD, None),
        "enable_tracing": False,
        "otlp_endpoint": None,
        "slo_latency_threshold": 200,
        "request_timeout_ms": 30000,
        "breaker_failure_threshold": 0.5,
        "breaker_consecutive_failures": 10,
        "breaker_cooldown_ms": 30000,
        "breaker_half_open_max_requests": 5,
        "grpc_server": "lean",
        "grpc_address": "127.0.0.1:50051",
        "workers": 1,
        "debug_grpc_address": "127.0.0.1:50052",
        "admin_address": "127.0.0.1:9464",
        "policy_file": None,
        "store_timeout_ms": 5,
        "fail_open": True,
        "admin_actions": False,
        "redis_username": None,
        "redis_password_file": None,
        "redis_sentinel_password_file": None,
        "ratelimit_config_dir": None,
        "ratelimit_merge_domains": False,
        "ratelimit_lenient": False,
        "ratelimit_shadow_mode": False,
        "ratelimit_quota_mode": False,
        "ratelimit_dynamic_metadata": False,
        "ratelimit_headers": "off",
        "ratelimit_on_store_failure": "error",
        "ratelimit_near_limit_ratio": 0.8,
        "ratelimit_leases": True,
    } == shown


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"REDIS_URL": "redis://:x@h", "REDIS_PASSWORD_FILE": "/p"},
            "no user and password belong into the URL",
        ),
        ({"REDIS_USERNAME": "u"}, "REDIS_USERNAME is for REDIS_PASSWORD_FILE"),
        ({"REDIS_USERNAME": "a b", "REDIS_PASSWORD_FILE": "/p"}, "without spaces"),
        ({"RATELIMIT_HEADERS": "some"}, "off, legacy, draft or all"),
        ({"RATELIMIT_ON_STORE_FAILURE": "pass"}, "error, open, closed or local"),
    ],
)
def test_what_does_not_go_together_is_told(environment, words):
    told = problems(**environment)

    assert any(words in line for line in told), told


def test_the_default_redis_is_what_parsing_it_gives():
    assert load(REDIS_URL="redis://localhost:6379") == load()


@pytest.mark.parametrize(
    ("name", "given_text", "value"),
    [
        ("PORT", "1", 1),
        ("PORT", " 65535 ", 65535),
        ("DOWNSTREAM_URL", "https://api.internal:8443/base", "https://api.internal:8443/base"),
        ("DOWNSTREAM_URL", "http://[::1]:80", "http://[::1]:80"),
        ("LOG_LEVEL", "DEBUG", "debug"),
        ("TENANT_HEADER", "X-Org_Id", "x-org_id"),
        ("BURST_CAPACITY", "0", 0),
        ("BURST_CAPACITY", "1000000", 1_000_000),
        ("REFILL_RATE", "0.001", 0.001),
        ("REFILL_RATE", "1000000", 1e6),
        ("WINDOW_MS", "100", 100),
        ("WINDOW_MS", "2678400000", 2_678_400_000),
        ("BASE_RATE_LIMIT", "0", 0),
        ("BASE_RATE_LIMIT", "Unlimited", None),
        ("ENABLE_TRACING", "No", False),
        ("OTLP_ENDPOINT", "http://collector:4317", "http://collector:4317"),
        ("SLO_LATENCY_THRESHOLD", "1", 1),
        ("REQUEST_TIMEOUT_MS", "86400000", 86_400_000),
        ("BREAKER_FAILURE_THRESHOLD", "0.001", 0.001),
        ("BREAKER_FAILURE_THRESHOLD", "1", 1.0),
        ("BREAKER_CONSECUTIVE_FAILURES", "1", 1),
        ("BREAKER_COOLDOWN_MS", "100", 100),
        ("BREAKER_HALF_OPEN_MAX_REQUESTS", "10000", 10_000),
        ("GRPC_ADDRESS", "unix:///run/sentinel.sock", Address(path="/run/sentinel.sock")),
        ("ADMIN_ADDRESS", "[::]:9000", Address("::", 9000)),
        ("POLICY_FILE", "policy.yaml", Path("policy.yaml")),
        ("STORE_TIMEOUT_MS", "10000", 10_000),
        ("FAIL_OPEN", "off", False),
        ("ADMIN_ACTIONS", "yes", True),
    ],
)
def test_a_value_that_is_allowed(name, given_text, value):
    found = getattr(load(**{name: given_text}), name.lower())

    assert value == found
    assert type(value) is type(found)


@pytest.mark.parametrize("word", ["true", "TRUE", "1", "yes", "On"])
def test_a_switch_takes_the_usual_words(word):
    assert load(FAIL_OPEN=word).fail_open is True


@pytest.mark.parametrize(
    ("name", "wrong", "allowed"),
    [
        ("PORT", ["0", "65536", "-1", "80.0", "http", "٨٠", "9" * 5000, "1_000"],
         "a whole number from 1 to 65535"),
        ("DOWNSTREAM_URL", ["localhost:8080", "ftp://h", "http://", "http://h:x", "http://h:0", "http://h?a",
                            "http://h#a", "http://a b", "http:///x", "http://h:99999", "http://-h"],
         "http://host[:port][/path] or https://host[:port][/path]"),
        ("LOG_LEVEL", ["warn", "5"], "debug, info, warning or error"),
        ("TENANT_HEADER", [":path", "x tenant", "x:y", "ä", "x" * 129],
         "a header name such as x-tenant-id: 1 to 128 letters, digits, - and _"),
        ("BURST_CAPACITY", ["-3", "1000001", "many", "1.5", "unlimited"], "a whole number from 0 to 1000000"),
        ("REFILL_RATE", ["-1", "1000001", "0.0000001", "nan", "inf", "-inf", "1e400", "ten"],
         "a number from 0 to 1000000, at most six decimals (tokens per second)"),
        ("WINDOW_MS", ["0", "99", "2678400001", "60s"],
         "a whole number from 100 to 2678400000 (milliseconds, up to 31 days)"),
        ("BASE_RATE_LIMIT", ["-1", "1000000001", "none"],
         'a whole number from 0 to 1000000000, or "unlimited"'),
        ("ENABLE_TRACING", ["maybe", "2"], "true, 1, yes, on, false, 0, no or off"),
        ("OTLP_ENDPOINT", ["collector:4317", "ftp://c"],
         "http://host[:port][/path], https://..., grpc://host[:port] or grpcs://host[:port]"),
        ("LOG_ALLOWED_RATIO", ["2", "-1"], "a number from 0 to 1"),
        ("SLO_LATENCY_THRESHOLD", ["0", "3600001"], "a whole number from 1 to 3600000 (milliseconds)"),
        ("REQUEST_TIMEOUT_MS", ["0", "86400001"], "a whole number from 1 to 86400000 (milliseconds)"),
        ("BREAKER_FAILURE_THRESHOLD", ["0", "-0.1", "1.001", "50", "nan"],
         "a number above 0, up to 1, at most six decimals (share of failed requests)"),
        ("BREAKER_CONSECUTIVE_FAILURES", ["0", "1000001"], "a whole number from 1 to 1000000"),
        ("BREAKER_COOLDOWN_MS", ["99", "3600001"], "a whole number from 100 to 3600000 (milliseconds)"),
        ("BREAKER_HALF_OPEN_MAX_REQUESTS", ["0", "10001"], "a whole number from 1 to 10000"),
        ("GRPC_ADDRESS", ["50051", "h:0", "http://h:1", "::1:5", "unix://x", "a b:1"],
         "host:port, [ipv6]:port or unix:///path"),
        ("ADMIN_ADDRESS", ["9464", "[a b]:80"], "host:port, [ipv6]:port or unix:///path"),
        ("POLICY_FILE", ["a\0b"], "the path of a file"),
        ("STORE_TIMEOUT_MS", ["0", "10001", "5ms"], "a whole number from 1 to 10000 (milliseconds)"),
        ("ADMIN_ACTIONS", ["allow"], "true, 1, yes, on, false, 0, no or off"),
        ("FAIL_OPEN", ["open"], "true, 1, yes, on, false, 0, no or off"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_allowed_is_told_in_one_line(name, wrong, allowed):
    for text in wrong:
        (line,) = problems(**{name: text})

        assert line.startswith(f'{name}: got "'), line
        assert f", allowed: {allowed}" in line
        assert "\n" not in line
        assert len(line) < 400


def test_the_line_of_the_handbook():
    assert ('BURST_CAPACITY: got "-3", allowed: a whole number from 0 to 1000000',) == problems(
        BURST_CAPACITY="-3"
    )


def test_all_problems_come_at_once():
    found = problems(PORT="0", LOG_LEVEL="loud", REDIS_URL="x", ENABLE_TRACING="true")

    assert ["PORT", "REDIS_URL", "LOG_LEVEL", "OTLP_ENDPOINT"] == [line.partition(":")[0] for line in found]


def test_an_empty_value_is_not_set():
    assert load() == load(PORT="", LOG_LEVEL="  ", OTLP_ENDPOINT="", POLICY_FILE="")


def test_tracing_needs_an_endpoint():
    (line,) = problems(ENABLE_TRACING="true")

    assert line.startswith("OTLP_ENDPOINT: got nothing, allowed: http://")
    assert line.endswith("(ENABLE_TRACING is true, so it is needed)")
    assert load(ENABLE_TRACING="true", OTLP_ENDPOINT="http://c:4317").enable_tracing


def test_two_servers_cannot_share_an_address():
    (line,) = problems(GRPC_ADDRESS="127.0.0.1:9464")

    assert line.startswith("ADMIN_ADDRESS: got nothing")
    assert "GRPC_ADDRESS is the same" in line


def test_settings_are_frozen_and_know_no_other_names():
    with pytest.raises(ValidationError):
        load().port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings(prot=1)  # type: ignore[call-arg]


def test_the_constructor_reads_no_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("PORT", "4000")
    monkeypatch.chdir(tmp_path)

    assert 3000 == Settings().port
    assert 4000 == Settings.load().port


def test_names_are_upper_case():
    assert load() == load(port="4000")


def test_plan_defaults_are_in_the_cores_units():
    settings = load(BASE_RATE_LIMIT="7", WINDOW_MS="1500", BURST_CAPACITY="3", REFILL_RATE="0.007")

    expected = PlanDefaults(limit=7, window_us=1_500_000, burst=3, refill_nano=7_000_000)
    assert expected == settings.plan_defaults


def test_upstream_defaults_are_in_the_cores_units():
    settings = load(
        SLO_LATENCY_THRESHOLD="250",
        REQUEST_TIMEOUT_MS="1500",
        BREAKER_FAILURE_THRESHOLD="0.25",
        BREAKER_CONSECUTIVE_FAILURES="4",
        BREAKER_COOLDOWN_MS="700",
        BREAKER_HALF_OPEN_MAX_REQUESTS="2",
    )

    expected = UpstreamDefaults(
        slo_us=250_000,
        timeout_us=1_500_000,
        failure_threshold=0.25,
        consecutive_failures=4,
        cooldown_ms=700,
        half_open_max=2,
    )
    assert expected == settings.upstream_defaults == settings.plan_defaults.upstream


def test_the_cores_defaults_are_those_of_the_settings():
    assert UpstreamDefaults() == Settings().upstream_defaults


def test_a_threshold_that_nothing_can_miss_is_worth_a_warning():
    (warning,) = load(SLO_LATENCY_THRESHOLD="500", REQUEST_TIMEOUT_MS="500").warnings

    assert "SLO_LATENCY_THRESHOLD is 500, not below REQUEST_TIMEOUT_MS (500)" in warning
    assert () == load(SLO_LATENCY_THRESHOLD="499", REQUEST_TIMEOUT_MS="500").warnings


def test_a_breaker_that_a_single_failure_opens_is_worth_a_warning():
    (warning,) = load(BREAKER_CONSECUTIVE_FAILURES="1").warnings

    assert warning.startswith("BREAKER_CONSECUTIVE_FAILURES is 1")
    assert () == load(BREAKER_CONSECUTIVE_FAILURES="2").warnings


@pytest.mark.parametrize(
    ("address", "count"), [("127.0.0.1:9464", 0), ("unix:///run/admin.sock", 0), ("0.0.0.0:9464", 1)]
)
def test_actions_for_everybody_are_worth_a_warning(address, count):
    assert count == len(load(ADMIN_ACTIONS="true", ADMIN_ADDRESS=address).warnings)
    assert () == load(ADMIN_ADDRESS=address).warnings


def test_a_bucket_that_never_refills_is_worth_a_warning():
    assert ("REFILL_RATE is 0: a tenant gets 20 requests (BURST_CAPACITY) and no more",) == load(
        REFILL_RATE="0"
    ).warnings
    assert () == load().warnings


# Secrets


def test_a_password_shows_nowhere():
    settings = load(REDIS_URL=f"redis://user:{PASSWORD}@cache:6379/1")

    said = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()} {settings.warnings}"
    assert PASSWORD not in said
    assert "redis://***@cache:6379/1" in said
    assert f"redis://user:{PASSWORD}@cache:6379/1" == settings.redis_url.reveal()


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("REDIS_URL", f"redis://:{PASSWORD}@h:port"),
        ("REDIS_URL", f"redis://:{PASSWORD}#@h"),
        ("REDIS_URL", f"redis://h?pasword={PASSWORD}"),
        ("REDIS_URL", PASSWORD),
        ("DOWNSTREAM_URL", f"http://u:{PASSWORD}@h"),
        ("OTLP_ENDPOINT", f"https://{PASSWORD}@h"),
    ],
)
def test_a_refused_password_is_not_in_the_traceback(name, url):
    with pytest.raises(SettingsError) as caught:
        load(**{name: url})

    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
    assert "***" in str(caught.value)


def test_the_constructors_error_hides_its_input():
    with pytest.raises(ValidationError) as caught:
        Settings(redis_url=f"redis://:{PASSWORD}@h:port")  # type: ignore[arg-type]

    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


# The .env file


def test_the_environment_wins_over_the_file(tmp_path):
    path = tmp_path / ".env"
    path.write_text(
        "\ufeff# ours\nPORT=4000\nexport LOG_LEVEL='debug'  # loud\nBURST_CAPACITY=\nWINDOW_MS\n", "utf-8"
    )

    settings = Settings.load({"PORT": "5000", "LOG_LEVEL": ""}, path)

    assert (5000, "debug", 20) == (settings.port, settings.log_level, settings.burst_capacity)


def test_a_file_that_is_not_there_is_none(tmp_path):
    assert load() == Settings.load({}, tmp_path / ".env")


def test_a_wrong_value_of_the_file_is_told_like_any_other(tmp_path):
    path = tmp_path / ".env"
    path.write_text("PORT=http\n")

    assert ('PORT: got "http", allowed: a whole number from 1 to 65535',) == problems(path)


def test_a_malformed_file_names_its_lines_and_not_what_is_in_them(tmp_path):
    path = tmp_path / ".env"
    path.write_text(f"PORT=1\nREDIS_URL {PASSWORD}\nX='open\n")

    expected = tuple(f"{path}:{line}: is not NAME=value, NAME='value' or a # comment" for line in (2, 3))
    assert (*expected, 'LOG_LEVEL: got "loud", allowed: debug, info, warning or error') == problems(
        path, LOG_LEVEL="loud"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"PORT=\xff", "is not UTF-8 text"), (b"#" * (MAX_ENV_FILE_BYTES + 1), "is larger than 1 MiB")],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, content, why):
    path = tmp_path / ".env"
    path.write_bytes(content)

    assert (f"{path}: {why}",) == problems(path)


def test_a_directory_is_no_env_file(tmp_path):
    assert (f"{tmp_path}: cannot be read: Is a directory",) == problems(tmp_path)


def test_a_misspelt_name_in_the_file_is_a_warning(tmp_path):
    path = tmp_path / ".env"
    path.write_text("BURST_CAPACTY=5\nport=1\nAWS_REGION=eu\n")

    assert (
        f'{path}: BURST_CAPACTY is not a variable of Sentinel and is ignored; did you mean "BURST_CAPACITY"?',
        f'{path}: port is not a variable of Sentinel and is ignored; did you mean "PORT"?',
    ) == Settings.load({}, path).warnings


NAMES = [name.upper() for name in Settings.model_fields]


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=20), max_size=5))
def test_any_environment_gives_settings_or_lines(environ):
    found: tuple[str, ...] = ()
    try:
        Settings.load(environ, None)
    except SettingsError as error:
        found = error.problems

    assert len(found) <= len(environ) + 1
    assert all(line.split(":")[0] in NAMES and "\n" not in line for line in found)


def test_the_process_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("TENANT_HEADER", "X-Org")

    assert "x-org" == Settings.load(env_file=None).tenant_header == os.environ["TENANT_HEADER"].lower()


def test_workers_have_addresses_of_their_own_and_the_debug_port_makes_way():
    alone, three = load(), load(WORKERS="3")

    assert ["127.0.0.1:50051"] == [str(address) for address in alone.grpc_addresses]
    assert "127.0.0.1:50052" == str(alone.debug_address)
    assert ["127.0.0.1:50051", "127.0.0.1:50052", "127.0.0.1:50053"] == [
        str(address) for address in three.grpc_addresses
    ]
    assert "127.0.0.1:50054" == str(three.debug_address)


def test_workers_on_a_socket_have_paths_of_their_own():
    settings = load(WORKERS="2", GRPC_ADDRESS="unix:///run/s.sock")

    assert ["unix:///run/s.sock.0", "unix:///run/s.sock.1"] == [
        str(address) for address in settings.grpc_addresses
    ]
    assert "127.0.0.1:50052" == str(settings.debug_address)


def test_the_debug_port_can_be_off():
    assert load(DEBUG_GRPC_ADDRESS="OFF").debug_address is None


@pytest.mark.parametrize("value", [":50051", "50051", "off"])
def test_what_is_allowed_for_an_address_is_said_once(value):
    (problem,) = problems(GRPC_ADDRESS=value)

    assert 1 == problem.count("allowed: ")


@pytest.mark.parametrize("name", ["DOWNSTREAM_URL", "OTLP_ENDPOINT"])
@pytest.mark.parametrize("value", ["localhost:4317", "collector"])
def test_a_url_without_a_scheme_is_told_so(name, value):
    (problem,) = problems(**{name: value})

    assert problem.endswith("(the scheme is missing)")


@pytest.mark.parametrize(
    ("environ", "name", "words"),
    [
        ({"WORKERS": "3", "GRPC_ADDRESS": "h:65533"}, "WORKERS", "port 65533 + 3 is above 65535"),
        ({"WORKERS": "2", "GRPC_ADDRESS": f"unix:///{'x' * 106}"}, "WORKERS", "socket path is longer"),
        ({"WORKERS": "2", "REDIS_URL": "memory://"}, "REDIS_URL", "which share no memory"),
        ({"DEBUG_GRPC_ADDRESS": "127.0.0.1:50051"}, "DEBUG_GRPC_ADDRESS", "GRPC_ADDRESS is the same"),
        ({"ADMIN_ADDRESS": "127.0.0.1:50052"}, "ADMIN_ADDRESS", "DEBUG_GRPC_ADDRESS is the same"),
        ({"WORKERS": "2", "ADMIN_ADDRESS": "127.0.0.1:50052"}, "ADMIN_ADDRESS", "DEBUG_GRPC_ADDRESS is"),
    ],
)
def test_addresses_that_cannot_all_be_had(environ, name, words):
    (problem,) = problems(**environ)

    assert problem.startswith(f"{name}: got ")
    assert words in problem
