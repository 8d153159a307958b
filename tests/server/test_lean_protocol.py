"""The glue against a transport that keeps what is written: how often, how much, and when to stop."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, ClassVar

import grpc
import pytest
from support import lean_frames as frames
from support.fakes import FakeClock, turns
from support.garbage import cycles

from sentinel_ext.server import hub as hub_module
from sentinel_ext.server.calls import PENDING, Call, HotUnary
from sentinel_ext.server.handlers import inline
from sentinel_ext.server.hub import Hub
from sentinel_ext.server.mount import MAX_UNKNOWN_PATHS, Mounts, Routes
from sentinel_ext.server.protocol import EOF_GRACE_NS, WRITE_HIGH, WRITE_LOW, H2Protocol
from sentinel_ext.wire.hpack import BlockCache
from sentinel_ext.wire.limits import Limits, ProcessBudget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

PATH = "/test.Service/Hot"
ALL = 2**31 - 1 - 65_535


class RecordingTransport(asyncio.Transport):
    """Keeps each write by itself; the test plays the peer and the kernel's buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.limits: tuple[int | None, int | None] = (None, None)
        self.is_reading_now = True
        self.ended: list[str] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = (high, low)

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def pause_reading(self) -> None:
        self.is_reading_now = False

    def resume_reading(self) -> None:
        self.is_reading_now = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended.append("eof")

    def close(self) -> None:
        self.ended.append("close")

    def abort(self) -> None:
        self.ended.append("abort")

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        return frames.split(b"".join(self.writes))


class Peer:
    """A connection with a recording transport, a clock, and pending calls."""

    made: ClassVar[list[Peer]] = []

    def __init__(self, limits: Limits | None = None, handlers: Mapping[str, Any] | None = None) -> None:
        self.clock = FakeClock()
        self.calls: list[Call] = []
        mounts = Mounts()
        mounts.add((HotUnary("test.Service", "Hot", self._handle),))
        mounts.add_registered("test.Service", handlers or {})
        table = mounts.table()
        limits = limits or Limits.trusted()
        self.hub = Hub(table, limits, BlockCache(table, limits), ProcessBudget(), self.clock)
        self.transport = RecordingTransport()
        self.protocol = H2Protocol(self.hub)
        self.protocol.connection_made(self.transport)
        self.made.append(self)

    def close(self) -> None:
        """Stop its timers, which would keep it in the loop."""
        self.hub._cancel_timer()
        self.hub.deadlines.close()

    def greet(self) -> None:
        widen = frames.frame(8, 0, 0, ALL.to_bytes(4, "big"))
        self.protocol.data_received(frames.PREFACE + frames.SETTINGS + widen)
        self.transport.writes.clear()

    def _handle(self, message: bytes, call: Call) -> Any:
        if message == b"later":
            self.calls.append(call)
            return PENDING
        return message


@pytest.fixture
async def peer() -> Peer:
    peer = Peer()
    peer.greet()
    return peer


@pytest.fixture(autouse=True)
def tidy(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.WARNING, "sentinel.wire"):
        yield
    for peer in Peer.made:
        peer.close()
    Peer.made.clear()


async def test_settings_go_out_before_the_client_speaks() -> None:
    peer = Peer()

    assert 1 == len(peer.transport.writes)
    assert 4 == peer.transport.frames()[0][0]
    assert (WRITE_HIGH, WRITE_LOW) == peer.transport.limits


async def test_one_read_of_many_requests_is_one_write(peer: Peer) -> None:
    peer.protocol.data_received(b"".join(frames.request(n, PATH, b"x") for n in range(1, 51, 2)))

    assert 1 == len(peer.transport.writes)
    assert 25 * 3 == len(peer.transport.frames())
    assert 25 == peer.hub.calls


async def test_what_is_answered_within_a_read_asks_for_no_second_flush() -> None:
    peer = Peer(handlers={"Inline": grpc.unary_unary_rpc_method_handler(inline(lambda data, _context: data))})
    peer.greet()
    peer.protocol.data_received(frames.request(1, "/test.Service/Inline", b"x"))

    assert 1 == len(peer.transport.writes)
    assert [] == peer.hub._dirty


async def test_late_answers_of_one_turn_are_one_write(peer: Peer) -> None:
    peer.protocol.data_received(b"".join(frames.request(n, PATH, b"later") for n in range(1, 51, 2)))
    for call in peer.calls:
        assert call.reply(b"x")
    assert [] == peer.transport.writes
    await turns(2)

    assert 1 == len(peer.transport.writes)
    assert 0 == peer.hub.budget.in_flight


async def test_a_deadline_is_answered_by_the_server_itself(peer: Peer) -> None:
    told: list[bool] = []
    peer.protocol.data_received(frames.request(1, PATH, b"later", (b"grpc-timeout", b"50m")))
    (call,) = peer.calls
    call.on_cancel(lambda: told.append(True))
    assert peer.clock.now_ns + 50_000_000 == call.deadline_ns
    peer.clock.advance(ms=60)
    peer.hub.deadlines._fire()
    await turns(2)

    ((kind, flags, stream_id, block),) = peer.transport.frames()
    assert (frames.HEADERS, frames.END_STREAM | frames.END_HEADERS, 1) == (kind, flags, stream_id)
    assert b"grpc-status\x014" in block
    assert [True] == told
    assert call.cancelled
    assert not call.reply(b"late")
    assert 0 == peer.hub.budget.in_flight


async def test_a_peer_that_does_not_read_is_not_read(peer: Peer) -> None:
    """Replies queue up to the bound, then reading stops; all of it goes out when the peer reads again."""
    peer.protocol.pause_writing()
    stream_id = 1
    while peer.transport.is_reading_now:
        peer.protocol.data_received(frames.request(stream_id, PATH, bytes(10_000)))
        stream_id += 2
        assert stream_id < 400
    replies = stream_id // 2

    assert [] == [kind for kind, *_ in peer.transport.frames() if kind == frames.DATA]
    peer.protocol.resume_writing()
    await turns(2)
    assert peer.transport.is_reading_now
    sent = sum(len(payload) for kind, _, _, payload in peer.transport.frames() if kind == frames.DATA)
    assert replies * 10_005 == sent


async def test_a_read_larger_than_a_turns_share_leaves_others_a_turn(peer: Peer) -> None:
    many = b"".join(frames.request(n, PATH, b"x") for n in range(1, 4001, 2))
    peer.protocol.data_received(many)
    first = peer.hub.calls

    assert 0 < first < 2000
    assert not peer.transport.is_reading_now
    await turns(50)
    assert 2000 == peer.hub.calls
    assert peer.transport.is_reading_now
    ends = [1 for kind, flags, *_ in peer.transport.frames() if kind == frames.HEADERS and flags & 1]
    assert 2000 == len(ends)


async def test_a_violation_is_told_then_the_connection_lingers_and_closes(peer: Peer) -> None:
    """Closed at once, unread data would turn into a TCP reset that takes the GOAWAY with it."""
    peer.protocol.data_received(frames.frame(frames.PING, 0, 1, bytes(8)))

    assert frames.GOAWAY == peer.transport.frames()[-1][0]
    assert ["eof"] == peer.transport.ended
    peer.protocol.data_received(b"more of it")
    peer.protocol.tick(peer.clock.advance(s=2))
    assert ["eof", "close"] == peer.transport.ended
    peer.protocol.tick(peer.clock.advance(s=20))
    assert ["eof", "close", "abort"] == peer.transport.ended


async def test_a_half_closed_client_is_probed_and_not_kept_for_ever(peer: Peer) -> None:
    peer.protocol.data_received(frames.request(1, PATH, b"later"))

    assert peer.protocol.eof_received()
    peer.protocol.tick(peer.clock.advance(s=1))
    assert [frames.PING] * 2 == [kind for kind, *_ in peer.transport.frames()]
    peer.protocol.tick(peer.clock.advance(ns=EOF_GRACE_NS))
    assert ["abort"] == peer.transport.ended


async def test_a_half_closed_client_without_calls_is_closed(peer: Peer) -> None:
    assert not peer.protocol.eof_received()


async def test_a_lost_connection_cancels_and_writes_nothing_more(peer: Peer) -> None:
    peer.protocol.data_received(frames.request(1, PATH, b"later"))
    peer.protocol.connection_lost(None)
    await turns(2)

    assert peer.calls[0].cancelled
    assert not peer.calls[0].reply(b"late")
    await turns(2)
    assert [] == peer.transport.writes
    assert not peer.hub.connections
    assert 0 == peer.hub.budget.in_flight


async def test_a_drain_ends_with_the_last_answer_not_with_the_next_tick(peer: Peer) -> None:
    peer.protocol.data_received(frames.request(1, PATH, b"later"))
    peer.protocol.drain("shutdown")
    await turns(2)
    ping = next(payload for kind, _, _, payload in peer.transport.frames() if kind == frames.PING)
    peer.protocol.data_received(frames.frame(frames.PING, 1, 0, ping))
    assert [] == peer.transport.ended
    peer.calls[0].reply(b"x")
    await turns(2)

    assert ["eof"] == peer.transport.ended
    assert 2 == sum(kind == frames.GOAWAY for kind, *_ in peer.transport.frames())


async def echo(request: bytes, _context: Any) -> bytes:
    return request


async def repeat(request: bytes, context: Any) -> None:
    context.add_done_callback(lambda _: None)
    await context.write(request)


async def join(requests: Any, _context: Any) -> bytes:
    return b"".join([message async for message in requests])


async def shout(requests: Any, context: Any) -> AsyncIterator[bytes]:
    async for message in requests:
        if message == b"abort":
            await context.abort(grpc.StatusCode.ABORTED, "as told")
        if message == b"bug":
            raise KeyError(message)
        yield message


HANDLERS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Repeat": grpc.unary_stream_rpc_method_handler(repeat),
    "Join": grpc.stream_unary_rpc_method_handler(join),
    "Shout": grpc.stream_stream_rpc_method_handler(shout),
}


@pytest.mark.parametrize("end", ["half-close", "reset", "deadline", "lost"])
@pytest.mark.parametrize("message", [b"x", b"abort", b"bug"])
async def test_calls_of_every_kind_and_end_leave_no_garbage(end: str, message: bytes) -> None:
    peer = Peer(handlers=HANDLERS)
    peer.greet()
    timeout = (b"grpc-timeout", b"50m")
    with cycles() as found:
        for number in range(40):
            path = f"/test.Service/{('Echo', 'Repeat', 'Join', 'Shout')[number % 4]}"
            stream_id = 2 * number + 1
            flags = frames.END_STREAM if end == "half-close" else 0
            peer.protocol.data_received(
                frames.headers(stream_id, path, timeout) + frames.data(stream_id, message, flags)
            )
            await turns(3)
            if end == "reset":
                peer.protocol.data_received(frames.frame(frames.RST_STREAM, 0, stream_id, bytes(4)))
        if end == "deadline":
            peer.clock.advance(ms=60)
            peer.hub.deadlines._fire()
        if end == "lost":
            peer.protocol.connection_lost(None)
        await turns(6)

    assert 0 == peer.hub.budget.in_flight
    assert 0 == len(peer.hub.deadlines)
    assert not peer.hub._tasks
    assert not peer.protocol.streams
    assert [] == found


# What the connections share.


async def test_a_reason_is_counted_always_and_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer()
    told: list[str] = []
    peer.hub.on_trip = told.append
    for _ in range(10):
        peer.hub.trip("ping_flood")
    peer.hub.trip("other")
    peer.clock.advance(s=1)
    peer.hub.trip("ping_flood")

    assert {"ping_flood": 11, "other": 1} == peer.hub.trips
    assert 12 == len(told)
    lines = [(record.__dict__["reason"], record.__dict__.get("left_out", 0)) for record in caplog.records]
    assert [("ping_flood", 0), ("other", 0), ("ping_flood", 9)] == lines


async def test_ticks_stop_with_the_last_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "TICK_S", 0.001)
    peer = Peer()
    assert peer.hub._timer is not None
    peer.protocol.connection_lost(None)
    await asyncio.sleep(0.02)

    assert peer.hub._timer is None


async def test_unknown_paths_are_remembered_within_a_bound() -> None:
    asked: list[str] = []

    class Generic:
        def service(self, details: Any) -> None:
            asked.append(details.method)

    table = Routes([Generic()])
    for number in range(MAX_UNKNOWN_PATHS + 10):
        for _ in range(2):
            assert table.get(b"/a/%d" % number) is None

    assert MAX_UNKNOWN_PATHS + 10 == len(asked)
    assert len(table._unknown) <= MAX_UNKNOWN_PATHS
