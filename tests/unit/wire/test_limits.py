"""The numbers hold together, or are refused with every fault named."""

from __future__ import annotations

import pytest
from support.wire_peer import Peer

from sentinel_ext.wire import frames
from sentinel_ext.wire.limits import Limits


def test_the_presets_differ_in_rate_limits_only() -> None:
    assert Limits.trusted() == Limits(rate_limits=False)
    assert Limits.exposed() == Limits(rate_limits=True)


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        ({"stream_window": 0}, "stream_window is 0, not in 1..2147483647"),
        ({"connection_window": 2**31}, "connection_window is 2147483648, not in 65535..2147483647"),
        ({"max_frame_size": 16_383}, "max_frame_size is 16383, not in 16384..16777215"),
        ({"max_age_ns": -1}, "max_age_ns is negative"),
        ({"closed_streams": 1000}, "closed_streams is not a power of two"),
        ({"header_table_size": 100}, "header_table_size is neither 0 nor 4096"),
        ({"max_header_list": 100_000}, "max_header_list is above max_header_list_hard"),
        ({"max_message": 2**30}, "max_message is above max_reassembly"),
    ],
)
def test_a_number_out_of_its_range_is_refused(numbers: dict[str, int], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Limits(**numbers)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"ping_burst .*; max_idle_ns is negative"):
        Limits(ping_burst=0, max_idle_ns=-5)


def test_what_is_not_the_default_is_advertised() -> None:
    peer = Peer(Limits(max_frame_size=20_000, connection_window=65_535, header_table_size=4096), hello=False)

    (settings,) = peer.take()

    entries = dict(frames.SETTING.iter_unpack(settings.payload))
    assert entries[frames.MAX_FRAME_SIZE] == 20_000
    assert entries[frames.HEADER_TABLE_SIZE] == 4096


def test_the_test_route_is_plain_http_and_exists_only_when_asked_for() -> None:
    get = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "x")]
    with_route, without = Peer(Limits(test_route=b"/")), Peer()

    head, data, tail = with_route.send(with_route.headers(1, pairs=get, end=True))
    refused = without.send(without.headers(1, pairs=get, end=True))

    assert with_route.decode(head.payload)[":status"] == "200"
    assert data.payload
    assert tail.flags & frames.END_STREAM
    assert [] == with_route.sink.heard
    assert without.decode(refused[0].payload)[":status"] == "415"
