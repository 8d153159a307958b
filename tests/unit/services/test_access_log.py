"""The access log service: what each entry becomes, and that every oddity is counted and moves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st
from support.log_messages import HTTP_NAMESPACE, TICKET, ended, http_entry, message, metadata, tcp_entry

from sentinel_ext._pb.sentinel.internal import access_log_pb2
from sentinel_ext.core.ended import Ended, Outcome, Result, Ticket
from sentinel_ext.core.model import Tier
from sentinel_ext.core.policy import UpstreamRules
from sentinel_ext.services import log_entry
from sentinel_ext.services.access_log import AccessLogs
from sentinel_ext.services.log_entry import (
    LIMIT_NAMESPACE,
    MAX_NAME_BYTES,
    MAX_REMEMBERED,
    TCP_LIMIT_NAMESPACE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.services.registry import StreamHandler

FAILED, OVERFLOW, IGNORED = Outcome.FAILED, Outcome.OVERFLOW, Outcome.IGNORED
SLO_US = UpstreamRules().slo_us
YEAR_US = 365 * 24 * 3600 * 1_000_000


class Call:
    """An open stream that remembers how it ended."""

    peer = "ipv4:192.0.2.7:4711"
    metadata = ()

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.finished: list[tuple[int, str]] = []

    def send(self, data: bytes) -> bool:
        self.sent.append(data)
        return True

    def finish(self, status: int = 0, text: str = "") -> bool:
        self.finished.append((status, text))
        return True


class House:
    """The service, and everything it told."""

    def __init__(self) -> None:
        self.upstreams: dict[str, UpstreamRules] = {}
        self.ended: list[Ended] = []
        self.requests: list[tuple[int, str, int, int | None]] = []
        self.slo: list[tuple[Any, ...]] = []
        self.faults: list[Exception] = []
        self.heard: list[tuple[str, int]] = []
        self.verdict: Callable[[Ended], Result | None] = lambda _end: None
        self.logs = AccessLogs(
            self._end, self, self.faults.append, lambda *said: self.heard.append(said), self.rules
        )
        self.call = Call()
        self.stream = self.open(self.call)

    def open(self, call: Call) -> StreamHandler:
        (method,) = self.logs.methods()
        return method.open(call)

    def rules(self, upstream: str) -> UpstreamRules:
        return self.upstreams.get(upstream, UpstreamRules())

    def _end(self, end: Ended) -> Result | None:
        self.ended.append(end)
        return self.verdict(end)

    def request(self, method: int, route: str, status: int, duration_us: int | None) -> None:
        self.requests.append((method, route, status, duration_us))

    def served(self, tier: Tier, outcome: Outcome, latency_us: int | None, slo_us: int) -> None:
        self.slo.append((tier, outcome, latency_us, slo_us))

    def refused(self, tier: Tier, reason: str) -> None:
        self.slo.append((tier, reason))

    def take(self, *entries: Any) -> dict[Result, int]:
        """Send the entries; give the results that are not zero."""
        self.stream.on_message(message(*entries, node="envoy-1"))
        return {result: count for result, count in self.logs.results.items() if count}


@pytest.fixture
def house():
    house = House()
    yield house
    assert [] == house.faults


# What counts.


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


# Bad input.


def test_an_entry_without_metadata_is_seen_and_no_more(house):
    assert {Result.NO_METADATA: 1} == house.take(http_entry(None))
    assert ([], 1, []) == (house.ended, len(house.requests), house.slo)


def test_other_filters_metadata_is_not_ours(house):
    assert {Result.NO_METADATA: 1} == house.take(http_entry(metadata(), namespace="envoy.filters.http.lua"))
    assert [] == house.ended


@pytest.mark.parametrize(
    "fields",
    [
        {"ext_authz_duration": 3.0},
        {"user": "bob", "allowed": True},
        metadata(tier="platinum"),
        metadata(tier=None),
        metadata(tier=3),
        metadata(decision_id=None),
        metadata(decision_id=""),
        metadata(decision_id=7),
        metadata(decision_id="x" * 100),
    ],
)
@pytest.mark.parametrize("namespace", [HTTP_NAMESPACE, LIMIT_NAMESPACE])
def test_another_services_words_under_our_name_are_not_ours(house, fields, namespace):
    assert {Result.FOREIGN_METADATA: 1} == house.take(http_entry(fields, namespace=namespace))
    assert ([], 1, []) == (house.ended, len(house.requests), house.slo)


@pytest.mark.parametrize(
    "changed",
    [
        {"ticket": None},
        {"ticket": ""},
        {"ticket": "what"},
        {"ticket": 4},
        {"ticket": "i1.0x1.2"},
        {"ticket": "x" * 10_000},
        {"ticket": {"instance": "i1"}},
        {"tenant": None},
        {"tenant": ["acme"]},
        {"tenant": "x" * (MAX_NAME_BYTES + 1)},
        {"upstream": ""},
        {"upstream": "a\x00b"},
    ],
)
def test_an_end_that_cannot_be_tied_is_none(house, changed):
    assert {Result.BAD_TICKET: 1} == house.take(http_entry(metadata(**changed)))
    assert [] == house.ended


def test_names_at_the_bound_are_names(house):
    house.take(http_entry(metadata(tenant="é" * (MAX_NAME_BYTES // 2), upstream="u" * MAX_NAME_BYTES)))

    assert [ended(tenant="é" * (MAX_NAME_BYTES // 2), upstream="u" * MAX_NAME_BYTES)] == house.ended


@pytest.mark.parametrize(
    "kind",
    sorted(set(accesslog_pb2.AccessLogType.values()) - log_entry._FINAL),
)
def test_what_goes_on_has_not_ended_and_its_end_still_counts(house, kind):
    assert {Result.INTERMEDIATE: 1} == house.take(http_entry(metadata(), kind=kind))
    assert ([], []) == (house.ended, house.requests)

    assert {Result.INTERMEDIATE: 1, Result.COUNTED: 1} == house.take(http_entry(metadata()))


def test_the_old_mark_of_an_intermediate_entry_is_known(house):
    assert {Result.INTERMEDIATE: 1} == house.take(http_entry(metadata(), intermediate_log_entry=True))


def test_an_entry_without_a_type_is_an_end(house):
    assert {Result.COUNTED: 1} == house.take(http_entry(metadata(), kind=accesslog_pb2.NotSet))


@pytest.mark.parametrize("allowed", [True, False])
def test_what_was_told_before_moves_nothing(house, allowed):
    entry = http_entry(metadata(allowed=allowed))

    results = house.take(entry, entry)
    results = house.take(entry)

    assert 2 == results[Result.DUPLICATE]
    assert (int(allowed), 1, 1) == (len(house.ended), len(house.requests), len(house.slo))


def test_entries_out_of_order_count(house):
    assert {Result.COUNTED: 20} == house.take(*(http_entry(metadata(n)) for n in range(20, 0, -1)))


@pytest.mark.parametrize(
    ("times_us", "latency_us", "duration_us"),
    [
        ((0, 0, -1_000), None, None),
        ((0, 0, YEAR_US), None, None),
        ((6_000, 1_000, 7_000), None, 7_000),
        ((1_000, YEAR_US, 7_000), None, 7_000),
        ((1_000, 6_000, YEAR_US), 5_000, None),
        ((1_000, 6_000, -7_000), 5_000, None),
        ((-6_000, 1_000, 7_000), None, 7_000),
    ],
)
def test_times_that_cannot_be_are_left_out_and_counted_and_the_request_has_ended(
    house, times_us, latency_us, duration_us
):
    assert {Result.BAD_DURATION: 1} == house.take(http_entry(metadata(), times_us=times_us))

    assert [ended(latency_us=latency_us)] == house.ended
    assert [(1, "all", 200, duration_us)] == house.requests
    assert [(Tier.VITAL, Outcome.OK, latency_us, SLO_US)] == house.slo


def test_times_of_no_unit_are_left_out(house):
    entry = http_entry(metadata(), times_us=(0, 0, 0))
    entry.common_properties.duration.nanos = 2_000_000_000

    assert {Result.BAD_DURATION: 1} == house.take(entry)
    assert [ended(latency_us=None)] == house.ended


def test_an_entry_without_times_has_no_latency_and_nothing_wrong(house):
    assert {Result.COUNTED: 1} == house.take(http_entry(metadata(), times_us=(0, 0, 0)))
    assert [ended(latency_us=None)] == house.ended


@pytest.mark.parametrize(
    "result", [Result.UNMATCHED, Result.EXPIRED_PERMIT, Result.DUPLICATE, Result.COUNTED]
)
def test_what_the_keeper_of_starts_says_is_counted(house, result):
    house.verdict = lambda _end: result

    assert {result: 1} == house.take(http_entry(metadata()))


def test_a_bug_behind_costs_one_entry_and_not_the_message():
    house = House()

    def fails_once(end: Ended) -> None:
        if len(house.ended) == 1:
            raise ZeroDivisionError

    house.verdict = fails_once

    assert {Result.FAULT: 1, Result.COUNTED: 2} == house.take(*(http_entry(metadata(n)) for n in range(3)))
    assert [ZeroDivisionError] == [type(fault) for fault in house.faults]


def test_strings_that_are_no_text_cost_nothing(house):
    """Protobuf's own types would refuse the whole message."""
    view = access_log_pb2.AccessLogMessage.FromString(
        message(http_entry(metadata(1)), http_entry(metadata(2)))
    )
    first, _ = view.http_logs.log_entry
    first.common_properties.route_name = b"\xff\xfe"
    first.response.response_code_details = b"\xff"
    first.common_properties.metadata.filter_metadata[HTTP_NAMESPACE].fields["reason"] = b"\x1a\x01\xff"

    house.stream.on_message(view.SerializeToString())

    assert [ended(IGNORED), ended()] == house.ended


@given(st.dictionaries(st.sampled_from(sorted(metadata())), st.binary(max_size=12)))
def test_any_bytes_as_values_are_survived(values):
    house = House()
    view = access_log_pb2.AccessLogMessage.FromString(message(http_entry(metadata())))
    fields = view.http_logs.log_entry[0].common_properties.metadata.filter_metadata[HTTP_NAMESPACE].fields
    for name, value in values.items():
        fields[name] = value

    house.stream.on_message(view.SerializeToString())

    assert [] == house.faults
    assert 1 == sum(house.logs.results.values())
    assert all(isinstance(value, str) for end in house.ended for value in (end.tenant, end.upstream))


@given(st.binary(max_size=200))
def test_any_bytes_as_a_message_are_survived(data):
    house = House()

    house.stream.on_message(data)

    assert 1 == house.logs.messages
    assert house.logs.garbled == len(house.call.finished) <= 1


def test_what_is_remembered_is_bounded(house):
    names = log_entry.Names()
    for number in range(MAX_REMEMBERED + 10):
        value = struct_pb2.Value(string_value=str(number)).SerializeToString()
        assert str(number) == names.text(value)
        assert str(number) == names.plain(str(number).encode())
        ticket = Ticket("i", number, 0)
        assert ticket == names.ticket(struct_pb2.Value(string_value=str(ticket)).SerializeToString())
    assert [10, 10, 10] == [len(table) for table in (names._texts, names._plain, names._tickets)]

    names.text(b"\x1a" + b"x" * 100_000)
    names.plain(b"x" * 100_000)
    names.ticket(b"x" * 100_000)
    assert [10, 10, 10] == [len(table) for table in (names._texts, names._plain, names._tickets)]


def test_a_route_cannot_pass_for_a_tenant(house):
    """Both are remembered by their bytes."""
    value = struct_pb2.Value(string_value="acme").SerializeToString().decode()

    house.take(http_entry(metadata(1), route=value), http_entry(metadata(2)))

    assert [ended(), ended()] == house.ended


# Streams.


def test_every_message_is_heard_with_its_stream_and_entries(house):
    second = house.open(Call())
    # Envoy sends either kind in a message; on the wire nothing forbids both.
    house.stream.on_message(
        message(http_entry(metadata(1)), node="envoy-1") + message(tcp_entry(metadata(2)))
    )
    second.on_message(message(node="envoy-2"))

    assert [("ipv4:192.0.2.7:4711#1", 2), ("ipv4:192.0.2.7:4711#2", 0)] == house.heard
    assert (2, 2, 0, 0) == (
        house.logs.streams,
        house.logs.messages,
        house.logs.garbled,
        house.logs.anonymous,
    )


def test_a_stream_without_a_node_counts_and_is_counted_once(house, caplog):
    for _ in range(2):
        house.stream.on_message(message(http_entry(None)))
    house.open(Call()).on_message(message(http_entry(metadata())))

    assert [ended()] == house.ended
    assert 2 == house.logs.anonymous
    assert 1 == len(caplog.records)


@pytest.mark.parametrize("how", ["on_half_close", "on_drain"])
def test_a_stream_that_is_closed_is_answered_and_finished(house, how):
    getattr(house.stream, how)()
    getattr(house.stream, how)()
    house.stream.on_cancel()
    house.stream.on_message(message(http_entry(metadata())))

    assert ([b""], [(0, "")]) == (house.call.sent, house.call.finished)
    assert (0, []) == (house.logs.streams, house.ended)


def test_a_stream_that_breaks_is_closed(house):
    house.stream.on_writable()
    house.stream.on_cancel()

    assert ([], [], 0) == (house.call.sent, house.call.finished, house.logs.streams)


def test_a_message_that_is_none_ends_its_stream_alone(house):
    other = house.open(Call())
    house.stream.on_message(b"\xff\xff")
    other.on_message(message(http_entry(metadata()), node="envoy-2"))

    assert [(3, "not a StreamAccessLogsMessage")] == house.call.finished
    assert (1, 1, [ended()]) == (house.logs.streams, house.logs.garbled, house.ended)
    assert TICKET == house.ended[0].ticket
