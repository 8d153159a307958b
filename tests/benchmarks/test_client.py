"""The load client: what it sends, and that it counts answers right however their bytes arrive."""

from __future__ import annotations

import struct

import hpack
import pytest
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame

from benchmarks.load import Plan
from sentinel_ext.client import hpack_lite
from sentinel_ext.client.load import percentile
from sentinel_ext.client.load_connection import TENANT, Connection, LoadError, Meter, Requests

FIELDS = [(":method", "POST"), (":path", "/a.B/C"), (":scheme", "http"), ("x-tenant-id", TENANT)]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class FakeTransport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def take(self) -> list[Frame]:
        data, self.written = self.written.removeprefix(PREFACE), b""
        return frames(data)


def frames(data: bytes) -> list[Frame]:
    found = []
    while data:
        frame, size = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + size]))
        found.append(frame)
        data = data[9 + size :]
    return found


class Client:
    """A connection with a transport of ours, past its SETTINGS."""

    def __init__(self, plan: Plan, settings: SettingsFrame | None = None) -> None:
        self.meter, self.failures, self.transport = Meter(), [], FakeTransport()
        self.meter.on = True
        self.connection = Connection(Requests(plan), self.meter, plan.streams, self.failures.append)
        self.connection.connection_made(self.transport)
        self.transport.take()
        self.receive(settings or SettingsFrame(0))
        self.sent = self.transport.take()

    def receive(self, *answers: Frame) -> None:
        self.connection.data_received(b"".join(answer.serialize() for answer in answers))

    @property
    def requests(self) -> list[int]:
        return [frame.stream_id for frame in self.sent if isinstance(frame, HeadersFrame)]


def plan(streams: int = 2, message: bytes | None = b"request", tenants: int = 1) -> Plan:
    return Plan(target="", headers=FIELDS, message=message, tenants=tenants, streams=streams)


def headers(stream_id: int, fields: dict[str, str], *, end: bool = False) -> HeadersFrame:
    flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
    return HeadersFrame(stream_id, hpack_lite.encode(fields.items()), flags=flags)


def answer(stream_id: int, status: str = "0") -> list[Frame]:
    message = DataFrame(stream_id, struct.pack(">BI", 0, 2) + b"ok")
    opening, end = (
        headers(stream_id, {":status": "200"}),
        headers(stream_id, {"grpc-status": status}, end=True),
    )
    return [opening, message, end]


def test_requests_wait_for_the_server_s_settings_and_acknowledge_them():
    client = Client(plan())

    assert isinstance(client.sent[0], SettingsFrame)
    assert "ACK" in client.sent[0].flags
    assert [1, 3] == client.requests


def test_the_first_block_says_that_the_table_is_empty_and_the_others_are_plain():
    client = Client(plan(streams=3))
    blocks = [frame.data for frame in client.sent if isinstance(frame, HeadersFrame)]

    # One decoder with our table of 0 reads all of them, as a server does.
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    assert [FIELDS] * 3 == [decoder.decode(block) for block in blocks]
    assert b"\x20" == blocks[0][:1]
    assert blocks[1] == blocks[2] == blocks[0][1:]


def test_a_request_carries_its_message_with_prefix_and_ends_the_stream():
    bodies = [frame for frame in Client(plan()).sent if isinstance(frame, DataFrame)]

    assert [struct.pack(">BI", 0, 7) + b"request"] * 2 == [frame.data for frame in bodies]
    assert all("END_STREAM" in frame.flags for frame in bodies)


def test_an_answered_request_is_counted_and_followed_by_the_next():
    client = Client(plan())

    client.receive(*answer(3))

    assert {"0": 1} == client.meter.outcomes
    assert [5] == [frame.stream_id for frame in client.transport.take() if isinstance(frame, HeadersFrame)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 64])
def test_answers_split_anywhere_are_counted_alike(size: int):
    client = Client(plan(streams=4))
    data = b"".join(frame.serialize() for i in (1, 3, 5, 7) for frame in answer(i, "0" if i < 5 else "8"))

    for at in range(0, len(data), size):
        client.connection.data_received(data[at : at + size])

    assert {"0": 2, "8": 2} == client.meter.outcomes
    assert [] == client.failures


def test_a_reset_is_an_outcome_and_a_late_one_is_not_counted_twice():
    client = Client(plan())

    client.receive(RstStreamFrame(1, error_code=8), *answer(3), RstStreamFrame(3, error_code=0))

    assert {"rst 8": 1, "0": 1} == client.meter.outcomes


def test_trailers_only_and_http_errors_tell_their_status():
    client = Client(plan())

    client.receive(
        headers(1, {":status": "200", "grpc-status": "12"}, end=True),
        headers(3, {":status": "415"}, end=True),
    )

    assert {"12": 1, "http 415": 1} == client.meter.outcomes


def test_plain_http_answers_are_counted_by_status_with_and_without_a_body():
    client = Client(plan(message=None))
    assert all("END_STREAM" in f.flags for f in client.sent if isinstance(f, HeadersFrame))

    client.receive(
        headers(1, {":status": "200", "x-request": "7"}),
        DataFrame(1, b"body", flags=["END_STREAM"]),
        headers(3, {":status": "429"}, end=True),
    )

    assert {"http 200": 1, "http 429": 1} == client.meter.outcomes


def test_no_more_streams_than_the_server_allows():
    assert [1] == Client(plan(streams=5), SettingsFrame(0, settings={3: 1})).requests


def test_no_more_bytes_than_the_connection_s_window():
    message = bytes(15_000)
    client = Client(plan(streams=10, message=message))

    # 65,535 bytes hold four messages of 15,005.
    assert [1, 3, 5, 7] == client.requests


def test_a_server_that_says_goodbye_or_hangs_up_voids_the_run():
    client = Client(plan())

    client.receive(GoAwayFrame(0, error_code=2, additional_data=b"bug"))
    client.connection.connection_lost(None)

    assert ["the server sent GOAWAY 2 bug"] == client.failures[:1]
    assert "closed" in client.failures[1]


def test_after_the_end_of_a_run_nothing_is_a_failure_and_nothing_is_sent():
    client = Client(plan())

    client.connection.close()
    client.receive(*answer(1))
    client.connection.connection_lost(None)

    assert [] == client.failures
    assert [] == client.transport.take()


def test_tenants_take_turns_and_all_have_theirs():
    requests = Requests(plan(tenants=7))

    blocks = [requests.make(stream_id) for stream_id in range(3, 17, 2)]

    assert {b"t%07d" % n for n in range(7)} == {block[block.index(b"t0") :][:8] for block in blocks}


def test_tenants_need_a_place_in_the_request_and_a_request_a_single_frame():
    nameless = Plan(target="", headers=FIELDS[:3], message=b"x", tenants=2)

    with pytest.raises(LoadError, match="tenants"):
        Requests(nameless)
    with pytest.raises(LoadError, match="one frame"):
        Requests(plan(message=bytes(16_384)))


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 300, 5000])
def test_our_literals_are_hpack(size: int):
    fields = [("x-long", "v" * size), ("n" * (size + 1), "")]

    assert fields == hpack.Decoder().decode(hpack_lite.encode(fields))


def test_percentiles_are_of_the_nearest_rank():
    assert [5, 10, 10, 1] == [percentile([*range(1, 11)], p) for p in (50, 99, 100, 1)]
    assert 7 == percentile([7], 99)
