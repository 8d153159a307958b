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
