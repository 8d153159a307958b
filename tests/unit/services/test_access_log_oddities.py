"""The access log service: every oddity is counted and moves nothing."""

from __future__ import annotations

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st
from support.log_house import House
from support.log_messages import HTTP_NAMESPACE, ended, http_entry, message, metadata

from sentinel_ext._pb.sentinel.internal import access_log_pb2
from sentinel_ext.core.ended import Ended, Outcome, Result, Ticket
from sentinel_ext.core.model import Tier
from sentinel_ext.core.policy import UpstreamRules
from sentinel_ext.services import log_entry
from sentinel_ext.services.log_entry import (
    LIMIT_NAMESPACE,
    MAX_NAME_BYTES,
    MAX_REMEMBERED,
)

FAILED, OVERFLOW, IGNORED = Outcome.FAILED, Outcome.OVERFLOW, Outcome.IGNORED
SLO_US = UpstreamRules().slo_us
YEAR_US = 365 * 24 * 3600 * 1_000_000


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
