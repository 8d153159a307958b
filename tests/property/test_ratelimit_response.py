"""The hand-written RateLimitResponse is what protobuf writes; requests are read as protobuf reads them."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from sentinel_ext.core.ratelimit.asks import MAX_HITS
from sentinel_ext.core.ratelimit.outcome import Cause, Outcome, Status
from sentinel_ext.core.ratelimit.query import Descriptor
from sentinel_ext.core.ratelimit.rules import Limit, Unit
from sentinel_ext.services.ratelimit import (
    MAX_DESCRIPTORS,
    MAX_ENTRIES,
    MAX_TEXT_BYTES,
    RateLimits,
    TooLargeError,
    parse,
)
from sentinel_ext.services.ratelimit_headers import MAX_POLICIES, make_headers
from sentinel_ext.services.ratelimit_response import MAX_CACHED, ResponseEncoder
from sentinel_ext.services.registry import RequestError

U32 = st.integers(0, 2**32 - 1)
LIMITS = st.builds(
    Limit,
    requests=U32,
    window_us=st.integers(100_000, 31_622_400_000_000),
    unit=st.sampled_from(list(Unit)),
    name=st.text(max_size=20),
)
STATUSES = st.builds(
    Status,
    over=st.booleans(),
    limit=st.none() | LIMITS,
    remaining=U32,
    reset_us=st.none() | st.integers(0, 10**14),
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OUTCOMES = st.builds(
    Outcome,
    over=st.booleans(),
    statuses=st.lists(STATUSES, max_size=5).map(tuple),
    metadata=st.none() | st.dictionaries(st.text(max_size=4), PLAIN, max_size=3),
)
HEADERS = st.lists(st.tuples(st.text(min_size=1, max_size=20), st.text(max_size=200)), max_size=4)


def expected(outcome: Outcome, headers: list[tuple[str, str]]) -> rls_pb2.RateLimitResponse:
    response = rls_pb2.RateLimitResponse(overall_code=2 if outcome.over else 1)
    for status in outcome.statuses:
        made = response.statuses.add(code=2 if status.over else 1, limit_remaining=status.remaining)
        if status.limit is None:
            continue
        unit = rls_pb2.RateLimitResponse.RateLimit.Unit.Value(status.limit.unit.value.upper())
        made.current_limit.SetInParent()
        made.current_limit.requests_per_unit, made.current_limit.unit = status.limit.requests, unit
        made.current_limit.name = status.limit.name
        if status.reset_us is not None:
            made.duration_until_reset.seconds = -(-status.reset_us // 1_000_000) or 1
    for key, value in headers:
        response.response_headers_to_add.add(key=key, value=value)
    if outcome.metadata is not None:
        response.dynamic_metadata.SetInParent()
        response.dynamic_metadata.update(outcome.metadata)
    return response


@given(OUTCOMES, HEADERS)
def test_every_response_is_protobufs(outcome, headers):
    written = ResponseEncoder().encode(outcome, headers)

    assert expected(outcome, headers) == rls_pb2.RateLimitResponse.FromString(written)


def test_kept_parts_are_bounded_and_a_refusal_is_written_once():
    encoder = ResponseEncoder()
    refusals = [Outcome(True, (Status(over=True),)) for _ in range(MAX_CACHED + 1)]
    for refusal in refusals:
        encoder.encode(refusal, [("a", "first")])
        encoder.encode(Outcome(False, (Status(limit=Limit(requests=1, window_us=1)),)), ())

    assert len(encoder._limits) <= MAX_CACHED
    assert len(encoder._refusals) <= MAX_CACHED
    assert b"first" in (encoder.kept(refusals[-1]) or b"")
    assert None is encoder.kept(Outcome(True, (Status(over=True),)))


def test_a_refusal_given_again_needs_no_headers():
    refusal, made = Outcome(True, (Status(over=True),)), []

    def headers(outcome: Outcome) -> list[tuple[str, str]]:
        made.append(outcome)
        return [("a", "b")]

    service = RateLimits(lambda _message, _parse, _deliver: refusal, headers, lambda _error: None)

    assert 1 == len({service.should_rate_limit(b"", lambda _answer: True) for _ in range(3)})
    assert [refusal] == made


def request(*descriptors: dict[str, Any], **more: Any) -> bytes:
    document = {"domain": "d", "descriptors": list(descriptors), **more}
    return json_format.ParseDict(document, rls_pb2.RateLimitRequest()).SerializeToString()


def test_hits_are_read_as_they_mean():
    entries = [{"key": "k", "value": "v"}]
    query = parse(request({"entries": entries}, {"entries": entries, "hitsAddend": "0"}, hitsAddend=0))
    huge = parse(request({"entries": entries, "hitsAddend": str(2**63)}, hitsAddend=2**32 - 1))

    assert (1, None, 0) == (query.hits, query.descriptors[0].hits, query.descriptors[1].hits)
    assert (2**32 - 1, MAX_HITS) == (huge.hits, huge.descriptors[0].hits)


def test_negative_hits_are_read_though_the_generated_classes_do_not_know_them():
    made = rls_pb2.RateLimitRequest(domain="d")
    descriptor = made.descriptors.add()
    descriptor.hits_addend.value = 5
    descriptor.MergeFromString(b"\x20\x01")  # field 4, true

    assert (Descriptor((), -5),) == parse(made.SerializeToString()).descriptors


@pytest.mark.parametrize(("addend", "hits"), [(0, -1), (7, -7)])
def test_negative_hits_without_a_number_are_the_requests(addend, hits):
    made = rls_pb2.RateLimitRequest(domain="d", hits_addend=addend)
    made.descriptors.add().MergeFromString(b"\x20\x01")
    made.descriptors.add().MergeFromString(b"\x20\x00")

    assert (hits, None) == tuple(
        descriptor.hits for descriptor in parse(made.SerializeToString()).descriptors
    )


def test_an_override_of_an_unknown_unit_is_unknown():
    made = rls_pb2.RateLimitRequest(domain="d")
    made.descriptors.add().limit.MergeFromString(b"\x08\x05\x10\x63")  # 5 per unit 99

    (descriptor,) = parse(made.SerializeToString()).descriptors
    assert (5, Unit.UNKNOWN) == (descriptor.override.requests, descriptor.override.unit)


@pytest.mark.parametrize(
    "message",
    [
        request(*[{}] * (MAX_DESCRIPTORS + 1)),
        request({"entries": [{"key": "k"}] * (MAX_ENTRIES + 1)}),
        request({"entries": [{"key": "k" * (MAX_TEXT_BYTES + 1)}]}),
        request({"entries": [{"key": "k", "value": "v" * (MAX_TEXT_BYTES + 1)}]}),
        request({"entries": [{"key": "k", "value": "é" * (MAX_TEXT_BYTES // 2) + "v"}]}),
        request(domain="d" * (MAX_TEXT_BYTES + 1)),
    ],
)
def test_a_request_beyond_the_bounds_is_refused(message):
    with pytest.raises(TooLargeError):
        parse(message)


def test_a_request_at_the_bounds_is_read():
    text, umlauts = "k" * MAX_TEXT_BYTES, "é" * (MAX_TEXT_BYTES // 2)
    longest = {"entries": [{"key": text, "value": umlauts}] * MAX_ENTRIES}
    query = parse(request(longest, *[{}] * (MAX_DESCRIPTORS - 1), domain=text))

    assert (MAX_DESCRIPTORS, ((text, umlauts),) * MAX_ENTRIES) == (
        len(query.descriptors),
        query.descriptors[0].entries,
    )


@given(st.binary(max_size=200))
def test_any_bytes_are_a_query_or_refused(message):
    try:
        parse(message)
    except RequestError:
        return


# Headers.


def status(requests: int, remaining: int, *, over: bool = False, name: str = "") -> Status:
    return Status(over, Limit(requests=requests, window_us=60_000_000, name=name), remaining, 57_200_000)


def test_the_legacy_headers_are_the_peers():
    ten = Outcome(False, (status(10, 7), status(5, 7), Status()))
    last_over = Outcome(
        True, (status(1, 0, over=True), status(2, 0, over=True), status(9, 0)), Cause.RATE_LIMITED
    )
    quota = Outcome(False, (status(1, 0, over=True), status(9, 3)), quota=(0,))

    legacy = make_headers("legacy")
    assert [("RateLimit-Limit", "10"), ("RateLimit-Remaining", "7"), ("RateLimit-Reset", "58")] == list(
        legacy(ten)
    )
    assert ("RateLimit-Limit", "2") == legacy(last_over)[0]
    assert ("RateLimit-Limit", "1") == legacy(quota)[0]
    assert [] == list(legacy(Outcome(False, (Status(),))))


def test_the_drafts_headers_name_every_limit():
    outcome = Outcome(False, (status(10, 7, name='a"b'), Status(), status(5, 1)))

    assert [
        ("RateLimit-Policy", '"a\\"b";q=10;w=60, "limit-3";q=5;w=60'),
        ("RateLimit", '"a\\"b";r=7;t=58, "limit-3";r=1;t=58'),
    ] == list(make_headers("draft")(outcome))


@given(st.integers(1, 10**10), st.integers(1, 10**10), st.booleans())
def test_retry_after_does_not_come_before_a_refused_limits_window_ends(reset_us, retry_us, over):
    """As the draft demands (its §6): GCRA limits fit hits again long before they are reset."""
    at = Status(over, Limit(requests=5, window_us=60_000_000), 0, reset_us, retry_us)
    headers = dict(
        make_headers("draft")(Outcome(over, (at,), Cause.RATE_LIMITED if over else None, retry_us))
    )

    until_s = int(headers["RateLimit"].rpartition("t=")[2])
    assert until_s <= -(-reset_us // 1_000_000)
    if over:
        assert until_s <= int(headers["retry-after"])
    else:
        assert until_s == -(-reset_us // 1_000_000)


def test_a_refusal_says_when_to_come_again_and_why_in_every_style():
    refused = Outcome(True, (Status(over=True),), Cause.SHED, 1_200_000)

    for style in ("off", "legacy", "draft", "all"):
        assert [("retry-after", "2"), ("x-sentinel-reason", "shed")] == list(make_headers(style)(refused))[
            -2:
        ]
    assert ("retry-after", "1") == make_headers("off")(Outcome(True, (), Cause.RATE_LIMITED, 0))[0]


def test_headers_have_a_bound():
    many = Outcome(False, tuple(status(1, 1) for _ in range(MAX_POLICIES + 5)))

    assert MAX_POLICIES == make_headers("draft")(many)[0][1].count("q=")


@given(st.text(max_size=30))
def test_any_name_makes_a_header_that_http_takes(name):
    for _, value in make_headers("draft")(Outcome(False, (status(1, 1, name=name),))):
        assert value.isascii()
        assert value.isprintable()
