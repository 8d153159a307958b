"""What never shows: secrets always, and what the list names."""

from __future__ import annotations

import time

import pytest

from sentinel_ext.telemetry.redaction import Redactor

SECRET = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"cannot reach redis://user:{SECRET}@db:6379/0",
        f"cannot reach rediss://:p@{SECRET}@db:6379, redis://:{SECRET}@other",
        f"Authorization: Bearer {SECRET}.abc",
        f"authorization: {SECRET} and more words {SECRET}",
        f"{{'Cookie': 'a={SECRET}; b={SECRET}'}}",
        f"set-cookie: id={SECRET}; path=/",
        f"GET /x?token={SECRET}&page=2",
        f"GET /x?page=2&api_key={SECRET}",
        f'{{"password": "{SECRET}"}}',
        f"password={SECRET}, then",
        f"client_secret={SECRET}",
        f"Basic {SECRET}{SECRET}==",
        f'authorization: Digest username="u", response="{SECRET}"',
        f'Digest username="u", response="{SECRET}"',
        f"Cookie: a=\"x\"; b='{SECRET}'; c={SECRET}",
        f"{{'authorization': ['{SECRET}', '{SECRET}']}}",
        f"(('authorization', '{SECRET}'), ('x', 'y'))",
        f"{{b'password': b'{SECRET}'}}",
        f'{{\\"password\\": \\"{SECRET}\\"}}',
        f'password="a\\"{SECRET}"',
        f'key: "cookie"\nvalue: "{SECRET}"',
        f"password: two words {SECRET}",
        f"aws_secret_access_key={SECRET}",
        f"password=Secret('a b {SECRET}')",
        f"redis://u:p#{SECRET}@h and redis://u:a/{SECRET}@h",
        f"run --password {SECRET}",
        f"Bearer '{SECRET}'",
        f"eyJ{SECRET}.eyJ{SECRET}.sig",
        f"Bearer%20{SECRET}",
        f"Bearer\t{SECRET}",
        f"Bearer+{SECRET}",
        f'b\'key: "cookie"\\nvalue: "{SECRET}"\'',
        f"b'Bearer\\t{SECRET}'",
        f"b'--password\\t{SECRET}'",
        f"Bearer'{SECRET}'",
        f"--password\t{SECRET}",
        f"password->{SECRET}",
        f"Negotiate YIIZ{SECRET}",
        f"(b'Basic', b'{SECRET}{SECRET}')",
        f"db.password: {SECRET}",
        f"passwords.0={SECRET}",
        f"http.header.cookie: a={SECRET}; b={SECRET}",
        f'[["a", "b"], ["api_key", "{SECRET}"]]',
        f'File "/x.py", line 3, in f\n    token = "{SECRET}"',
        f'File "/x.py", line 3, in f\n    f()\nKeyError: token={SECRET}',
        f"policy.yaml:4:2: plans.x: redis://:{SECRET}@db and Bearer {SECRET}",
    ],
)
def test_no_text_shows_a_secret(text):
    shown = Redactor().text(text)

    assert SECRET not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "text",
    [
        "store lost",
        "a token bucket of 20",
        "redis://db:6379/0",
        "http://c:4318/v1/traces",
        "a@b",
        "tokens: 7",
        "REDIS_PASSWORD_FILE: /run/secrets/redis cannot be read",
        "limits: ['a', 'b'], verdict=allow",
        "http://c:4318/?mail=x",
        'there are "default", "basic", "gold" and "silver"',
        'there are "api-token", "gold"',
        "plan basic allows 60 per minute",
        "basic authentication, Basic Authorization",
        "Digest mismatch of policy.yaml",
        "negotiate: nothing",
        "policy.yaml:4:9: tenants.token: plan is unknown; password: is none",
        "tenants.api-token.plan: no plan is called that",
        "envoy.service.auth.v3.Authorization: NOT_SERVING since 3 s",
        '  File "/x.py", line 3, in f\n    token = self.bucket.take(now)\nZeroDivisionError: by zero',
    ],
)
def test_other_texts_stay(text):
    assert text == Redactor().text(text)


@pytest.mark.parametrize(
    "key", ["password", "redis_password", "authorization", "Set-Cookie", "x-api-key", "token"]
)
def test_the_value_of_a_secret_key_is_hidden(key):
    assert {key: "***"} == Redactor().line({key: SECRET})


def test_named_keys_headers_and_query_parameters_are_hidden_any_case():
    redactor = Redactor(["tenant", "x-shop"])
    line = redactor.line(
        {
            "tenant": "acme",
            "message": "X-Shop: blue; GET /?x-shop=green&y=1",
            "X_Shop": "red",
            "upstream": "orders",
        }
    )

    assert {
        "tenant": "***",
        "message": "X-Shop: ***; GET /?x-shop=***&y=1",
        "X_Shop": "***",
        "upstream": "orders",
    } == line


def test_a_hidden_value_is_hidden_in_the_other_texts_of_its_line():
    line = Redactor(["tenant"]).line({"tenant": "acme", "exception": "KeyError: 'acme'", "count": 3})

    assert "KeyError: '***'" == line["exception"]
    assert 3 == line["count"]


def test_one_value_of_a_key_can_be_hidden_alone():
    redactor = Redactor(["tenant=acme"])

    assert {"tenant": "***", "message": "plan of ***"} == redactor.line(
        {"tenant": "acme", "message": "plan of acme"}
    )
    assert {"tenant": "acme-2"} == redactor.line({"tenant": "acme-2"})


def test_values_inside_of_lists_and_objects_are_hidden():
    shown = Redactor(["tenant"]).line(
        {"a": [{"tenant": "acme"}, f"redis://:{SECRET}@h"], "b": None, "c": True}
    )

    assert {"a": [{"tenant": "***"}, "redis://***@h"], "b": None, "c": True} == shown


def test_time_level_and_logger_stay_whatever_is_named():
    line = {"time": "t", "level": "info", "logger": "sentinel.x", "worker": 3}

    assert line == Redactor(["time", "level", "logger", "worker"]).line(line)


@pytest.mark.parametrize(
    "piece",
    [
        "authorization", "://", "x://y:", "=", "a", "a ", " ", "\\", "'", '"', "password", "password: ",
        "password=[", "('password', ", "Bearer ", 'Bearer " ', "--a ", "eyJ", "key: 'a', ", "@", "redis://a:b@",
        "Basic ", "Basic aaaaaaaa", "('Basic', '", "Digest a=", "password->", "a:1:2: ", "basic\\", "-",
        ".value", 'File "x", line 1\ntoken=', "\ntoken=", "[['token', '", "a.v3.A", "%20",
    ],
)  # fmt: skip
def test_hostile_text_takes_no_time(piece):
    """40,000 characters of anything: a pattern that goes back over them takes seconds, not milliseconds."""
    redactor = Redactor(["x", "tenant=aa"])
    text = piece * (40_000 // len(piece))
    started = time.process_time()
    for hostile in (text, f"password='{text}", f"redis://{text}", f"{text}://@"):
        redactor.text(hostile)

    assert time.process_time() - started < 2


def test_what_is_hidden_in_a_nested_value_is_hidden_in_the_other_texts():
    line = Redactor().line(
        {"call": {"metadata": [("authorization", f"Bearer {SECRET}")], "pin": 1}, "message": f"sent {SECRET}"}
    )

    assert {"call": {"metadata": [["authorization", "***"]], "pin": 1}, "message": "sent ***"} == line


def test_a_value_that_cannot_be_written_does_not_cost_the_line():
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError(SECRET)

    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]

    assert {"bad": "<Bad>", "m": "x"} == Redactor().line({"bad": Bad(), "m": "x"})
    assert "<list>" in str(Redactor().line({"deep": deep}))


@pytest.mark.parametrize("key", ["rules", "limits", "problems", "warnings", "shadow", "what"])
@pytest.mark.parametrize("values", [["api_key", "remote_address"], ("password_reset", "per_ip"), {"token"}])
def test_two_names_of_ours_are_no_pair(key, values):
    line = {key: values, "domain": "per_ip.example", "message": "remote_address"}

    assert {**line, key: list(values)} == Redactor().line(line)


def test_what_a_client_chose_takes_nothing_out_of_sentinels_words_ids_and_keys():
    redactor = Redactor(["tenant", "correlation_id"])
    ids = {"trace_id": "a3c-1", "span_id": "a3c-1", "decision_id": "a3c-1"}
    for name in ("denied", "rate_limited", "rate", "a3c", "a3c-1", "window", "vital", "sentinel", "100"):
        line = {
            "logger": "sentinel.decision", "message": "denied", "reason": "rate_limited", "stage": "window",
            "tier": "vital", "shadow": ["window:rate_limited"], "limit": 100, "window.rate": "a3c1", **ids,
        }  # fmt: skip
        chosen = {"tenant": name, "correlation_id": name}

        assert {**line, "tenant": "***", "correlation_id": "***"} == redactor.line({**line, **chosen})
        attributes = {"sentinel.tenant": name, "sentinel.tier": "vital", "sentinel.verdict": "denied"}
        *_, shown, span, event = redactor.parts(attributes, names=("denied", "rate"))
        assert ({**attributes, "sentinel.tenant": "***"}, "denied", "rate") == (shown, span, event)


def test_a_value_is_hidden_where_it_stands_alone_and_a_secret_in_our_messages_too():
    redactor = Redactor(["tenant"])
    texts = {"why": "acme, acme-2, not_acme, (acme)", "nested": {"acme": ["acme.", "macme"]}}
    shown = redactor.line({"logger": "x", "message": "of acme", "tenant": "acme", **texts})

    assert "***, acme-2, not_acme, (***)" == shown["why"]
    assert {"acme": ["***.", "macme"]} == shown["nested"]
    assert "of ***" == shown["message"]
    secret = {"logger": "sentinel.x", "message": f"saw {SECRET}", "password": SECRET}
    assert "saw ***" == redactor.line(secret)["message"]


@pytest.mark.parametrize(("value", "shown"), [("123", "at 123"), ("1234", "at ***"), (123, "at 123")])
def test_short_numbers_are_no_words_to_look_for_also_as_texts(value, shown):
    assert shown == Redactor(["tenant"]).line({"tenant": value, "why": f"at {value}"})["why"]
