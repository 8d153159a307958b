"""What one access log entry says about its upstream. Pure; docs/access-log.md shows it on a real Envoy.

The order of the rules is the order of blame: what the client or Envoy itself did comes first (such a request
says nothing about the upstream, whatever else is flagged), then what Envoy refused because too much was under
way, then what the upstream did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy.data.accesslog.v3 import accesslog_pb2
from google.protobuf.message import DecodeError

from sentinel_ext.core.ended import Outcome
from sentinel_ext.core.model import Word

if TYPE_CHECKING:
    from collections.abc import Iterable

US_PER_S = 1_000_000
NS_PER_S = 1_000_000_000
NS_PER_US = 1_000
# An upstream that takes longer has no latency, whoever waits for it.
MAX_LATENCY_US = 3600 * US_PER_S
# A tunnel or a stream may well be open for hours, but no request is for longer than this.
MAX_DURATION_US = 7 * 24 * 3600 * US_PER_S

UPSTREAM_ANSWERED = b"via_upstream"
# A route's max_stream_duration ran out: Envoy 1.40 sets no flag for it.
_DURATION_TIMEOUT = b"max_duration_timeout"

# Finished entries: unset (before Envoy 1.26), the end of a TCP connection, of a request, of a UDP session.
# The others tell of something that goes on, or (UpstreamEnd) of one attempt of a request.
FINAL_TYPES = frozenset(
    {
        accesslog_pb2.NotSet,
        accesslog_pb2.TcpConnectionEnd,
        accesslog_pb2.DownstreamEnd,
        accesslog_pb2.UdpSessionEnd,
    }
)


class Blame(Word):
    """What the response flags of an entry say.

    OTHERS: the client, the route or a filter of Envoy; the upstream had no say in the end.
    OVERFLOW: Envoy's own limits for the upstream.
    UPSTREAM: it failed.
    TIMER: a timer of the listener ran out; the status tells whose fault it was.
    NOBODY: nothing that matters.
    """

    OTHERS = "others"
    OVERFLOW = "overflow"
    UPSTREAM = "upstream"
    TIMER = "timer"
    NOBODY = "nobody"


_BLAME = {
    # Refused by an ext_authz filter: ours (then it is no admitted request), or another one behind ours.
    "unauthorized_details": Blame.OTHERS,
    "rate_limited": Blame.OTHERS,
    # Chaos tests: neither the failure nor the delay is the upstream's.
    "fault_injected": Blame.OTHERS,
    "delay_injected": Blame.OTHERS,
    # The client left. How long the upstream would have taken is unknown.
    "downstream_connection_termination": Blame.OTHERS,
    "downstream_remote_reset": Blame.OTHERS,
    "downstream_protocol_error": Blame.OTHERS,
    # Nothing was sent to an upstream.
    "no_route_found": Blame.OTHERS,
    "no_cluster_found": Blame.OTHERS,
    "failed_local_healthcheck": Blame.OTHERS,
    "invalid_envoy_request_headers": Blame.OTHERS,
    "no_filter_config_found": Blame.OTHERS,
    "response_from_cache_filter": Blame.OTHERS,
    # Envoy is out of memory or connections; it may front several upstreams.
    "overload_manager": Blame.OTHERS,
    # Envoy reset its own request, for instance because the cluster was replaced.
    "local_reset": Blame.OTHERS,
    "upstream_overflow": Blame.OVERFLOW,
    "no_healthy_upstream": Blame.UPSTREAM,
    "upstream_request_timeout": Blame.UPSTREAM,
    "upstream_remote_reset": Blame.UPSTREAM,
    "upstream_connection_failure": Blame.UPSTREAM,
    "upstream_connection_termination": Blame.UPSTREAM,
    "upstream_retry_limit_exceeded": Blame.UPSTREAM,
    "upstream_protocol_error": Blame.UPSTREAM,
    "dns_resolution_failure": Blame.UPSTREAM,
    # 408: the client did not finish its request; 504: the upstream did not answer it.
    "stream_idle_timeout": Blame.TIMER,
    "duration_timeout": Blame.TIMER,
    "upstream_max_stream_duration_reached": Blame.TIMER,
    # The rate limit service did not answer and the request went on.
    "rate_limit_service_error": Blame.NOBODY,
}
_ORDER = tuple(Blame)

_GATEWAY_TIMEOUT = 504
_FAILED_STATUS = frozenset({502, 503, _GATEWAY_TIMEOUT})
_INTERNAL_ERROR = 500
# DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE.
_FAILED_GRPC = frozenset({4, 8, 14})


def blame_of(flags: Iterable[str]) -> Blame:
    """Return the first kind that any flag is of; flags of a newer Envoy are nobody's."""
    found = {_BLAME.get(flag, Blame.NOBODY) for flag in flags}
    return next((blame for blame in _ORDER if blame in found), Blame.NOBODY)


def blame_of_flags(raw: bytes) -> Blame:
    """Read a serialised ResponseFlags message; what is none says nothing about an upstream."""
    try:
        flags = accesslog_pb2.ResponseFlags.FromString(raw)
    except DecodeError:
        return Blame.OTHERS
    return blame_of(field.name for field, _value in flags.ListFields())


def classify(
    blame: Blame,
    status: int,
    details: bytes,
    grpc_status: int | None = None,
    *,
    is_refused_below: bool = False,
    count_500: bool = False,
) -> Outcome:
    """Judge an HTTP request that ended.

    Args:
        status: HTTP status as the client got it; 0 when it got none.
        details: `response_code_details`; b"" when the proxy does not say.
        grpc_status: of a gRPC call, where Envoy logged it.
        is_refused_below: the response says that another Sentinel, nearer to the upstream, refused it.
        count_500: whether a 500 of the upstream is a failure.
    """
    if blame is Blame.OTHERS:
        return Outcome.IGNORED
    if blame is Blame.OVERFLOW:
        return Outcome.OVERFLOW
    is_timer = blame is Blame.TIMER or details == _DURATION_TIMEOUT
    if blame is Blame.UPSTREAM or (is_timer and status == _GATEWAY_TIMEOUT):
        return Outcome.FAILED
    # A route's or a filter's own answer: it would look like the fastest of all upstreams, or like a dead one.
    if is_timer or not status or (details and details != UPSTREAM_ANSWERED):
        return Outcome.IGNORED
    if status in _FAILED_STATUS or grpc_status in _FAILED_GRPC:
        return Outcome.OVERFLOW if is_refused_below else Outcome.FAILED
    return Outcome.FAILED if count_500 and status == _INTERNAL_ERROR else Outcome.OK


def classify_connection(blame: Blame) -> Outcome:
    """Judge a TCP connection that ended."""
    if blame is Blame.UPSTREAM:
        return Outcome.FAILED
    if blame is Blame.OVERFLOW:
        return Outcome.OVERFLOW
    return Outcome.OK if blame is Blame.NOBODY else Outcome.IGNORED


# What an entry's times say: the upstream's latency and the whole duration, microseconds, None when unknown,
# and whether none was negative, malformed or absurd. A plain tuple: a named one costs four times as much.
Times = tuple[int | None, int | None, bool]


def times(sent_ns: int, received_ns: int, duration_ns: int) -> Times:
    """Judge an entry's times, nanoseconds since the request's start; 0 is absent.

    The upstream's latency is from the first byte sent to it to the first byte received of it: without
    the wait for Sentinel and a client that reads slowly. The whole duration stands in where one is absent.

    Args:
        sent_ns: time_to_first_upstream_tx_byte.
        received_ns: time_to_first_upstream_rx_byte.
        duration_ns: duration.
    """
    duration_us = duration_ns // NS_PER_US
    if sent_ns and received_ns:
        latency_us = (received_ns - sent_ns) // NS_PER_US if sent_ns > 0 else -1
        if 0 <= latency_us <= MAX_LATENCY_US and 0 < duration_us <= MAX_LATENCY_US:
            return latency_us, duration_us, True
        return _odd_times(latency_us, duration_us)
    if not duration_ns:
        return None, None, True
    return _odd_times(duration_us, duration_us)


def _odd_times(latency_us: int, duration_us: int) -> Times:
    """Sort out what is usable."""
    has_latency = 0 <= latency_us <= MAX_LATENCY_US
    has_duration = 0 < duration_us <= MAX_LATENCY_US
    is_sane = has_latency and 0 <= duration_us <= MAX_DURATION_US
    return latency_us if has_latency else None, duration_us if has_duration else None, is_sane


def nanoseconds(seconds: int, nanos: int) -> int:
    """Return a google.protobuf.Duration as one number; one that breaks the type's rules is negative."""
    if not -NS_PER_S < nanos < NS_PER_S or seconds * nanos < 0:
        return -1
    return seconds * NS_PER_S + nanos
