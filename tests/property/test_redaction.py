"""No shape that a secret comes in shows it: not in a log line, not in a span."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import make_dataclass
from typing import TYPE_CHECKING, Any

from envoy.config.core.v3 import base_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from sentinel_ext.telemetry.logging import JsonFormatter
from sentinel_ext.telemetry.redaction import Redactor
from sentinel_ext.telemetry.tracing.redacted import redacting

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "hunter2zz"
REDACTOR = Redactor(["x-shop", "tenant"])
NAMES = [
    "password",
    "Authorization",
    "set-cookie",
    "x-api-key",
    "client_secret",
    "X-Shop",
    "tenant",
    "accessToken",
]
# A secret is anything that a password may be, with the mark inside; a plain one can stand without quotes.
plain = st.builds(
    "{}{}{}".format, *(st.text("aZ9-_.~+", max_size=6) if part else st.just(MARK) for part in (1, 0, 1))
)
wild = st.builds(
    "{}{}{}".format,
    *(st.text("aZ9 \"'\\,;:/@#{}[]()&=\n", max_size=6) if part else st.just(MARK) for part in (1, 0, 1)),
)


def in_protobuf(name: str, secret: str) -> str:
    return str(base_pb2.HeaderValue(key=name, value=secret))


def in_dataclass(name: str, secret: str) -> str:
    key = name.replace("-", "_")
    return repr(make_dataclass("Credentials", [key])(secret))


# Texts that quote what they hold: any secret.
QUOTED: list[Callable[[str, str], str]] = [
    lambda name, secret: repr({name: secret}),
    lambda name, secret: repr({"a": 1, name: [secret, secret]}),
    lambda name, secret: f"{name}->{secret!r}",
    lambda name, secret: repr({f"call.{name}.0": secret}),
    lambda name, secret: repr({name.encode(): secret.encode()}),
    lambda name, secret: repr([("x", "y"), (name, secret)]),
    lambda name, secret: repr(((name.encode(), secret.encode()),)),
    lambda name, secret: json.dumps({"headers": {name: {"value": secret}}}),
    lambda name, secret: json.dumps(json.dumps({name: secret, "b": 2})),
    lambda name, secret: json.dumps([[name, secret]]),
    lambda name, secret: json.dumps({"key": name, "value": secret}),
    lambda name, secret: f"failed with {name}={secret!r} and more",
    lambda name, secret: f"{name}: {json.dumps(secret)}",
    lambda name, secret: repr(["run", f"--{name}", secret]),
    in_protobuf,
    in_dataclass,
]
BARE: list[Callable[[str, str], str]] = [
    lambda name, secret: f"{name}: {secret}",
    lambda name, secret: f"GET /x?a=1&{name}={secret}&b=2",
    lambda name, secret: f"run --{name} {secret} --b",
    lambda _name, secret: f"redis://user:{secret}@host:6379/0",
    lambda _name, secret: f"got 'Bearer {secret}'",
    lambda _name, secret: f"('Bearer', '{secret}')",
    lambda _name, secret: f"('Basic', '{re.sub('[^A-Za-z0-9+/_-]', '', secret)}')",
    lambda _name, secret: f"Bearer%20{secret}",
    lambda _name, secret: f"Bearer+{secret}",
    lambda _name, secret: f"Bearer\t{secret}",
    lambda name, secret: f"--{name}\t{secret}",
    lambda name, secret: f"{name}->{secret}",
    lambda name, secret: f"call.metadata.{name}: {secret}",
    lambda name, secret: f"{name}=Secret({secret!r})",
]
names = st.sampled_from(NAMES)
texts = st.one_of(
    st.builds(lambda shape, name, secret: shape(name, secret), st.sampled_from(QUOTED), names, wild),
    st.builds(lambda shape, name, secret: shape(name, secret), st.sampled_from(BARE), names, plain),
)
# Values that hold it in their structure.
held = st.one_of(
    st.builds(lambda name, secret: {name: secret}, names, wild),
    st.builds(lambda name, secret: {name.encode(): secret.encode()}, names, wild),
    st.builds(lambda name, secret: [("x", "y"), (name, secret)], names, wild),
    st.builds(lambda name, secret: ([name, secret],), names, wild),
    st.builds(lambda name, secret: {"headers": [name.encode(), bytearray(secret.encode())]}, names, wild),
    st.builds(lambda name, secret: {"call.metadata": (name, secret)}, names, wild),
    st.builds(lambda name, secret: {"key": name, "value": secret}, names, wild),
    st.builds(lambda name, secret: {name: [{"a": secret}]}, names, wild),
)
values = st.recursive(
    st.one_of(texts, texts.map(str.encode), texts.map(ValueError), held),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["a", "headers", b"raw"]), inner, max_size=2),
        texts.map(lambda text: {text: 1}),
    ),
    max_leaves=6,
)


def line_of(extra: dict[str, Any], message: str = "m") -> str:
    record = logging.makeLogRecord({"msg": message, "levelname": "INFO", "name": "x", **extra})
    return JsonFormatter(None, REDACTOR).format(record)


@settings(max_examples=150, deadline=None)
@given(values)
def test_no_shape_shows_a_secret_in_a_line(value):
    line = line_of({"what": value}, message=f"it was {value}" if isinstance(value, (str, bytes)) else "m")

    assert MARK not in line
    assert "what" in json.loads(line)


@settings(max_examples=60, deadline=None)
@given(names, wild)
def test_a_secret_that_a_key_has_is_hidden_in_the_other_texts_of_its_line(name, secret):
    assert MARK not in line_of({"about": {"deep": {name: secret}}}, message=f"I saw {secret}!")


def span_of(attributes: dict[str, Any], text: str) -> ReadableSpan:
    context = SpanContext(1, 2, False, TraceFlags(1))
    return ReadableSpan(
        text,
        context,
        resource=Resource({}),
        attributes=attributes,
        events=[Event("exception", attributes, 1), Event(text, {"exception.message": text}, 2)],
        links=[Link(context, attributes)],
        status=Status(StatusCode.ERROR, text),
        start_time=1,
        end_time=2,
    )


@settings(max_examples=100, deadline=None)
@given(names, wild, texts)
def test_no_shape_shows_a_secret_in_a_span(name, secret, text):
    attributes = {
        f"rpc.grpc.request.metadata.{name}": (secret, secret),
        f"sentinel.{name}": secret,
        "rpc.detail": text,
        "several": (text, "b"),
        "count": 3,
    }
    span = redacting(REDACTOR)(span_of(attributes, text))
    sent = encode_spans([span]).SerializeToString()

    assert MARK.encode() not in sent
    assert b"rpc.detail" in sent
    assert (3, 1, 2) == (span.attributes["count"], span.context.trace_id, span.end_time)
