"""Hot handlers: plain functions that answer now, later, or never, and streams of plain calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from support.garbage import cycles
from support.lean import SERVICE, ask, calling, refused, serving, until
from support.lean_client import Flood

from sentinel_ext.server.calls import PENDING, Call, HotUnary, RpcError
from sentinel_ext.services.registry import HotStream, OpenStream, RequestError, StreamKind, Unary
from sentinel_ext.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import Callable


def hot(handle: Callable[[bytes, Call], Any]) -> tuple[HotUnary]:
    return (HotUnary(SERVICE, "Hot", handle),)


class Later:
    """Keeps calls until the test answers them."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, Call]] = []

    def __call__(self, data: bytes, call: Call) -> Any:
        self.calls.append((data, call))
        return PENDING


async def test_an_answer_at_once() -> None:
    async with calling(hot=hot(lambda data, _call: data + b"!")) as channel:
        assert b"now!" == await ask(channel, "Hot", b"now")


async def test_answers_that_come_later_and_out_of_order_find_their_calls() -> None:
    later = Later()
    async with calling(hot=hot(later)) as channel:
        asked = asyncio.gather(*(ask(channel, "Hot", b"%d" % number) for number in range(100)))
        await until(lambda: len(later.calls) == 100)
        sent = [call.reply(data * 2) for data, call in reversed(later.calls)]

        assert [b"%d" % number * 2 for number in range(100)] == await asked
        assert all(sent)


async def test_the_first_answer_wins() -> None:
    later = Later()
    async with calling(hot=hot(later)) as channel:
        asked = asyncio.ensure_future(ask(channel, "Hot"))
        await until(lambda: bool(later.calls))
        ((_, call),) = later.calls

        assert call.reply(b"first")
        assert not call.reply(b"second")
        assert not call.fail(Status.INTERNAL, "third")
        assert b"first" == await asked


async def test_an_answer_given_inside_the_handler_counts() -> None:
    def handle(data: bytes, call: Call) -> Any:
        call.reply(data)
        return PENDING

    async with calling(hot=hot(handle)) as channel:
        assert b"x" == await ask(channel, "Hot", b"x")


async def test_a_handler_fails_later_or_by_raising() -> None:
    later = Later()

    def refuse(_data: bytes, _call: Call) -> Any:
        raise RpcError(Status.RESOURCE_EXHAUSTED, "full")

    async with calling(hot=(*hot(later), HotUnary(SERVICE, "Refuse", refuse))) as channel:
        asked = asyncio.ensure_future(refused(ask(channel, "Hot")))
        await until(lambda: bool(later.calls))
        assert later.calls[0][1].fail(Status.UNAVAILABLE, "store gone")

        assert (grpc.StatusCode.UNAVAILABLE, "store gone") == await asked
        assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "full") == await refused(ask(channel, "Refuse"))


async def test_a_bug_of_the_handler_ends_its_call_alone() -> None:
    def handle(data: bytes, _call: Call) -> Any:
        return 1 // len(data) or b"ok"

    async with calling(hot=hot(handle)) as channel:
        assert (grpc.StatusCode.UNKNOWN, "internal error") == await refused(ask(channel, "Hot", b""))


async def test_a_cancelled_call_is_told_once_and_cannot_be_answered() -> None:
    later, told = Later(), []
    async with serving(hot=hot(later)) as (server, where), grpc.aio.insecure_channel(where) as channel:
        asked = channel.unary_unary(f"/{SERVICE}/Hot")(b"")
        asyncio.ensure_future(refused(asked)).add_done_callback(lambda _: None)
        await until(lambda: bool(later.calls))
        ((_, call),) = later.calls
        call.on_cancel(lambda: told.append(True))
        asked.cancel()
        await until(lambda: call.cancelled)

        assert [True] == told
        assert not call.reply(b"late")
        assert 0 == server.in_flight


async def test_a_cancelled_call_that_nobody_was_told_of_counts_until_it_is_answered() -> None:
    later = Later()
    async with serving(hot=hot(later)) as (server, where), grpc.aio.insecure_channel(where) as channel:
        await channel.channel_ready()  # connecting takes its time, too
        await refused(ask(channel, "Hot", timeout=0.05))
        await until(lambda: bool(later.calls) and later.calls[0][1].cancelled)

        assert 1 == server.in_flight
        assert not later.calls[0][1].reply(b"late")
        assert 0 == server.in_flight


async def test_a_deadline_ends_a_pending_call() -> None:
    """The client's own clock ends it, too; what the server alone would say is in test_lean_protocol."""
    later, told = Later(), []

    def handle(data: bytes, call: Call) -> Any:
        assert call.deadline_ns > 0
        call.on_cancel(lambda: told.append(data))
        return later(data, call)

    async with serving(hot=hot(handle)) as (server, where), grpc.aio.insecure_channel(where) as channel:
        await channel.channel_ready()  # connecting takes its time, too
        code, _ = await refused(ask(channel, "Hot", b"a", timeout=0.05))
        await until(lambda: bool(told) and server.in_flight == 0)

        assert grpc.StatusCode.DEADLINE_EXCEEDED is code
        assert [b"a"] == told


async def test_metadata_is_there_when_asked_for() -> None:
    async with calling(hot=hot(lambda _data, call: dict(call.metadata)["x-who"].encode())) as channel:
        assert b"me" == await ask(channel, "Hot", metadata=(("x-who", "me"),))


async def test_methods_of_the_registry_answer_now_later_and_refuse_garbage() -> None:
    class Ticket:
        def __init__(self, reply: Callable[[bytes], bool]) -> None:
            self.reply = reply
            self.cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

    tickets: list[Ticket] = []

    def decode(data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise RequestError("not text") from error

    def handle(word: str, reply: Callable[[bytes], bool]) -> Any:
        if word == "now":
            return b"now"
        tickets.append(Ticket(reply))
        return tickets[-1]

    methods = (Unary(SERVICE, "Word", decode, handle),)
    async with serving(hot=methods) as (server, where), grpc.aio.insecure_channel(where) as channel:
        assert b"now" == await ask(channel, "Word", b"now")
        assert (grpc.StatusCode.INTERNAL, "not text") == await refused(ask(channel, "Word", b"\xff"))

        asked = asyncio.ensure_future(ask(channel, "Word", b"later"))
        await until(lambda: bool(tickets))
        assert tickets[0].reply(b"here")
        assert b"here" == await asked

        await channel.channel_ready()  # connecting takes its time, too
        await refused(ask(channel, "Word", b"never", timeout=0.05))
        await until(lambda: len(tickets) == 2 and tickets[1].cancelled)
        assert not tickets[1].reply(b"late")
        assert 0 == server.in_flight


class Sum:
    """A hot stream that adds up sizes and echoes."""

    def __init__(self, call: OpenStream) -> None:
        self.call, self.size, self.events = call, 0, []

    def on_message(self, message: bytes) -> None:
        if message == b"bug":
            raise KeyError
        self.size += len(message)
        if self.size < 100:
            self.call.send(message)

    def on_half_close(self) -> None:
        self.call.send(b"%d" % self.size)
        self.call.finish()

    def on_cancel(self) -> None:
        self.events.append("cancel")

    def on_writable(self) -> None:
        self.events.append("writable")

    def on_drain(self) -> None:
        self.call.finish(Status.OK, "")


async def test_a_hot_stream_takes_and_sends_messages_and_finishes() -> None:
    async with calling(hot=(HotStream(SERVICE, "Sum", StreamKind.BIDI, Sum),)) as channel:
        call = channel.stream_stream(f"/{SERVICE}/Sum")(iter([b"a", b"bcd", bytes(500_000)]))

        assert [b"a", b"bcd", b"500004"] == [reply async for reply in call]


async def test_a_bug_ends_a_hot_stream_alone() -> None:
    handlers: list[Sum] = []

    def make(call: OpenStream) -> Sum:
        handlers.append(Sum(call))
        return handlers[-1]

    async with calling(hot=(HotStream(SERVICE, "Sum", StreamKind.BIDI, make),)) as channel:
        call = channel.stream_stream(f"/{SERVICE}/Sum")()
        await call.write(b"bug")
        assert grpc.StatusCode.UNKNOWN is (await refused(call.read()))[0]
        assert ["cancel"] == handlers[0].events

        gone = channel.stream_stream(f"/{SERVICE}/Sum")()
        await gone.write(b"x")
        assert b"x" == await gone.read()
        gone.cancel()
        await until(lambda: handlers[1].events == ["cancel"])


async def test_ten_thousand_calls_leave_no_garbage() -> None:
    """Hot calls, pending ones with deadlines, coroutines and failures: no cycle, so nothing to collect."""
    loop = asyncio.get_running_loop()

    def later(data: bytes, call: Call) -> Any:
        call.on_cancel(lambda: call.reply(data))
        loop.call_soon(call.reply, data)
        return PENDING

    async def echo(request: bytes, context: Any) -> bytes:
        if request == b"0":
            await context.abort(grpc.StatusCode.NOT_FOUND, "0")
        return request

    methods = (
        HotUnary(SERVICE, "Now", lambda data, _call: data),
        HotUnary(SERVICE, "Later", later),
    )
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    async with serving(handlers, hot=methods) as (server, where), Flood(where) as client:
        client.call(100)
        await until(lambda: server.calls == 100 and server.in_flight == 0)
        with cycles() as found:
            client.call(10_000)
            await until(lambda: server.calls == 10_100 and server.in_flight == 0)

    assert [] == found
