"""A secret that stands in a value which pods show in plain text is refused, and no message shows it."""

from __future__ import annotations

from typing import Any

import pytest
from support.helm import CHART, Helm, containers, environment

from sentinel_ext import redis_url
from sentinel_ext.settings import Settings

TEMPLATE = (CHART / "templates" / "_secrets.tpl").read_text()
# Of redis-py's options, those that are a login.
LOGINS = {"username", "password", "ssl_password"}

URLS = [
    "redis://me:p4ss@h/0",
    "redis://:p4ss@h/0",
    "redis://p4ss@h",
    "REDIS://me:p4ss@h/0",
    "rediss+sentinel://me:p4ss@h,i/main",
    "redis+cluster://me:p4ss@h:7000,i:7000",
    "redis://me:p4ss%40h:6379",
    "redis://me%3Ap4ss%40h:6379",
    "redis://h/0#p4ss",
    "redis://h/p4ss%2f@x",
    "redis://h/0?password=p4ss",
    "redis://h/0?PASSWORD=p4ss",
    "redis://h/0?PassWord=p4ss",
    "redis://h/0?pass%77ord=p4ss",
    "redis://h/0?%70%61%73%73word=p4ss",
    "redis://h/0?db=1&password=p4ss",
    "redis://h/0?username=p4ss",
    "redis://h/0?password=p4ss&db=1",
    "redis://h/0?a?password=p4ss",
    "redis://h/0?db=1;password=p4ss&protocol=3&x=p4ss",
    "rediss://h/0?ssl_password=p4ss",
    "redis+sentinel://h/main?password=p4ss",
    "redis://h/0? password=p4ss",
    "redis://:p4ss",
    "redis://me:p4ss/0",
    "redis://h/0/password=p4ss",
    "redis://h/0?p4ss",
]


@pytest.mark.parametrize("url", URLS)
def test_a_login_in_the_url_is_refused(helm: Helm, url: str) -> None:
    message = helm.refusal({"redis": {"url": url}})

    assert "redis.url: " in message
    assert "use redis.auth.existingSecret" in message
    assert "p4ss" not in message


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis.data.svc:6379/0",
        "redis://[fd00::1]:6379",
        "rediss://h/3?ssl_ca_certs=/etc/roots/ca.pem&ssl_check_hostname=false&socket_timeout=0.5",
        "redis+sentinel://a:26379,b/main/0",
        "rediss+cluster://a:7000,b:7001?ssl_cert_reqs=none",
        "MEMORY://",
    ],
)
def test_what_holds_no_secret_is_taken_and_sentinel_reads_it(helm: Helm, url: str) -> None:
    given = environment(containers(helm.render({"redis": {"url": url}}).one("Deployment"))["sentinel"])

    assert url == given["REDIS_URL"]
    Settings.load(given, env_file=None)


def test_the_options_are_those_of_sentinel_without_logins() -> None:
    told = set(TEMPLATE.partition('"sentinel.redisOptions" -}}')[2].partition("{{-")[0].split())

    assert told == (redis_url._OPTIONS | redis_url._TCP_OPTIONS | redis_url._TLS_OPTIONS) - LOGINS


@pytest.mark.parametrize(
    "endpoint",
    [
        "grpc://me:p4ss@collector",
        "https://me%3Ap4ss%40collector/v1/traces",
        "https://collector/v1/traces?api_key=p4ss",
        "https://collector/v1/traces#p4ss",
        "ftp://collector",
    ],
)
@pytest.mark.parametrize("enabled", [True, False])
def test_the_collectors_address_holds_none_either(helm: Helm, endpoint: str, enabled: bool) -> None:
    message = helm.refusal({"config": {"tracing": {"enabled": enabled, "otlpEndpoint": endpoint}}})

    assert "config.tracing.otlpEndpoint: " in message
    assert "p4ss" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20p4ss"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-api-key=p4ss"),
        ("otel_exporter_otlp_headers", "x-api-key=p4ss"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:p4ss@collector"),
        ("HTTPS_PROXY", "http://me:p4ss%40proxy:3128"),
    ],
)
def test_a_variable_with_a_secret_has_to_come_from_a_secret(helm: Helm, name: str, value: str) -> None:
    message = helm.refusal({"extraEnv": [{"name": name, "value": value}]})

    assert f"extraEnv: {name} " in message
    assert "valueFrom.secretKeyRef" in message
    assert "p4ss" not in message
    source: dict[str, Any] = {"secretKeyRef": {"name": "collector", "key": "headers"}}
    rendered = helm.render({"extraEnv": [{"name": name, "valueFrom": source}]})
    assert source in [
        one.get("valueFrom") for one in containers(rendered.one("Deployment"))["sentinel"]["env"]
    ]


def test_a_plain_variable_is_no_secret(helm: Helm) -> None:
    values = {"extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "https://collector/a@b"}]}

    assert "https://collector/a@b" in str(helm.render(values).one("Deployment"))
