"""Access log streams over real sockets, on both servers: the same handler, the same ends."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from support.lean import local, refused, serving, target, until
from support.log_messages import ended, http_entry, message, metadata

from sentinel_ext.core.ended import Ended, Result
from sentinel_ext.server.grpcio import GrpcioServer
from sentinel_ext.server.grpcio_streams import MAX_WAITING_MESSAGES
from sentinel_ext.services.access_log import SERVICE, AccessLogs
from sentinel_ext.services.registry import HotStream, OpenStream, StreamKind
from sentinel_ext.telemetry.red import Red

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

PATH = f"/{SERVICE}/StreamAccessLogs"


class Place:
    """A server that runs, and a client of it."""

    def __init__(self, server: Any, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.channel = channel

    def stream(self, path: str = PATH) -> Any:
        return self.channel.stream_unary(path)(wait_for_ready=True)


@asynccontextmanager
async def place(kind: str, methods: Sequence[HotStream]) -> AsyncIterator[Place]:
    address = local()
    options = [("grpc.use_local_subchannel_pool", 1)]
    if kind == "lean":
        async with (
            serving(hot=methods, address=address) as (server, where),
            grpc.aio.insecure_channel(where, options) as channel,
        ):
            yield Place(server, channel)
        return
    grpcio = GrpcioServer(address, methods)
    await grpcio.start()
    try:
        async with grpc.aio.insecure_channel(target(address), options) as channel:
            yield Place(grpcio, channel)
    finally:
        await grpcio.stop(0)


class Logs:
    """The service and what it told."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self.faults: list[Exception] = []
        self.heard: list[tuple[str, int]] = []
        self.service = AccessLogs(
            self.ended.append, Red(), self.faults.append, lambda *said: self.heard.append(said)
        )


@pytest.fixture(params=["lean", "grpcio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def logs():
    logs = Logs()
    yield logs
    assert [] == logs.faults
    assert 0 == logs.service.streams


async def test_entries_of_many_messages_arrive_and_the_log_closes_in_good_order(kind, logs):
    async with place(kind, logs.service.methods()) as there:
        call = there.stream()
        for number in range(50):
            entries = [http_entry(metadata(number * 20 + n)) for n in range(20)]
            await call.write(message(*entries, node="envoy-1" if not number else ""))
        await call.done_writing()

        assert b"" == await call
        assert grpc.StatusCode.OK == await call.code()
    assert [ended()] * 1000 == logs.ended
    assert 1000 == logs.service.results[Result.COUNTED]
    assert [20] * 50 == [count for _, count in logs.heard]
    assert 1 == len({name for name, _ in logs.heard})
    assert "127.0.0.1" in logs.heard[0][0]


async def test_a_client_that_breaks_off_leaves_no_stream(kind, logs):
    async with place(kind, logs.service.methods()) as there:
        call = there.stream()
        await call.write(message(http_entry(metadata()), node="envoy-1"))
        await until(lambda: logs.ended == [ended()])
        assert 1 == logs.service.streams

        call.cancel()
        await until(lambda: logs.service.streams == 0)


async def test_a_message_that_is_none_ends_its_stream_with_a_status(kind, logs):
    async with place(kind, logs.service.methods()) as there:
        good = there.stream()
        await good.write(message(http_entry(metadata(1)), node="envoy-1"))
        bad = there.stream()
        await bad.write(b"\xff\xff")

        assert (grpc.StatusCode.INVALID_ARGUMENT, "not a StreamAccessLogsMessage") == await refused(bad)
        await good.write(message(http_entry(metadata(2))))
        await good.done_writing()
        assert b"" == await good
    assert [ended(), ended()] == logs.ended
    assert 1 == logs.service.garbled


async def test_a_drain_finishes_the_log(kind, logs):
    async with place(kind, logs.service.methods()) as there:
        call = there.stream()
        await call.write(message(http_entry(metadata()), node="envoy-1"))
        await until(lambda: logs.ended == [ended()])

        async with asyncio.timeout(5):
            await there.server.stop(30)

        assert b"" == await call
        assert grpc.StatusCode.OK == await call.code()


async def test_logs_of_several_proxies_are_apart(kind, logs):
    async with place(kind, logs.service.methods()) as there:
        calls = [there.stream() for _ in range(5)]
        for number, call in enumerate(calls):
            await call.write(message(http_entry(metadata(number)), node=f"envoy-{number}"))
        await until(lambda: len(logs.ended) == 5)
        assert 5 == logs.service.streams
        assert 5 == len({name for name, _ in logs.heard})
        for call in calls:
            await call.done_writing()
            assert b"" == await call


# What else a hot stream may do, on grpcio; tests/server/test_lean_hot.py has the same for the lean server.


class Echo:
    """Sends each message back; b"bug" is one, b"flood" sends as long as there is room."""

    def __init__(self, call: OpenStream) -> None:
        self.call = call
        self.events: list[str] = []

    def on_message(self, data: bytes) -> None:
        if data == b"bug":
            raise ZeroDivisionError
        if data == b"flood":
            while self.call.send(bytes(1000)):
                pass
            self.events.append("full")
        self.call.send(data)

    def on_half_close(self) -> None:
        self.call.send(str(dict(self.call.metadata).get("x-test")).encode())
        self.call.finish()

    def on_cancel(self) -> None:
        self.events.append("cancel")

    def on_writable(self) -> None:
        self.events.append("writable")

    def on_drain(self) -> None:
        self.call.finish(14, "going")


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[Place, list[Echo]]]:
    handlers: list[Echo] = []

    def make(call: OpenStream) -> Echo:
        handlers.append(Echo(call))
        return handlers[-1]

    async with place("grpcio", (HotStream("test.Echo", "Echo", StreamKind.BIDI, make),)) as there:
        yield there, handlers


def echo(there: Place) -> Any:
    return there.channel.stream_stream("/test.Echo/Echo")(wait_for_ready=True, metadata=(("x-test", "yes"),))


async def test_messages_flow_both_ways_and_metadata_is_there():
    async with echoing() as (there, handlers):
        call = echo(there)
        for data in (b"a", b"", bytes(100_000)):
            await call.write(data)
            assert data == await call.read()
        await call.done_writing()

        assert b"yes" == await call.read()
        assert grpc.aio.EOF is await call.read()
        assert [[]] == [handler.events for handler in handlers]


async def test_a_handlers_bug_ends_its_stream_alone():
    async with echoing() as (there, handlers):
        bad, good = echo(there), echo(there)
        await good.write(b"x")
        assert b"x" == await good.read()
        await bad.write(b"bug")

        assert grpc.StatusCode.UNKNOWN is (await refused(bad.read()))[0]
        await good.write(b"y")
        assert b"y" == await good.read()
        assert [[], ["cancel"]] == sorted(handler.events for handler in handlers)
        good.cancel()


async def test_who_sends_too_much_is_told_to_wait_and_when_to_go_on():
    async with echoing() as (there, handlers):
        call = echo(there)
        await call.write(b"flood")
        replies = [await call.read() for _ in range(MAX_WAITING_MESSAGES + 1)]

        assert b"flood" == replies[-1]
        await until(lambda: handlers[0].events == ["full", "writable"])
        call.cancel()
        await until(lambda: handlers[0].call.send(b"late") is False)
        assert handlers[0].call.finish() is False


async def test_a_drain_reaches_every_stream_of_grpcio():
    async with echoing() as (there, _):
        call = echo(there)
        await call.write(b"x")
        assert b"x" == await call.read()

        async with asyncio.timeout(5):
            await there.server.stop(30)

        assert (grpc.StatusCode.UNAVAILABLE, "going") == await refused(call.read())
