"""The admission rules as a table: header fields in, verdict out."""

from __future__ import annotations

import pytest
from support.blocks import CHECK, ENVOY, methods, request

from sentinel_ext.wire.head import (
    BAD_METADATA,
    BAD_TIMEOUT,
    EXPIRED,
    LARGE_METADATA,
    MALFORMED,
    NOT_GRPC,
    NOT_POST,
    OVERSIZED,
    UNKNOWN_ENCODING,
    UNKNOWN_METHOD,
    admit,
    classify,
    judge_trailers,
    name_kind,
)
from sentinel_ext.wire.limits import SECOND, Limits

METHODS = methods()
MS = 1_000_000


def changed(name, value=None):
    """A request in which one field has another value, or is missing."""
    return [
        (key, value if key == name else old) for key, old in request() if key != name or value is not None
    ]


def test_what_envoy_sends_is_admitted():
    head = admit([*request(), *ENVOY], METHODS)

    assert head.refusal is None
    assert head.method is METHODS.get(CHECK)
    assert 500 * MS == head.timeout_ns
    assert ("sentinel", CHECK, b"", False, -1) == (
        head.authority,
        head.path,
        head.encoding,
        head.accepts_gzip,
        head.content_length,
    )
    assert tuple((name.decode(), value.decode()) for name, value in ENVOY) == head.metadata


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        pytest.param(changed(b"content-type", b"text/plain"), NOT_GRPC, id="another content-type"),
        pytest.param(changed(b"content-type"), NOT_GRPC, id="no content-type"),
        pytest.param(changed(b"content-type", b"application/grpc-web"), NOT_GRPC, id="grpc-web"),
        pytest.param(changed(b"content-type", b"application/grpcx"), NOT_GRPC, id="longer word"),
        pytest.param(changed(b"content-type", b"application/grpc+json"), NOT_GRPC, id="another subtype"),
        pytest.param([*request(), (b"content-type", b"application/grpc")], NOT_GRPC, id="two content-types"),
        pytest.param(changed(b"content-type", b"application/grpc+proto"), None, id="subtype proto"),
        pytest.param(changed(b"content-type", b"application/grpc; a=b"), None, id="parameters"),
        pytest.param(changed(b":method", b"GET"), NOT_POST, id="GET"),
        pytest.param(changed(b"grpc-timeout", b""), BAD_TIMEOUT, id="empty timeout"),
        pytest.param(changed(b"grpc-timeout", b"123456789S"), BAD_TIMEOUT, id="nine digits"),
        pytest.param([*request(), (b"grpc-timeout", b"1S")], BAD_TIMEOUT, id="two timeouts"),
        pytest.param(changed(b"grpc-timeout", b"0n"), EXPIRED, id="timeout 0"),
        pytest.param([*request(), (b"x-bin", b"A")], BAD_METADATA, id="not base64"),
        pytest.param([*request(), (b"x-bin", b"AAE,AAE=")], None, id="base64 list"),
        pytest.param(changed(b":path", b"/a.B/C"), UNKNOWN_METHOD, id="unknown method"),
        pytest.param(changed(b":path", b"*"), UNKNOWN_METHOD, id="no method at all"),
        pytest.param([*request(), (b"grpc-encoding", b"br")], UNKNOWN_ENCODING, id="unknown encoding"),
        pytest.param([*request(), (b"grpc-encoding", b"identity")], None, id="identity"),
        pytest.param(changed(b"te"), None, id="te is not asked for"),
        pytest.param([*request(), (b"x", b"a" * 17_000)], LARGE_METADATA, id="soft limit"),
    ],
)
def test_the_first_rule_that_fails_names_the_refusal(fields, refusal):
    head = admit(fields, METHODS)

    assert refusal is head.refusal
    assert (head.method is None) is (refusal is not None)
    assert head.path


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(changed(b":path"), id="no path"),
        pytest.param(changed(b":path", b""), id="empty path"),
        pytest.param(changed(b":method"), id="no method"),
        pytest.param(changed(b":scheme"), id="no scheme"),
        pytest.param([*request(), (b":scheme", b"http")], id="pseudo after regular"),
        pytest.param([(b":scheme", b"http"), *request()], id="pseudo twice"),
        pytest.param([(b":authority", b"a"), *request()], id="authority twice"),
        pytest.param([(b":status", b"200"), *request()], id="pseudo of a response"),
        pytest.param([(b":protocol", b"x"), *request()], id="unknown pseudo"),
        pytest.param([*request(), (b"", b"x")], id="empty name"),
        pytest.param([*request(), (b"X-Upper", b"x")], id="upper case"),
        pytest.param([*request(), (b"a b", b"x")], id="space in name"),
        pytest.param([*request(), (b"a:b", b"x")], id="colon in name"),
        pytest.param([*request(), (b"a\x7f", b"x")], id="delete in name"),
        pytest.param([*request(), (b"a\xe4", b"x")], id="high octet in name"),
        pytest.param([*request(), (b"x", b"a\0b")], id="NUL in value"),
        pytest.param([*request(), (b"x", b"a\rb")], id="CR in value"),
        pytest.param([*request(), (b"x", b"a\nb")], id="LF in value"),
        pytest.param([*request(), (b"connection", b"close")], id="connection"),
        pytest.param([*request(), (b"keep-alive", b"1")], id="keep-alive"),
        pytest.param([*request(), (b"proxy-connection", b"1")], id="proxy-connection"),
        pytest.param([*request(), (b"transfer-encoding", b"chunked")], id="transfer-encoding"),
        pytest.param([*request(), (b"upgrade", b"h2c")], id="upgrade"),
        pytest.param(changed(b"te", b"gzip"), id="te other than trailers"),
        pytest.param([*request(), (b"host", b"a"), (b"host", b"a")], id="two hosts"),
        pytest.param([*request(), (b"content-length", b"-1")], id="content-length not a number"),
        pytest.param(
            [*request(), (b"content-length", b"1"), (b"content-length", b"2")], id="content-lengths differ"
        ),
    ],
)
def test_a_malformed_message_is_told_from_a_refused_one(fields):
    """RFC 9113 §8.2, §8.3; also when a later rule would refuse it."""
    assert MALFORMED is admit(fields, METHODS).refusal
    assert MALFORMED is admit([*fields, (b"x-bin", b"A")], METHODS).refusal


def test_the_order_of_the_rules_decides_which_is_told():
    worst = [
        *((b":method", b"GET"), (b":path", b"/x"), (b":scheme", b"http"), (b"content-type", b"text/plain")),
        *((b"grpc-timeout", b"x"), (b"a-bin", b"A"), (b"grpc-encoding", b"br")),
    ]
    repairs = [
        (NOT_GRPC, b"content-type", b"application/grpc"),
        (NOT_POST, b":method", b"POST"),
        (BAD_TIMEOUT, b"grpc-timeout", b"0S"),
        (BAD_METADATA, b"a-bin", b"AAE"),
        (UNKNOWN_METHOD, b":path", CHECK),
        (UNKNOWN_ENCODING, b"grpc-encoding", b"gzip"),
        (EXPIRED, b"grpc-timeout", b"1S"),
        (None, b"", b""),
    ]
    for refusal, name, value in repairs:
        assert refusal is admit(worst, METHODS).refusal
        worst = [(key, value if key == name else old) for key, old in worst]


@pytest.mark.parametrize(
    ("fields", "authority"),
    [
        ([(b"host", b"h")], "sentinel"),
        ([], "sentinel"),
    ],
)
def test_authority_wins_over_host(fields, authority):
    assert authority == admit([*request(), *fields], METHODS).authority


def test_host_stands_in_for_a_missing_authority_and_is_not_metadata():
    head = admit([*changed(b":authority"), (b"host", b"h")], METHODS)

    assert "h" == head.authority
    assert () == head.metadata


@pytest.mark.parametrize(
    ("value", "accepts"),
    [
        (b"gzip", True),
        (b"identity,gzip", True),
        (b"identity, gzip , br", True),
        (b"gzipped", False),
        (b"", False),
    ],
)
def test_gzip_is_accepted_if_it_is_one_of_the_list(value, accepts):
    assert accepts is admit([*request(), (b"grpc-accept-encoding", value)], METHODS).accepts_gzip


def test_a_long_timeout_is_cut_to_the_server_s_maximum():
    limits = Limits(max_timeout_ns=SECOND)

    assert SECOND == admit(changed(b"grpc-timeout", b"99999999H"), METHODS, limits).timeout_ns
    assert admit(changed(b"grpc-timeout"), METHODS, limits).timeout_ns is None


def test_equal_content_lengths_are_one():
    fields = [*request(), (b"content-length", b"7"), (b"content-length", b"7")]

    assert 7 == admit(fields, METHODS).content_length


def test_spaces_around_a_value_go():
    assert CHECK == admit(changed(b":path", b" " + CHECK + b"\t"), METHODS).path


@pytest.mark.parametrize(("count", "is_oversized"), [(93, False), (94, True)])
def test_the_hundred_and_first_field_is_too_many(count, is_oversized):
    fields = [*request(), *((b"x", b"") for _ in range(count))]

    assert is_oversized is admit(fields, METHODS).is_oversized


def test_fields_count_their_overhead_against_the_hard_limit():
    """RFC 9113 §6.5.2: 32 per field."""
    limits = Limits(max_header_list=1024, max_header_list_hard=1024)
    size = sum(len(name) + len(value) + 32 for name, value in request()) + 32 + 1
    fitting = [*request(), (b"x", b"a" * (1024 - size))]

    assert admit(fitting, METHODS, limits).refusal is None
    assert OVERSIZED is admit([*fitting[:-1], (b"x", b"a" * (1025 - size))], METHODS, limits)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ([(b"x", b"1")], None),
        ([], None),
        ([(b":path", b"/")], MALFORMED),
        ([(b"Upper", b"1")], MALFORMED),
        ([(b"x", b"\n")], MALFORMED),
    ],
)
def test_trailers_need_only_be_well_formed(fields, refusal):
    classified = [classify(name, value, name_kind(name)) for name, value in fields]

    assert refusal is judge_trailers(classified, Limits()).refusal


def test_trailers_count_against_the_limits():
    field = classify(b"x", b"", 0)

    assert OVERSIZED is judge_trailers([field] * 101, Limits())
