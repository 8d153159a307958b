"""gRPC's interop cases: grpcio's client against every server (grpc's doc/interop-test-descriptions.md)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import SimpleNamespace

# The suite's own numbers.
LARGE_REQUEST, LARGE_RESPONSE = 271_828, 314_159
REQUEST_SIZES = (27_182, 8, 1_828, 45_904)
RESPONSE_SIZES = (31_415, 9, 2_653, 58_979)
SPECIAL_MESSAGE = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
SOAK_CALLS = 500
# Nothing here waits that long unless the server is broken.
PATIENCE_S = 20.0
FOR_EVER_US = 2_000_000_000


@pytest.fixture
async def channel(server: str) -> AsyncIterator[grpc.aio.Channel]:
    target = server.replace("unix://", "unix:")
    async with grpc.aio.insecure_channel(target) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel, pb: SimpleNamespace) -> Any:
    return pb.TestServiceStub(channel)


async def until_running(stub: Any, pb: SimpleNamespace, count: int) -> None:
    """Wait until the server says that so many streaming handlers run."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            trailers = dict(await stub.EmptyCall(pb.Empty(), timeout=PATIENCE_S).trailing_metadata())
            if count == int(trailers["x-running-handlers"]):
                return
            await asyncio.sleep(0.01)


async def test_empty_unary(stub: Any, pb: SimpleNamespace) -> None:
    assert pb.Empty() == await stub.EmptyCall(pb.Empty(), timeout=PATIENCE_S)


async def test_large_unary(stub: Any, pb: SimpleNamespace) -> None:
    request = pb.SimpleRequest(response_size=LARGE_RESPONSE, payload=pb.Payload(body=bytes(LARGE_REQUEST)))

    response = await stub.UnaryCall(request, timeout=PATIENCE_S)

    assert bytes(LARGE_RESPONSE) == response.payload.body


async def test_client_compressed_unary(stub: Any, pb: SimpleNamespace) -> None:
    request = pb.SimpleRequest(response_size=LARGE_RESPONSE, payload=pb.Payload(body=bytes(LARGE_REQUEST)))

    for compression in (grpc.Compression.Gzip, grpc.Compression.NoCompression):
        response = await stub.UnaryCall(request, compression=compression, timeout=PATIENCE_S)
        assert bytes(LARGE_RESPONSE) == response.payload.body


async def test_server_compressed_unary(stub: Any, pb: SimpleNamespace) -> None:
    for compressed in (True, False):
        wanted = pb.BoolValue(value=compressed)
        request = pb.SimpleRequest(response_size=LARGE_RESPONSE, response_compressed=wanted)
        response = await stub.UnaryCall(request, timeout=PATIENCE_S)
        assert bytes(LARGE_RESPONSE) == response.payload.body


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip], ids=["plain", "compressed"])
async def test_client_streaming(stub: Any, pb: SimpleNamespace, compression: Any) -> None:
    requests = [pb.StreamingInputCallRequest(payload=pb.Payload(body=bytes(n))) for n in REQUEST_SIZES]

    response = await stub.StreamingInputCall(iter(requests), compression=compression, timeout=PATIENCE_S)

    assert sum(REQUEST_SIZES) == response.aggregated_payload_size


async def test_server_streaming(stub: Any, pb: SimpleNamespace) -> None:
    parameters = [pb.ResponseParameters(size=size) for size in RESPONSE_SIZES]
    request = pb.StreamingOutputCallRequest(response_parameters=parameters)

    sizes = [len(r.payload.body) async for r in stub.StreamingOutputCall(request, timeout=PATIENCE_S)]

    assert list(RESPONSE_SIZES) == sizes


async def test_server_compressed_streaming(stub: Any, pb: SimpleNamespace) -> None:
    parameters = [
        pb.ResponseParameters(size=size, compressed=pb.BoolValue(value=compressed))
        for size, compressed in ((31_415, True), (92_653, False), (31_415, True))
    ]
    request = pb.StreamingOutputCallRequest(response_parameters=parameters)

    sizes = [len(r.payload.body) async for r in stub.StreamingOutputCall(request, timeout=PATIENCE_S)]

    assert [31_415, 92_653, 31_415] == sizes


async def test_ping_pong(stub: Any, pb: SimpleNamespace) -> None:
    call = stub.FullDuplexCall(timeout=PATIENCE_S)

    for request_size, response_size in zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True):
        await call.write(duplex_request(pb, request_size, response_size))
        response = await call.read()
        assert response_size == len(response.payload.body)
    await call.done_writing()

    assert grpc.aio.EOF == await call.read()
    assert grpc.StatusCode.OK == await call.code()


async def test_empty_stream(stub: Any) -> None:
    call = stub.FullDuplexCall(timeout=PATIENCE_S)

    await call.done_writing()

    assert [] == [response async for response in call]
    assert grpc.StatusCode.OK == await call.code()


async def test_half_duplex_answers_once_the_client_is_done(stub: Any, pb: SimpleNamespace) -> None:
    requests = [duplex_request(pb, 8, size) for size in RESPONSE_SIZES]

    sizes = [len(r.payload.body) async for r in stub.HalfDuplexCall(iter(requests), timeout=PATIENCE_S)]

    assert list(RESPONSE_SIZES) == sizes


async def test_custom_metadata_comes_back_on_unary(stub: Any, pb: SimpleNamespace) -> None:
    call = stub.UnaryCall(pb.SimpleRequest(response_size=1), metadata=custom_metadata(), timeout=PATIENCE_S)

    await call

    await assert_echoed(call)


async def test_custom_metadata_comes_back_on_a_stream(stub: Any, pb: SimpleNamespace) -> None:
    call = stub.FullDuplexCall(metadata=custom_metadata(), timeout=PATIENCE_S)

    await call.write(duplex_request(pb, 1, 1))
    await call.done_writing()
    async for _ in call:
        pass

    await assert_echoed(call)


@pytest.mark.parametrize("text", ["test status message", SPECIAL_MESSAGE], ids=["plain", "special"])
async def test_status_code_and_message_on_unary(stub: Any, pb: SimpleNamespace, text: str) -> None:
    request = pb.SimpleRequest(response_status=pb.EchoStatus(code=2, message=text))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.UnaryCall(request, timeout=PATIENCE_S)

    assert (grpc.StatusCode.UNKNOWN, text) == (caught.value.code(), caught.value.details())


@pytest.mark.parametrize("text", ["test status message", SPECIAL_MESSAGE], ids=["plain", "special"])
async def test_status_code_and_message_on_a_stream(stub: Any, pb: SimpleNamespace, text: str) -> None:
    call = stub.FullDuplexCall(timeout=PATIENCE_S)

    await call.write(pb.StreamingOutputCallRequest(response_status=pb.EchoStatus(code=2, message=text)))
    await call.done_writing()

    assert grpc.StatusCode.UNKNOWN == await call.code()
    assert text == await call.details()


async def test_unimplemented_method(stub: Any, pb: SimpleNamespace) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.UnimplementedCall(pb.Empty(), timeout=PATIENCE_S)

    assert grpc.StatusCode.UNIMPLEMENTED == caught.value.code()


async def test_unimplemented_service(channel: grpc.aio.Channel, pb: SimpleNamespace) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pb.UnimplementedServiceStub(channel).UnimplementedCall(pb.Empty(), timeout=PATIENCE_S)

    assert grpc.StatusCode.UNIMPLEMENTED == caught.value.code()


async def test_cancel_after_begin_ends_the_handler(stub: Any, pb: SimpleNamespace) -> None:
    call = stub.StreamingInputCall(timeout=PATIENCE_S)
    # Written, so that the call is on its way: one that never left needs no cancelling.
    await call.write(pb.StreamingInputCallRequest(payload=pb.Payload(body=bytes(8))))
    await until_running(stub, pb, 1)

    assert call.cancel()

    assert grpc.StatusCode.CANCELLED == await call.code()
    await until_running(stub, pb, 0)


async def test_cancel_after_first_response_ends_the_handler(stub: Any, pb: SimpleNamespace) -> None:
    call = stub.FullDuplexCall(timeout=PATIENCE_S)
    await call.write(duplex_request(pb, REQUEST_SIZES[0], RESPONSE_SIZES[0]))
    assert RESPONSE_SIZES[0] == len((await call.read()).payload.body)

    assert call.cancel()

    assert grpc.StatusCode.CANCELLED == await call.code()
    await until_running(stub, pb, 0)


async def test_timeout_on_sleeping_server_ends_the_handler(stub: Any, pb: SimpleNamespace) -> None:
    # The suite waits 1 ms; here the call reaches its handler first, so that there is something to end.
    call = stub.FullDuplexCall(timeout=0.5)
    asleep = pb.ResponseParameters(size=1, interval_us=FOR_EVER_US)
    await call.write(pb.StreamingOutputCallRequest(response_parameters=[asleep]))
    await until_running(stub, pb, 1)

    assert grpc.StatusCode.DEADLINE_EXCEEDED == await call.code()
    await until_running(stub, pb, 0)


async def test_timeout_before_the_server_can_answer(stub: Any, pb: SimpleNamespace) -> None:
    call = stub.FullDuplexCall(timeout=0.001)

    assert grpc.StatusCode.DEADLINE_EXCEEDED == await call.code()
    await until_running(stub, pb, 0)


async def test_rpc_soak(stub: Any, pb: SimpleNamespace) -> None:
    request = pb.SimpleRequest(response_size=LARGE_RESPONSE, payload=pb.Payload(body=bytes(1000)))
    numbers = iter(range(SOAK_CALLS))

    async def sender() -> int:
        total = 0
        for _ in numbers:
            total += len((await stub.UnaryCall(request, timeout=PATIENCE_S)).payload.body)
        return total

    totals = await asyncio.gather(*(sender() for _ in range(16)))

    assert SOAK_CALLS * LARGE_RESPONSE == sum(totals)


async def test_channel_soak(server: str, pb: SimpleNamespace) -> None:
    for number in range(20):
        # Channels with equal arguments would share one connection.
        options = [("grpc.use_local_subchannel_pool", 1), ("test.number", number)]
        async with grpc.aio.insecure_channel(server.replace("unix://", "unix:"), options) as channel:
            response = await pb.TestServiceStub(channel).UnaryCall(
                pb.SimpleRequest(response_size=100), timeout=PATIENCE_S
            )
            assert 100 == len(response.payload.body)


def duplex_request(pb: SimpleNamespace, size: int, response_size: int) -> Any:
    return pb.StreamingOutputCallRequest(
        response_parameters=[pb.ResponseParameters(size=response_size)],
        payload=pb.Payload(body=bytes(size)),
    )


def custom_metadata() -> tuple[tuple[str, str | bytes], ...]:
    return (
        ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
        ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"),
    )


async def assert_echoed(call: Any) -> None:
    initial, trailing = dict(await call.initial_metadata()), dict(await call.trailing_metadata())
    assert "test_initial_metadata_value" == initial["x-grpc-test-echo-initial"]
    assert b"\xab\xab\xab" == trailing["x-grpc-test-echo-trailing-bin"]
    assert grpc.StatusCode.OK == await call.code()
