"""The access log service: what each entry becomes."""

from __future__ import annotations

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from support.log_messages import HTTP_NAMESPACE, ended, http_entry, metadata, tcp_entry

from sentinel_ext.core.ended import Outcome, Result, Ticket
from sentinel_ext.core.model import Tier
from sentinel_ext.core.policy import UpstreamRules
from sentinel_ext.services.log_entry import (
    LIMIT_NAMESPACE,
    MAX_NAME_BYTES,
    TCP_LIMIT_NAMESPACE,
)

FAILED, OVERFLOW, IGNORED = Outcome.FAILED, Outcome.OVERFLOW, Outcome.IGNORED
SLO_US = UpstreamRules().slo_us
YEAR_US = 365 * 24 * 3600 * 1_000_000


def test_an_admitted_request_ends_with_what_its_metadata_says(house):
    assert {Result.COUNTED: 1} == house.take(http_entry(metadata()))

    assert [ended()] == house.ended
    assert [(1, "all", 200, 7_000)] == house.requests
    assert [(Tier.VITAL, Outcome.OK, 5_000, SLO_US)] == house.slo


@pytest.mark.parametrize("permit", ["", "p1"])
def test_the_ticket_comes_back_whole(house, permit):
    ticket = Ticket("i2", 7, 9, permit)

    house.take(http_entry(metadata(ticket=str(ticket))))

    assert ticket == house.ended[0].ticket


@pytest.mark.parametrize("tier", list(Tier))
def test_every_tier_is_known(house, tier):
    house.take(http_entry(metadata(tier=tier.value)))

    assert tier is house.ended[0].tier


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, "all"), ({"route": "orders-v2"}, "orders-v2"), ({"route": ""}, "all"), ({"route": 3}, "all")],
)
def test_the_route_is_the_extensions_else_envoys(house, fields, expected):
    house.take(http_entry(metadata(**fields)))

    assert expected == house.requests[0][1]


@pytest.mark.parametrize("route", ["", "a\nb", "x" * (MAX_NAME_BYTES + 1)])
def test_a_route_that_is_no_name_has_none(house, route):
    house.take(http_entry(metadata(), route=route))

    assert "" == house.requests[0][1]


def test_a_refused_request_is_seen_and_is_no_end(house):
    fields = metadata(allowed=False, reason="shed", ticket=None)
    entry = http_entry(fields, status=503, flags=("unauthorized_details",), times_us=(0, 0, 900))

    assert {Result.DENIED: 1} == house.take(entry)
    assert [] == house.ended
    assert [(1, "all", 503, 900)] == house.requests
    assert [(Tier.VITAL, "shed")] == house.slo


def test_a_refusal_with_a_ticket_is_no_end_either(house):
    assert {Result.DENIED: 1} == house.take(http_entry(metadata(allowed=False)))
    assert [] == house.ended


@pytest.mark.parametrize(
    ("entry", "outcome"),
    [
        ({"status": 503}, FAILED),
        ({"status": 0, "flags": ("downstream_connection_termination",)}, IGNORED),
        ({"status": 503, "flags": ("upstream_overflow",)}, OVERFLOW),
        ({"status": 503, "flags": ("unauthorized_details",)}, IGNORED),
        ({"status": 503, "headers": {"x-sentinel-reason": "shed"}}, OVERFLOW),
        ({"trailers": {"grpc-status": "14"}}, FAILED),
        ({"headers": {"grpc-status": "4"}}, FAILED),
        ({"trailers": {"grpc-status": "0"}}, Outcome.OK),
        ({"trailers": {"grpc-status": "banana"}}, Outcome.OK),
        ({"trailers": {"grpc-status": "9" * 5000}}, Outcome.OK),
        ({"status": 404, "headers": {"grpc-status": "14"}}, Outcome.OK),
        ({"status": 200, "details": "direct_response"}, IGNORED),
        ({"status": 500}, Outcome.OK),
    ],
)
def test_every_admitted_request_that_is_over_ends_whatever_its_outcome(house, entry, outcome):
    house.take(http_entry(metadata(), **entry))

    assert [ended(outcome)] == house.ended


def test_an_upstream_is_judged_by_its_own_rules(house):
    house.upstreams["orders"] = UpstreamRules(count_500=True, slo_us=7)

    house.take(http_entry(metadata(1), status=500), http_entry(metadata(2, upstream="other"), status=500))

    assert [FAILED, Outcome.OK] == [end.outcome for end in house.ended]
    assert [7, SLO_US] == [event[-1] for event in house.slo]


def test_a_tcp_connection_ends_and_is_no_http_request(house):
    entries = [
        tcp_entry(metadata(1), times_us=(0, 0, 5_000_000)),
        tcp_entry(metadata(2), flags=("upstream_connection_failure",), times_us=(0, 0, 100)),
        tcp_entry(metadata(3)),
        tcp_entry(metadata(4, allowed=False)),
        tcp_entry(metadata(5), kind=accesslog_pb2.TcpPeriodic),
        tcp_entry(None),
        tcp_entry({"a": "b"}),
        tcp_entry(metadata(3)),
        tcp_entry(metadata(6), namespace=HTTP_NAMESPACE),
    ]

    results = house.take(*entries)

    assert [ended(latency_us=None), ended(FAILED, None), ended()] == house.ended
    assert {
        Result.COUNTED: 3,
        Result.DENIED: 1,
        Result.INTERMEDIATE: 1,
        Result.NO_METADATA: 2,
        Result.FOREIGN_METADATA: 1,
        Result.DUPLICATE: 1,
    } == results
    assert ([], []) == (house.requests, house.slo)


def test_a_rate_limits_ticket_ends_its_request(house):
    house.take(
        http_entry(metadata(1), namespace=LIMIT_NAMESPACE),
        http_entry(metadata(2, allowed=False), namespace=LIMIT_NAMESPACE, status=429),
    )
    house.take(tcp_entry(metadata(3), namespace=TCP_LIMIT_NAMESPACE))

    assert [ended(), ended()] == house.ended
    assert (2, 1) == (house.logs.results[Result.COUNTED], house.logs.results[Result.DENIED])


def test_another_service_may_answer_check_in_front_of_our_rate_limits(house):
    entry = http_entry({"user": "bob"})
    entry.common_properties.metadata.filter_metadata[LIMIT_NAMESPACE].update(metadata())

    assert {Result.COUNTED: 1} == house.take(entry)
    assert [ended()] == house.ended
    assert 1 == len(house.requests)


def test_where_both_are_ours_check_counts(house):
    entry = http_entry(metadata(1, tenant="of-check"))
    entry.common_properties.metadata.filter_metadata[LIMIT_NAMESPACE].update(metadata(2))

    assert {Result.COUNTED: 1} == house.take(entry)
    assert [ended(tenant="of-check")] == house.ended
