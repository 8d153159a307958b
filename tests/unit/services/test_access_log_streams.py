"""The access log service: streams, as proxies open and break them."""

from __future__ import annotations

import pytest
from support.log_house import Call
from support.log_messages import TICKET, ended, http_entry, message, metadata, tcp_entry

from sentinel_ext.core.ended import Outcome
from sentinel_ext.core.policy import UpstreamRules

FAILED, OVERFLOW, IGNORED = Outcome.FAILED, Outcome.OVERFLOW, Outcome.IGNORED
SLO_US = UpstreamRules().slo_us
YEAR_US = 365 * 24 * 3600 * 1_000_000


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
