"""What an entry says about its upstream: flags, status, gRPC status, times."""

from __future__ import annotations

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from hypothesis import given
from hypothesis import strategies as st

from sentinel_ext.core.ended import Outcome
from sentinel_ext.services import outcome
from sentinel_ext.services.outcome import (
    MAX_DURATION_US,
    MAX_LATENCY_US,
    NS_PER_S,
    UPSTREAM_ANSWERED,
    Blame,
    blame_of,
    blame_of_flags,
    classify,
    classify_connection,
    nanoseconds,
    times,
)

FLAGS = [field.name for field in accesslog_pb2.ResponseFlags.DESCRIPTOR.fields]
US = 1000
OK, FAILED, OVERFLOW, IGNORED = Outcome.OK, Outcome.FAILED, Outcome.OVERFLOW, Outcome.IGNORED

IGNORED_FLAGS = [
    "unauthorized_details",
    "rate_limited",
    "fault_injected",
    "delay_injected",
    "downstream_connection_termination",
    "downstream_remote_reset",
    "downstream_protocol_error",
    "no_route_found",
    "no_cluster_found",
    "failed_local_healthcheck",
    "invalid_envoy_request_headers",
    "no_filter_config_found",
    "response_from_cache_filter",
    "overload_manager",
    "local_reset",
]
FAILED_FLAGS = [
    "no_healthy_upstream",
    "upstream_request_timeout",
    "upstream_remote_reset",
    "upstream_connection_failure",
    "upstream_connection_termination",
    "upstream_retry_limit_exceeded",
    "upstream_protocol_error",
    "dns_resolution_failure",
]
TIMER_FLAGS = ["stream_idle_timeout", "duration_timeout", "upstream_max_stream_duration_reached"]


def raw(*names: str) -> bytes:
    flags = accesslog_pb2.ResponseFlags()
    for name in names:
        if name == "unauthorized_details":
            flags.unauthorized_details.SetInParent()
        else:
            setattr(flags, name, True)
    return bytes(flags.SerializeToString())


def judge(*flags: str, status: int = 200, details: bytes = UPSTREAM_ANSWERED, **options) -> Outcome:
    return classify(blame_of(flags), status, details, **options)


def test_every_flag_of_this_envoy_has_a_rule():
    assert set(FLAGS) == set(outcome._BLAME)


@pytest.mark.parametrize("flag", IGNORED_FLAGS)
@pytest.mark.parametrize("status", [0, 200, 503])
def test_what_others_did_says_nothing_about_the_upstream(flag, status):
    assert IGNORED is judge(flag, status=status)
    assert IGNORED is judge(flag, "upstream_connection_failure", status=status)


@pytest.mark.parametrize("flag", FAILED_FLAGS)
@pytest.mark.parametrize("status", [0, 200, 404, 503])
def test_what_the_upstream_did_is_a_failure(flag, status):
    assert FAILED is judge(flag, status=status, details=b"upstream_reset_before_response_started{x}")


def test_what_envoy_refused_for_its_own_limits_is_pressure_and_no_failure():
    assert OVERFLOW is judge("upstream_overflow", status=503)
    assert OVERFLOW is judge("upstream_overflow", "upstream_retry_limit_exceeded", status=503)


@pytest.mark.parametrize("flag", TIMER_FLAGS)
def test_a_timer_is_the_fault_of_whom_the_status_names(flag):
    assert FAILED is judge(flag, status=504, details=b"stream_idle_timeout")
    assert IGNORED is judge(flag, status=408, details=b"request_overall_timeout")


def test_a_timer_without_a_flag_is_known_by_its_details():
    assert FAILED is judge(status=504, details=b"max_duration_timeout")
    assert IGNORED is judge(status=408, details=b"max_duration_timeout")


def test_a_rate_limit_service_that_does_not_answer_changes_nothing():
    assert OK is judge("rate_limit_service_error")
    assert FAILED is judge("rate_limit_service_error", status=503)


def test_flags_of_a_newer_envoy_change_nothing():
    assert Blame.NOBODY is blame_of(["a_flag_of_the_future"])


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, OK) for status in (101, 200, 304, 400, 404, 429, 499, 501, 505)),
        *((status, FAILED) for status in (502, 503, 504)),
    ],
)
@pytest.mark.parametrize("details", [UPSTREAM_ANSWERED, b""], ids=["via_upstream", "no details"])
def test_the_upstreams_status_counts(status, expected, details):
    assert expected is judge(status=status, details=details)


def test_500_counts_if_asked_for():
    assert (OK, FAILED) == (judge(status=500), judge(status=500, count_500=True))
    assert OK is judge(status=501, count_500=True)


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("details", [b"direct_response", b"lua_response", b"request_payload_too_large"])
def test_an_answer_of_envoys_own_says_nothing_about_the_upstream(status, details):
    assert IGNORED is judge(status=status, details=details)


def test_no_answer_and_no_reason_is_nothing():
    assert IGNORED is judge(status=0, details=b"")


@pytest.mark.parametrize("grpc_status", range(17))
def test_three_grpc_statuses_are_failures(grpc_status):
    expected = FAILED if grpc_status in {4, 8, 14} else OK

    assert expected is judge(grpc_status=grpc_status)


def test_a_refusal_by_a_sentinel_below_is_pressure():
    assert OVERFLOW is judge(status=503, is_refused_below=True)
    assert OVERFLOW is judge(grpc_status=14, is_refused_below=True)
    assert OK is judge(status=429, is_refused_below=True)


def test_a_connection_is_judged_by_its_flags():
    assert OK is classify_connection(blame_of([]))
    assert FAILED is classify_connection(blame_of(["upstream_connection_failure"]))
    assert OVERFLOW is classify_connection(blame_of(["upstream_overflow"]))
    assert IGNORED is classify_connection(blame_of(["downstream_connection_termination"]))


@given(st.sets(st.sampled_from(FLAGS)))
def test_flags_are_read_as_envoy_writes_them_in_any_order(names):
    assert blame_of(names) is blame_of_flags(raw(*names))
    assert blame_of(sorted(names)) is blame_of(sorted(names, reverse=True))


@given(st.binary(max_size=40))
def test_any_bytes_have_a_blame(data):
    assert isinstance(blame_of_flags(data), Blame)


def test_bytes_that_are_no_flags_blame_nobody_we_know():
    assert Blame.OTHERS is blame_of_flags(b"\xff")


# Times.


@pytest.mark.parametrize(
    ("sent", "received", "duration", "expected"),
    [
        (1_000, 6_000, 9_000, (5_000, 9_000, True)),
        (1_000, 1_000, 9_000, (0, 9_000, True)),
        (0, 0, 9_000, (9_000, 9_000, True)),
        (1_000, 0, 9_000, (9_000, 9_000, True)),
        (0, 6_000, 9_000, (9_000, 9_000, True)),
        (1_000, 6_000, 0, (5_000, None, True)),
        (0, 0, 0, (None, None, True)),
        (6_000, 1_000, 9_000, (None, 9_000, False)),
        (-1, 6_000, 9_000, (None, 9_000, False)),
        (0, 0, -1, (None, None, False)),
        (1_000, 6_000, -1, (5_000, None, False)),
        (0, 0, MAX_LATENCY_US, (MAX_LATENCY_US, MAX_LATENCY_US, True)),
        (0, 0, MAX_LATENCY_US + 1, (None, None, False)),
        (1, MAX_LATENCY_US + 1, MAX_LATENCY_US, (MAX_LATENCY_US, MAX_LATENCY_US, True)),
        (1, MAX_LATENCY_US + 2, MAX_LATENCY_US, (None, MAX_LATENCY_US, False)),
        # A tunnel is open for hours, and its upstream answered in 5 ms.
        (1_000, 6_000, MAX_DURATION_US, (5_000, None, True)),
        (1_000, 6_000, MAX_DURATION_US + 1, (5_000, None, False)),
    ],
)
def test_what_times_say(sent, received, duration, expected):
    assert expected == times(sent * US, received * US, duration * US)


@given(st.tuples(*[st.integers(-(2**63), 2**63)] * 3))
def test_no_times_give_a_latency_out_of_bounds(given_ns):
    latency_us, duration_us, _ = times(*given_ns)

    assert latency_us is None or 0 <= latency_us <= MAX_LATENCY_US
    assert duration_us is None or 0 < duration_us <= MAX_LATENCY_US


@pytest.mark.parametrize(
    ("seconds", "nanos", "expected"),
    [
        (0, 5, 5),
        (2, 5, 2 * NS_PER_S + 5),
        (-2, -5, -2 * NS_PER_S - 5),
        (0, NS_PER_S, -1),
        (0, -NS_PER_S, -1),
        (1, -1, -1),
        (-1, 1, -1),
    ],
)
def test_a_duration_that_breaks_its_types_rules_is_negative(seconds, nanos, expected):
    assert expected == nanoseconds(seconds, nanos)
