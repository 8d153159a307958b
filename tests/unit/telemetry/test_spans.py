"""Spans of decisions: ids, kinds, times, what they say of a refusal, and nothing that must not show."""

from __future__ import annotations

import logging
import time

import msgspec
import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState
from support.build import make_check, make_decision, make_tenant

from sentinel_ext import clock
from sentinel_ext.core.decision import Reason, ShadowDenial
from sentinel_ext.core.model import FailureMode, Stage
from sentinel_ext.core.trace import StageName, StageSpan, Trace
from sentinel_ext.telemetry.redaction import Redactor
from sentinel_ext.telemetry.tracing import exporter
from sentinel_ext.telemetry.tracing.redacted import MAX_VALUE, redacting
from sentinel_ext.telemetry.tracing.spans import Decided, Limited, SpanMaker, spans_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
RESOURCE = Resource({"service.name": "sentinel"})


def traced(parent=SPAN, state="a=1", stages=(), **fields):
    trace = Trace(TRACE, parent, state)
    trace.started_ns = clock.monotonic_ns() - 1_000_000
    for stage in stages:
        trace.add(stage)
    return msgspec.structs.replace(make_check(**fields), trace=trace)


def make(check, decision, redact=()):
    made = SpanMaker(RESOURCE).make(Decided(check, decision, clock.monotonic_ns()))
    return [*map(redacting(Redactor(redact)), made)]


def test_the_decision_is_a_server_span_of_the_callers_and_its_id_is_the_decision_id():
    check = traced()
    (span,) = make(check, make_decision(check=check))

    assert ("proxy_request", SpanKind.SERVER) == (span.name, span.kind)
    assert (int(TRACE, 16), int(check.decision_id, 16)) == (span.context.trace_id, span.context.span_id)
    assert int(SPAN, 16) == span.parent.span_id
    assert span.parent.is_remote
    assert {"a": "1"} == dict(span.context.trace_state.items())
    assert StatusCode.UNSET is span.status.status_code
    assert span.start_time < span.end_time
    assert abs(time.time_ns() - span.end_time) < 10_000_000_000
    expected = {
        "tenant": "acme", "tier": "standard", "plan": "silver", "upstream": "default", "stage": "window",
        "reason": "allowed", "verdict": "allow", "limit": 100, "remaining": 99, "correlation_id": "corr-1",
        "decision_id": check.decision_id, "reset_ms": 60_000,
    }  # fmt: skip
    assert {f"sentinel.{name}": value for name, value in expected.items()} == span.attributes


def test_a_root_has_no_parent():
    check = traced(parent="", state="")

    assert make(check, make_decision(check=check))[0].parent is None


def test_stages_are_children_with_ids_of_their_own():
    stages = [
        StageSpan(StageName.BUCKET, 10, 20, {"sentinel.bucket.tokens": 3}),
        StageSpan(StageName.WINDOW, 20, 90, {"sentinel.store.answered": False}, asked_store=True),
        StageSpan(StageName.PRIORITY, 20, 30, {}, "shed"),
    ]
    check = traced(stages=stages)
    root, bucket, window, priority = make(check, make_decision(check=check))

    assert 4 == spans_of(check)
    assert 4 == len({span.context.span_id for span in (root, bucket, window, priority)})
    assert all(root.context.span_id == span.parent.span_id for span in (bucket, window, priority))
    assert [SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.INTERNAL] == [
        span.kind for span in (bucket, window, priority)
    ]
    assert (10, 70) == (bucket.end_time - bucket.start_time, window.end_time - window.start_time)
    assert ("redis", StatusCode.ERROR) == (window.attributes["db.system.name"], window.status.status_code)
    assert ("denied", "shed") == (priority.events[0].name, priority.attributes["sentinel.denied"])


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.RATE_LIMITED, StatusCode.UNSET), (Reason.LOCAL_RATE_LIMITED, StatusCode.UNSET),
        (Reason.SHED, StatusCode.ERROR), (Reason.CIRCUIT_OPEN, StatusCode.ERROR),
        (Reason.STORE_UNAVAILABLE, StatusCode.ERROR),
    ],
)  # fmt: skip
def test_a_denial_is_an_event_and_an_error_where_the_caller_gets_503(reason, status):
    check = traced()
    denied = make_decision(allowed=False, stage=Stage.WINDOW, reason=reason, check=check, retry_ms=1500)
    (span,) = make(check, denied)

    (event,) = span.events
    assert ("denied", status) == (event.name, span.status.status_code)
    assert {"sentinel.stage": "window", "sentinel.reason": reason.value, "sentinel.retry_ms": 1500} == dict(
        event.attributes
    )
    assert event.timestamp == span.end_time


def test_fallback_and_shadow_are_told():
    check = traced()
    shadow = (ShadowDenial(Stage.BUCKET, Reason.LOCAL_RATE_LIMITED),)
    (span,) = make(check, make_decision(check=check, shadow=shadow, fallback=FailureMode.LOCAL))

    assert "bucket:local_rate_limited" == span.attributes["sentinel.shadow"]
    assert "local" == span.attributes["sentinel.fallback"]


def test_a_check_that_was_given_up_says_so():
    (span,) = make(traced(), None)

    assert ("cancelled", StatusCode.ERROR) == (span.attributes["sentinel.verdict"], span.status.status_code)


def test_names_are_cut_and_hidden():
    check = traced(tenant=make_tenant(name="n" * 10_000), correlation_id="redis://u:hunter2@h")
    (shown,) = make(check, make_decision(check=check))
    (hidden,) = make(check, make_decision(check=check), redact=["tenant"])

    assert MAX_VALUE == len(shown.attributes["sentinel.tenant"])
    assert "redis://***@h" == shown.attributes["sentinel.correlation_id"]
    assert "***" == hidden.attributes["sentinel.tenant"]


def test_names_that_the_list_has_are_hidden_in_stages_events_and_the_tracestate_too():
    stage = StageSpan(
        StageName.BUCKET, 10, 20, {"sentinel.upstream": "db", "sentinel.bucket.tokens": 3}, "shed"
    )
    check = traced(stages=[stage], state="vendor=acme-shop", tenant=make_tenant(name="acme-shop"))
    denied = make_decision(allowed=False, stage=Stage.WINDOW, reason=Reason.SHED, check=check, retry_ms=1500)
    root, bucket = make(check, denied, redact=["tenant", "retry_ms", "bucket.tokens", "upstream", "reason"])

    assert ("***", "***") == (root.attributes["sentinel.tenant"], root.attributes["sentinel.reason"])
    assert {"sentinel.stage": "window", "sentinel.reason": "***", "sentinel.retry_ms": "***"} == dict(
        root.events[0].attributes
    )
    assert "***" == root.status.description
    assert not root.context.trace_state
    assert ("***", "***") == (
        bucket.attributes["sentinel.upstream"],
        bucket.attributes["sentinel.bucket.tokens"],
    )
    assert root.context.span_id == bucket.parent.span_id


def test_the_log_key_limits_hides_the_limits_name_in_spans():
    limited = Limited(Trace(TRACE, SPAN), "00000000000000aa", 50, {"sentinel.limit.name": "per-user"})
    (span,) = SpanMaker(RESOURCE).make(limited)

    assert {"sentinel.limit.name": "***"} == redacting(Redactor(["limits"]))(span).attributes


def test_a_span_without_anything_to_hide_is_not_made_anew():
    check = traced()
    (span,) = SpanMaker(RESOURCE).make(Decided(check, make_decision(check=check), clock.monotonic_ns()))

    assert span is redacting(Redactor(["x-shop"]))(span)


def test_a_rate_limit_request_is_one_span():
    trace = Trace(TRACE, SPAN)
    limited = Limited(trace, "00000000000000aa", 50, {"sentinel.domain": "edge"}, "", "rate_limited")
    (span,) = SpanMaker(RESOURCE).make(limited)

    assert ("rate_limit_request", SpanKind.SERVER, 0xAA) == (span.name, span.kind, span.context.span_id)
    assert {"sentinel.domain": "edge"} == span.attributes
    assert "denied" == span.events[0].name


def test_the_resource_names_service_and_instance(monkeypatch):
    given = "deployment.environment=test,service.instance.id=pod-7,db.url=redis://u:hunter2@h,api_key=hunter2"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", given)
    one, two = exporter.make_resource(1, 2, Redactor()), exporter.make_resource(0, 1, Redactor())
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gateway")

    assert "sentinel" == one.attributes["service.name"]
    assert "gateway" == exporter.make_resource(0, 1, Redactor()).attributes["service.name"]
    assert ("pod-7.1", "pod-7") == (
        one.attributes["service.instance.id"],
        two.attributes["service.instance.id"],
    )
    assert "test" == one.attributes["deployment.environment"]
    assert ("redis://***@h", "***") == (one.attributes["db.url"], one.attributes["api_key"])


@pytest.fixture
def heard():
    log = logging.getLogger("opentelemetry")
    handlers, propagate = log.handlers[:], log.propagate
    yield exporter.hear_sdk()
    log.handlers[:], log.propagate = handlers, propagate


def test_why_an_export_failed_are_the_exporters_words_and_no_clients(heard):
    logging.getLogger("opentelemetry.exporter.otlp.proto.http").error("no\x1b[2J route%s", "x" * 10_000)
    said = heard.text
    make(traced(state="no tracestate\x07,hunter2"), None)  # of which the SDK complains, and quotes it

    assert "\x1b" not in said
    assert exporter.MAX_ERROR <= len(said) < 2 * exporter.MAX_ERROR
    assert said == heard.text


def test_a_tracestate_that_the_parent_alone_has_is_looked_at_too():
    hidden = TraceState([("k", "acme-shop")])
    span = ReadableSpan(
        "x", SpanContext(1, 2, False), SpanContext(1, 3, True, trace_state=hidden), resource=RESOURCE
    )

    assert not redacting(Redactor(["k=acme-shop"]))(span).parent.trace_state
    assert span is redacting(Redactor(["k=other"]))(span)


def test_names_of_events_and_the_tracestates_of_links_are_looked_at_too():
    link = SpanContext(1, 5, is_remote=True, trace_state=TraceState([("v", "acme")]))
    other = SpanContext(1, 6, is_remote=True, trace_state=TraceState([("v", "orders")]))
    given = ReadableSpan(
        "x",
        SpanContext(1, 2, is_remote=False),
        resource=RESOURCE,
        events=[Event("login of acme with password=hunter2", {}, 1)],
        links=[Link(link, {"n": 1}), Link(other)],
    )
    span = redacting(Redactor(["tenant=acme"]))(given)

    assert "login of *** with password=***" == span.events[0].name
    assert [(1, 5, {}), (1, 6, {"v": "orders"})] == [
        (each.context.trace_id, each.context.span_id, dict(each.context.trace_state)) for each in span.links
    ]
    assert {"n": 1} == span.links[0].attributes


def test_every_text_is_cut_also_where_nothing_is_hidden():
    long = "n" * 1000
    given = ReadableSpan(
        long,
        SpanContext(1, 2, is_remote=False),
        resource=RESOURCE,
        attributes={"several": (long, "b")},
        events=[Event(long, {}, 1)],
        status=Status(StatusCode.ERROR, long),
    )
    span = redacting(Redactor())(given)
    texts = (span.name, span.events[0].name, span.status.description, span.attributes["several"][0])

    assert [MAX_VALUE] * 4 == [*map(len, texts)]


def test_a_span_with_several_values_is_not_made_anew():
    span = ReadableSpan(
        "x", SpanContext(1, 2, is_remote=False), resource=RESOURCE, attributes={"names": ("a", "b")}
    )

    assert span is redacting(Redactor())(span)


def test_a_span_keeps_its_names_and_keys_whatever_a_client_is_called():
    check = traced(tenant=make_tenant(name="denied"), correlation_id="sentinel")
    denied = make_decision(allowed=False, stage=Stage.WINDOW, reason=Reason.SHED, check=check, retry_ms=1500)
    (plain,) = make(check, denied)
    (span,) = make(check, denied, redact=["tenant", "correlation_id"])

    assert (plain.name, "denied") == (span.name, span.events[0].name)
    assert {
        **plain.attributes,
        "sentinel.tenant": "***",
        "sentinel.correlation_id": "***",
    } == dict(span.attributes)
