"""A real grpcio client calls servicers of every kind and form on the lean server."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from support.lean import SERVICE, ask, calling, refused

from sentinel_ext.server.handlers import inline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


async def echo(request: bytes, _context: Any) -> bytes:
    return request


def blocking_echo(request: bytes, _context: Any) -> bytes:
    return request + threading.current_thread().name.encode()


@inline
def inline_echo(request: bytes, _context: Any) -> bytes:
    return request + threading.current_thread().name.encode()


async def count(request: bytes, _context: Any) -> AsyncIterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


async def count_by_writing(request: bytes, context: Any) -> None:
    for number in range(int(request)):
        await context.write(b"%d" % number)


def count_in_a_thread(request: bytes, _context: Any) -> Iterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


@inline
def count_inline(request: bytes, _context: Any) -> Iterator[bytes]:
    return (b"%d" % number for number in range(int(request)))


async def join(requests: Any, _context: Any) -> bytes:
    return b",".join([message async for message in requests])


async def join_by_reading(_requests: Any, context: Any) -> bytes:
    messages = []
    while (message := await context.read()) is not grpc.aio.EOF:
        messages.append(message)
    return b",".join(messages)


def join_in_a_thread(requests: Any, _context: Any) -> bytes:
    return b",".join(requests)


async def shout(requests: Any, _context: Any) -> AsyncIterator[bytes]:
    async for message in requests:
        yield message.upper()


async def shout_by_writing(_requests: Any, context: Any) -> None:
    while (message := await context.read()) is not grpc.aio.EOF:
        await context.write(message.upper())


def shout_in_a_thread(requests: Any, _context: Any) -> Iterator[bytes]:
    for message in requests:
        yield message.upper()


@pytest.mark.parametrize(
    ("handler", "where"), [(echo, b""), (blocking_echo, b"sentinel-handler_0"), (inline_echo, b"MainThread")]
)
async def test_a_unary_handler_runs_where_its_form_says(handler: Any, where: bytes) -> None:
    async with calling({"Echo": grpc.unary_unary_rpc_method_handler(handler)}) as channel:
        assert b"hello" + where == await ask(channel, "Echo", b"hello")
        assert where == await ask(channel, "Echo", b"")


@pytest.mark.parametrize("handler", [count, count_by_writing, count_in_a_thread, count_inline])
async def test_a_server_streams_in_any_form(handler: Any) -> None:
    async with calling({"Count": grpc.unary_stream_rpc_method_handler(handler)}) as channel:
        stream = channel.unary_stream(f"/{SERVICE}/Count")

        assert [b"0", b"1", b"2"] == [message async for message in stream(b"3")]
        assert [] == [message async for message in stream(b"0")]


@pytest.mark.parametrize("handler", [join, join_by_reading, join_in_a_thread])
async def test_a_client_streams_to_any_form(handler: Any) -> None:
    async with calling({"Join": grpc.stream_unary_rpc_method_handler(handler)}) as channel:
        join_all = channel.stream_unary(f"/{SERVICE}/Join")

        assert b"a,b,c" == await join_all(iter([b"a", b"b", b"c"]))
        assert b"" == await join_all(iter([]))


@pytest.mark.parametrize("handler", [shout, shout_by_writing, shout_in_a_thread])
async def test_both_stream_in_turn_in_any_form(handler: Any) -> None:
    async with calling({"Shout": grpc.stream_stream_rpc_method_handler(handler)}) as channel:
        call = channel.stream_stream(f"/{SERVICE}/Shout")()
        replies = []
        for word in (b"one", b"two", b"three"):
            await call.write(word)
            replies.append(await call.read())
        await call.done_writing()

        assert [b"ONE", b"TWO", b"THREE"] == replies
        assert grpc.aio.EOF is await call.read()
        assert grpc.StatusCode.OK is await call.code()


async def test_a_thousand_calls_at_once_on_one_connection_all_get_their_own_answer() -> None:
    async with calling({"Echo": grpc.unary_unary_rpc_method_handler(echo)}) as channel:
        words = [b"%d" % number for number in range(1000)]

        assert words == await asyncio.gather(*(ask(channel, "Echo", word) for word in words))


@pytest.mark.parametrize("size", [16 * 1024, 70_000, 300_000, 4 * 1024 * 1024])
async def test_messages_larger_than_frame_and_window_pass_both_ways(size: int) -> None:
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    message = bytes(range(256)) * (size // 256)
    async with calling(handlers) as channel:
        assert message == await ask(channel, "Echo", message)


async def test_a_message_above_the_limit_is_refused_and_the_connection_lives_on() -> None:
    async with calling({"Echo": grpc.unary_unary_rpc_method_handler(echo)}) as channel:
        code, _ = await refused(ask(channel, "Echo", bytes(4 * 1024 * 1024 + 1)))

        assert grpc.StatusCode.RESOURCE_EXHAUSTED is code
        assert b"x" == await ask(channel, "Echo", b"x")


async def test_a_long_stream_waits_for_a_slow_reader() -> None:
    """30 MB towards a client that does not read: the handler must stop, not queue."""
    sent = 0

    async def flood(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(3000):
            yield bytes(10_000)
            sent += 1

    async with calling({"Flood": grpc.unary_stream_rpc_method_handler(flood)}) as channel:
        replies = aiter(channel.unary_stream(f"/{SERVICE}/Flood")(b""))
        first = await anext(replies)
        await asyncio.sleep(0.1)  # real sockets: give it time to do wrong
        held_at = sent
        rest = [message async for message in replies]

    assert held_at < 2500
    assert 3000 == len([first, *rest])


async def test_a_stalled_handler_does_not_stop_other_calls_of_its_connection() -> None:
    go_on = asyncio.Event()

    async def slow(requests: Any, _context: Any) -> bytes:
        await go_on.wait()
        return b"%d" % len([message async for message in requests])

    handlers = {
        "Slow": grpc.stream_unary_rpc_method_handler(slow),
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
    }
    async with calling(handlers) as channel:
        call = channel.stream_unary(f"/{SERVICE}/Slow")(iter([bytes(10_000)] * 200))
        assert b"x" * 100_000 == await ask(channel, "Echo", b"x" * 100_000)
        go_on.set()

        assert b"200" == await call


async def test_a_method_nobody_mounted_is_unimplemented() -> None:
    async with calling({"Echo": grpc.unary_unary_rpc_method_handler(echo)}) as channel:
        code, _ = await refused(ask(channel, "Nothing"))

    assert grpc.StatusCode.UNIMPLEMENTED is code


async def test_a_generic_handler_is_asked_by_path() -> None:
    class Generic(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, handler_call_details: Any) -> Any:
            if handler_call_details.method == f"/{SERVICE}/Found":
                return grpc.unary_unary_rpc_method_handler(echo)
            return None

    async with calling(mount=lambda server: server.add_generic_rpc_handlers((Generic(),))) as channel:
        assert b"here" == await ask(channel, "Found", b"here")
        assert grpc.StatusCode.UNIMPLEMENTED is (await refused(ask(channel, "Lost")))[0]


async def test_a_plain_wrapper_around_a_coroutine_function_works() -> None:
    def wrapped(request: bytes, context: Any) -> Any:
        return echo(request, context)

    def wrapped_stream(request: bytes, context: Any) -> Any:
        return count(request, context)

    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(wrapped),
        "Count": grpc.unary_stream_rpc_method_handler(wrapped_stream),
    }
    async with calling(handlers) as channel:
        assert b"w" == await ask(channel, "Echo", b"w")
        replies = channel.unary_stream(f"/{SERVICE}/Count")(b"2")
        assert [b"0", b"1"] == [message async for message in replies]
