"""Contexts as generated servicers use them: metadata, status, deadlines, cancellation, compression."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from support.lean import SERVICE, ask, calling, refused, serving, until

from sentinel_ext.server.calls import RpcError
from sentinel_ext.server.handlers import inline
from sentinel_ext.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

unary = grpc.unary_unary_rpc_method_handler


# Metadata.


async def test_metadata_goes_both_ways_binary_values_too() -> None:
    async def mirror(_request: bytes, context: Any) -> bytes:
        pairs = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
        await context.send_initial_metadata(pairs)
        context.set_trailing_metadata((("x-last", "1"), ("x-last-bin", b"\x00\xff")))
        assert context.trailing_metadata() == (("x-last", "1"), ("x-last-bin", b"\x00\xff"))
        return context.invocation_metadata()[0].key.encode()

    sent = (("x-a", "1"), ("x-a", "2"), ("x-raw-bin", bytes(range(256))))
    async with calling({"Mirror": unary(mirror)}) as channel:
        call = channel.unary_unary(f"/{SERVICE}/Mirror")(b"", metadata=sent)

        assert await call
        assert sent == tuple(await call.initial_metadata())
        assert (("x-last", "1"), ("x-last-bin", b"\x00\xff")) == tuple(await call.trailing_metadata())


@pytest.mark.parametrize("bad", [("Upper", "x"), ("grpc-x", "x"), ("x", "a\nb"), ("x-bin", "text")])
async def test_metadata_that_cannot_be_sent_fails_where_it_is_given(bad: tuple[str, str]) -> None:
    async def handler(_request: bytes, context: Any) -> bytes:
        with pytest.raises(ValueError, match="metadata"):
            context.set_trailing_metadata((bad,))
        with pytest.raises(ValueError, match="metadata"):
            await context.send_initial_metadata((bad,))
        return b"still fine"

    async with calling({"Bad": unary(handler)}) as channel:
        assert b"still fine" == await ask(channel, "Bad")


# Status.


async def abort(_request: bytes, context: Any) -> bytes:
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not nöw\n", (("x-why", "because"),))
    return b"unreachable"


def abort_in_a_thread(_request: bytes, context: Any) -> bytes:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not nöw\n", (("x-why", "because"),))
    return b"unreachable"


async def abort_and_swallow(_request: bytes, context: Any) -> bytes:
    try:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not nöw\n", (("x-why", "because"),))
    except Exception:  # noqa: BLE001
        context.set_code(grpc.StatusCode.OK)
        context.set_details("all is well")
    return b"a reply"


@pytest.mark.parametrize("handler", [abort, abort_in_a_thread, inline(abort_in_a_thread), abort_and_swallow])
async def test_abort_ends_the_call_whatever_the_handler_does_then(handler: Any) -> None:
    async with calling({"Abort": unary(handler)}) as channel:
        call = channel.unary_unary(f"/{SERVICE}/Abort")(b"")

        assert (grpc.StatusCode.FAILED_PRECONDITION, "not nöw\n") == await refused(call)
        assert (("x-why", "because"),) == tuple(await call.trailing_metadata())


async def test_abort_in_the_middle_of_a_stream_comes_after_what_was_sent() -> None:
    async def stream(_request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"one"
        await context.abort(grpc.StatusCode.DATA_LOSS, "gone")

    async with calling({"Stream": grpc.unary_stream_rpc_method_handler(stream)}) as channel:
        call = channel.unary_stream(f"/{SERVICE}/Stream")(b"")

        assert b"one" == await call.read()
        assert (grpc.StatusCode.DATA_LOSS, "gone") == await refused(call.read())


async def test_nothing_is_sent_after_an_abort_that_was_swallowed() -> None:
    async def stream(_request: bytes, context: Any) -> AsyncIterator[bytes]:
        with suppress(Exception):
            await context.abort(grpc.StatusCode.ABORTED, "as told")
        yield b"too late"

    async def writes(_request: bytes, context: Any) -> None:
        with suppress(Exception):
            await context.abort(grpc.StatusCode.ABORTED, "as told")
        await context.write(b"too late")

    for handler in (stream, writes):
        async with calling({"Stream": grpc.unary_stream_rpc_method_handler(handler)}) as channel:
            call = channel.unary_stream(f"/{SERVICE}/Stream")(b"")
            assert (grpc.StatusCode.ABORTED, "as told") == await refused(call.read())


async def test_abort_with_status_carries_details() -> None:
    class Refusal(grpc.Status):  # type: ignore[misc]
        code = grpc.StatusCode.NOT_FOUND
        details = "no such thing"
        trailing_metadata = (("grpc-status-details-bin", b"\x08\x05"), ("x-also", "1"))

    async def handler(_request: bytes, context: Any) -> bytes:
        await context.abort_with_status(Refusal())
        return b""

    async with calling({"Abort": unary(handler)}) as channel:
        call = channel.unary_unary(f"/{SERVICE}/Abort")(b"")

        assert (grpc.StatusCode.NOT_FOUND, "no such thing") == await refused(call)
        assert {("grpc-status-details-bin", b"\x08\x05"), ("x-also", "1")} == set(
            await call.trailing_metadata()
        )


async def test_a_status_that_was_set_replaces_the_reply() -> None:
    async def handler(_request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.ALREADY_EXISTS)
        context.set_details("there it is")
        assert grpc.StatusCode.ALREADY_EXISTS is context.code()
        assert context.details() == "there it is"
        return b"ignored"

    async with calling({"Set": unary(handler)}) as channel:
        assert (grpc.StatusCode.ALREADY_EXISTS, "there it is") == await refused(ask(channel, "Set"))


async def test_an_exception_is_unknown_and_its_text_stays_here(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(_request: bytes, _context: Any) -> bytes:
        raise KeyError("s3cret")

    with caplog.at_level(logging.ERROR, "sentinel.wire"):
        async with calling({"Fail": unary(handler)}) as channel:
            statuses = [await refused(ask(channel, "Fail")) for _ in range(5)]

    assert {(grpc.StatusCode.UNKNOWN, "internal error")} == set(statuses)
    (record,) = caplog.records
    assert "KeyError" == record.__dict__["reason"]
    assert f"/{SERVICE}/Fail" == record.__dict__["path"]


async def test_our_own_error_names_its_status() -> None:
    async def handler(_request: bytes, _context: Any) -> bytes:
        raise RpcError(Status.UNAVAILABLE, "try again")

    async with calling({"Fail": unary(handler)}) as channel:
        assert (grpc.StatusCode.UNAVAILABLE, "try again") == await refused(ask(channel, "Fail"))


@pytest.mark.parametrize("direction", ["request_deserializer", "response_serializer"])
async def test_a_message_that_does_not_convert_is_internal(direction: str) -> None:
    def refuse(_message: Any) -> bytes:
        raise TypeError("not mine")

    async def echo(request: bytes, _context: Any) -> bytes:
        return request

    async with calling({"Echo": unary(echo, **{direction: refuse})}) as channel:
        code, _ = await refused(ask(channel, "Echo"))

    assert grpc.StatusCode.INTERNAL is code


async def test_not_implemented_with_a_code_keeps_the_code() -> None:
    def handler(_request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        context.set_details("Method not implemented!")
        raise NotImplementedError("Method not implemented!")

    async with calling({"Stub": unary(handler)}) as channel:
        assert (grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!") == await refused(
            ask(channel, "Stub")
        )


# Deadlines and cancellation.


async def test_a_deadline_cancels_the_handler_once_and_frees_its_slot() -> None:
    """The client's own clock would end the call, too, so the server's side is what is looked at."""
    ended: list[tuple[bool, bool]] = []
    left: list[float] = []

    async def sleep(_request: bytes, context: Any) -> bytes:
        left.append(context.time_remaining())
        context.add_done_callback(lambda it: ended.append((it.cancelled(), it.done())))
        await asyncio.Event().wait()
        return b""

    async with (
        serving({"Sleep": unary(sleep)}) as (server, where),
        grpc.aio.insecure_channel(where) as channel,
    ):
        await channel.channel_ready()  # connecting takes its time, too
        code, _ = await refused(ask(channel, "Sleep", timeout=0.05))
        await until(lambda: bool(ended) and server.in_flight == 0)

        assert grpc.StatusCode.DEADLINE_EXCEEDED is code
        assert [(True, True)] == ended
        assert 0 < left[0] < 0.1


async def test_without_a_deadline_nothing_remains_to_tell() -> None:
    async def handler(_request: bytes, context: Any) -> bytes:
        return repr(context.time_remaining()).encode()

    async with calling({"Ask": unary(handler)}) as channel:
        assert b"None" == await channel.unary_unary(f"/{SERVICE}/Ask")(b"")


async def test_a_client_that_hangs_up_cancels_the_handler() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def sleep(_request: bytes, context: Any) -> bytes:
        assert context.is_active()
        assert context.add_callback(ended.set)
        begun.set()
        await asyncio.Event().wait()
        return b""

    async with (
        serving({"Sleep": unary(sleep)}) as (server, where),
        grpc.aio.insecure_channel(where) as channel,
    ):
        call = channel.unary_unary(f"/{SERVICE}/Sleep")(b"")
        await begun.wait()
        assert 1 == server.in_flight
        call.cancel()
        await ended.wait()
        await until(lambda: server.in_flight == 0)


async def test_a_lost_connection_cancels_what_runs_on_it() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait(requests: Any, context: Any) -> AsyncIterator[bytes]:
        context.add_callback(ended.set)
        begun.set()
        async for message in requests:
            yield message

    async with serving({"Wait": grpc.stream_stream_rpc_method_handler(wait)}) as (server, where):
        async with grpc.aio.insecure_channel(where) as channel:
            call = channel.stream_stream(f"/{SERVICE}/Wait")()
            await call.write(b"x")
            await begun.wait()
        del call, channel  # grpcio keeps the connection as long as anything refers to it
        await ended.wait()
        await until(lambda: server.in_flight == 0 and server.connections == 0)


async def test_a_cancelled_thread_counts_as_in_flight_until_it_returns() -> None:
    go_on, begun, ended = threading.Event(), asyncio.Event(), asyncio.Event()
    seen: list[bool] = []
    loop = asyncio.get_running_loop()

    def block(_request: bytes, context: Any) -> bytes:
        context.add_callback(ended.set)
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(10)
        seen.append(context.is_active())
        return b"too late"

    async with (
        serving({"Block": unary(block)}) as (server, where),
        grpc.aio.insecure_channel(where) as channel,
    ):
        call = channel.unary_unary(f"/{SERVICE}/Block")(b"", timeout=10)
        await begun.wait()
        call.cancel()
        await ended.wait()
        assert 1 == server.in_flight
        go_on.set()
        await until(lambda: server.in_flight == 0)

    assert [False] == seen


async def test_a_thread_that_streams_learns_that_its_client_is_gone() -> None:
    outcome: list[str] = []

    def flood(_request: bytes, _context: Any) -> Iterator[bytes]:
        try:
            while True:
                yield bytes(10_000)
        finally:
            outcome.append("closed")

    async with (
        serving({"Flood": grpc.unary_stream_rpc_method_handler(flood)}) as (server, where),
        grpc.aio.insecure_channel(where) as channel,
    ):
        call = channel.unary_stream(f"/{SERVICE}/Flood")(b"")
        await call.read()
        call.cancel()
        await until(lambda: server.in_flight == 0)

    assert ["closed"] == outcome


# Compression.


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_compressed_messages_pass_both_ways(compression: grpc.Compression) -> None:
    async def echo(request: bytes, context: Any) -> bytes:
        context.set_compression(compression)
        return request

    async def repeat(request: bytes, context: Any) -> AsyncIterator[bytes]:
        context.set_compression(compression)
        yield request
        context.disable_next_message_compression()
        yield request

    handlers = {"Echo": unary(echo), "Repeat": grpc.unary_stream_rpc_method_handler(repeat)}
    message = b"abc" * 100_000
    async with (
        serving(handlers) as (_, where),
        grpc.aio.insecure_channel(where, compression=grpc.Compression.Gzip) as channel,
    ):
        call = channel.unary_unary(f"/{SERVICE}/Echo")(message)
        assert message == await call
        replies = channel.unary_stream(f"/{SERVICE}/Repeat")(message)
        assert [message, message] == [reply async for reply in replies]
