"""A decision as HTTP: what client and upstream read, and the words of a refusal."""

from __future__ import annotations

import json

import pytest
from support.build import HEADER, make_check, make_decision, make_denial, make_plan, make_tenant

from sentinel_ext.core.decision import Reason
from sentinel_ext.core.identify import NameProblem
from sentinel_ext.core.model import FailureMode, Tier
from sentinel_ext.services import answer

REFUSALS = [reason for reason in Reason if reason is not Reason.ALLOWED]
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def headers_of(decision) -> dict[str, str]:
    headers = answer.client_headers(decision)
    assert len(headers) == len(dict(headers)), "a name twice"
    return dict(headers)


def test_an_allowed_client_gets_its_id_and_its_numbers():
    decision = make_decision(limit=100, remaining=42, reset_ms=6_000)

    assert {
        "x-correlation-id": "corr-1",
        "x-ratelimit-limit": "100",
        "x-ratelimit-remaining": "42",
        "x-ratelimit-reset": "6",
    } == headers_of(decision)


@pytest.mark.parametrize(
    ("numbers", "names"),
    [
        ({"limit": None}, set()),
        ({"remaining": None, "reset_ms": None}, {"x-ratelimit-limit"}),
        ({"reset_ms": None}, {"x-ratelimit-limit", "x-ratelimit-remaining"}),
        (
            {"remaining": 0, "reset_ms": 0},
            {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"},
        ),
    ],
)
def test_numbers_that_nobody_knows_are_left_out(numbers, names):
    assert {"x-correlation-id"} | names == headers_of(make_decision(**numbers)).keys()


@pytest.mark.parametrize(("reset_ms", "seconds"), [(0, "0"), (1, "1"), (1000, "1"), (1001, "2")])
def test_a_reset_is_never_told_too_early(reset_ms, seconds):
    assert seconds == headers_of(make_decision(reset_ms=reset_ms))["x-ratelimit-reset"]


@pytest.mark.parametrize(("retry_ms", "seconds"), [(0, 1), (1, 1), (1000, 1), (1001, 2), (60_000, 60)])
def test_a_retry_is_never_told_too_early_and_never_now(retry_ms, seconds):
    decision = make_denial(retry_ms=retry_ms)

    assert seconds == answer.retry_after(decision)
    assert str(seconds) == headers_of(decision)["retry-after"]


def test_an_allowed_answer_has_no_word_of_a_refusal():
    assert not {"retry-after", "x-sentinel-reason"} & headers_of(make_decision()).keys()


@pytest.mark.parametrize("allowed", [True, False])
def test_an_ignored_tenant_name_is_told_on_one_line_without_the_name(allowed):
    check = make_check(problem=NameProblem(HEADER, "too_long"))
    decision = make_decision(check=check) if allowed else make_denial(check=check)

    assert headers_of(decision)["x-sentinel-warning"] == (
        "tenant name in header x-tenant-id is longer than 256 bytes; ignored"
    )


def test_the_upstream_gets_the_id_the_tier_and_the_trace():
    check = make_check(make_tenant(make_plan(tier=Tier.ECONOMY)), traceparent=TRACE)

    assert {
        "x-correlation-id": "corr-1",
        "x-sentinel-tier": "economy",
        "traceparent": TRACE,
    } == dict(answer.upstream_headers(make_decision(check=check)))


def test_a_callers_own_trace_is_left_alone():
    assert "traceparent" not in dict(answer.upstream_headers(make_decision(check=make_check(traceparent=""))))


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.LOCAL_RATE_LIMITED, 429),
        (Reason.RATE_LIMITED, 429),
        (Reason.STORE_UNAVAILABLE, 503),
        (Reason.SHED, 503),
        (Reason.CIRCUIT_OPEN, 503),
    ],
)
def test_the_status_of_a_refusal(reason, status):
    assert status == answer.http_status(reason)


@pytest.mark.parametrize("reason", REFUSALS)
def test_every_refusal_has_a_status_a_title_and_a_body_that_agrees_with_its_headers(reason):
    decision = make_denial(reason, 2500)

    headers, body = headers_of(decision), json.loads(answer.problem_body(decision))

    assert 400 <= body["status"] <= 599
    assert answer.http_status(reason) == body["status"]
    assert body["title"]
    assert f"urn:sentinel:problem:{reason.value}" == body["type"]
    assert headers["x-sentinel-reason"] == body["reason"] == reason.value
    assert headers["retry-after"] == str(body["retry_after"]) == "3"
    assert headers["x-correlation-id"] == body["correlation_id"]
    assert "acme" == body["tenant"]
    assert body["detail"].endswith("Try again in 3 s.")


@pytest.mark.parametrize(
    ("decision", "detail"),
    [
        (
            make_denial(limit=100),
            "Tenant 'acme' has used its limit of 100 requests per 60 s. Try again in 2 s.",
        ),
        (
            make_denial(limit=50, fallback=FailureMode.LOCAL),
            (
                "Tenant 'acme' has used its limit of 50 requests (this instance's share) per 60 s. "
                "Try again in 2 s."
            ),
        ),
        (
            make_denial(limit=50),
            (
                "Tenant 'acme' has used its limit of 50 requests (lowered under load) per 60 s. "
                "Try again in 2 s."
            ),
        ),
        (
            make_denial(Reason.SHED, check=make_check(make_tenant(make_plan(tier=Tier.ECONOMY)))),
            "The service is overloaded and serves others before tier economy. Try again in 2 s.",
        ),
        (
            make_denial(Reason.CIRCUIT_OPEN, check=make_check(upstream="orders")),
            "Upstream 'orders' fails at the moment and is left alone. Try again in 2 s.",
        ),
        (
            make_denial(Reason.LOCAL_RATE_LIMITED, limit=20),
            "Tenant 'acme' sends faster than its burst of 20 requests allows. Try again in 2 s.",
        ),
        (
            make_denial(Reason.LOCAL_RATE_LIMITED, limit=0),
            "Tenant 'acme' may not send requests: its burst is 0.",
        ),
        (
            make_denial(limit=0, check=make_check(make_tenant(make_plan(limit=0)))),
            "Tenant 'acme' may not send requests: its limit is 0.",
        ),
        (
            make_denial(Reason.STORE_UNAVAILABLE, 1000),
            "Tenant 'acme' cannot be counted at the moment. Try again in 1 s.",
        ),
        (
            make_denial(limit=100, check=make_check(make_tenant(make_plan(window_us=1_500_000)))),
            "Tenant 'acme' has used its limit of 100 requests per 1.5 s. Try again in 2 s.",
        ),
    ],
    ids=["window", "share", "scaled", "shed", "breaker", "burst", "burst 0", "limit 0", "store",
         "fraction of a second"],
)  # fmt: skip
def test_the_detail_says_what_happened_and_what_to_do(decision, detail):
    assert detail == json.loads(answer.problem_body(decision))["detail"]


def test_a_name_with_quotes_does_not_break_the_body():
    decision = make_denial(check=make_check(make_tenant(name='a"b\\c,{"tenant":"vip"}')))

    assert 'a"b\\c,{"tenant":"vip"}' == json.loads(answer.problem_body(decision))["tenant"]
