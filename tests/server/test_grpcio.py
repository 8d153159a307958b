"""The grpcio server as a real grpcio client sees it: answers, health, reflection, cancellation, the end."""

from __future__ import annotations

import asyncio
import socket
import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Never

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from support.build import free_tcp_port, make_engine, make_plan, make_policy
from support.fakes import FakeClock, ScriptedStore
from support.stores import START_US, until

from sentinel_ext.address import Address
from sentinel_ext.errors import AddressInUseError, StartError
from sentinel_ext.server.grpcio import LIVENESS, MAX_REQUEST_BYTES, GrpcioServer
from sentinel_ext.services.authorization import SERVICE, Authorization
from sentinel_ext.services.registry import Cancellable, Unary
from sentinel_ext.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from sentinel_ext.engine import Engine

CHECK = f"/{SERVICE}/Check"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
BURST, SLOT = 20, 7
MAX_TENANTS = 1_000


def check_request(tenant: str = "acme", **headers: str) -> bytes:
    request = external_auth_pb2.CheckRequest()
    request.attributes.request.http.headers.update({"x-tenant-id": tenant, **headers})
    return request.SerializeToString()


def outcome(answer: bytes) -> str | None:
    return external_auth_pb2.CheckResponse.FromString(answer).WhichOneof("http_response")


@asynccontextmanager
async def serving(methods: Sequence[Unary], address: Address | None = None) -> AsyncIterator[GrpcioServer]:
    server = GrpcioServer(address or Address("127.0.0.1", free_tcp_port()), methods)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0)


@asynccontextmanager
async def channel_to(server: GrpcioServer) -> AsyncIterator[grpc.aio.Channel]:
    address = server._address
    target = f"unix:{address.path}" if address.is_unix else str(address)
    # Channels of one process share connections otherwise, and a stopped server's would be tried again.
    async with grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


def call(channel: grpc.aio.Channel, data: bytes, path: str = CHECK, timeout_s: float = 10.0) -> Any:
    """Call with bytes as they are."""
    return channel.unary_unary(path)(data, timeout=timeout_s, wait_for_ready=True)


class House:
    """The real service and engine; the store is the test's."""

    def __init__(self, store: Any, **plan: Any) -> None:
        self.store = store
        self.faults: list[Exception] = []
        policy = make_policy(make_plan(burst=BURST, **plan))
        self.engine: Engine = make_engine(store, FakeClock(), policy, max_tenants=MAX_TENANTS)
        self.methods = Authorization(self.engine.decide, self.faults.append).methods()

    @property
    def tokens(self) -> int:
        bucket = self.engine._tenants.get("acme", 0).bucket
        assert bucket is not None
        return bucket.tokens


@asynccontextmanager
async def open_house(house: House) -> AsyncIterator[House]:
    await house.engine.batcher.start()
    try:
        yield house
    finally:
        await house.engine.batcher.close()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house(House(MemoryStore(lambda: START_US))) as house:
        yield house


@pytest.fixture
async def held() -> AsyncIterator[House]:
    """A house whose store answers when the test says so."""
    async with open_house(House(ScriptedStore())) as house:
        yield house


@pytest.fixture
async def server(house: House) -> AsyncIterator[GrpcioServer]:
    async with serving(house.methods) as server:
        yield server


@pytest.fixture
async def channel(server: GrpcioServer) -> AsyncIterator[grpc.aio.Channel]:
    async with channel_to(server) as channel:
        yield channel


async def status_of(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def health(channel: grpc.aio.Channel, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
    return int(answer.status)


# --- Checks ---


async def test_a_check_is_answered(channel):
    assert "ok_response" == outcome(await call(channel, check_request()))


async def test_a_refusal_is_an_ok_call(channel):
    answers = [outcome(await call(channel, check_request())) for _ in range(BURST + 1)]

    assert ["ok_response"] * BURST + ["denied_response"] == answers


async def test_an_answer_that_comes_later_is_sent(held):
    async with serving(held.methods) as server, channel_to(server) as channel:
        waiting = call(channel, check_request())
        (await held.store.next_call()).grant()

        assert "ok_response" == outcome(await waiting)


@pytest.mark.parametrize("data", [b"\xff", b"GET / HTTP/1.1", b"\x0a\x05abc"])
async def test_garbage_is_internal_and_the_next_call_is_served(channel, data):
    code, details = await status_of(call(channel, data))

    assert grpc.StatusCode.INTERNAL == code
    assert "the request is not an envoy.service.auth.v3.CheckRequest" == details
    assert "ok_response" == outcome(await call(channel, check_request()))


async def test_an_empty_message_is_a_check_of_nobody(channel):
    assert "ok_response" == outcome(await call(channel, b""))


@pytest.mark.parametrize("path", [f"/{SERVICE}/Other", "/other.Service/Check"])
async def test_what_is_not_mounted_is_unimplemented(channel, path):
    code, _ = await status_of(call(channel, check_request(), path))

    assert grpc.StatusCode.UNIMPLEMENTED == code


async def test_a_request_beyond_the_bound_is_refused_and_one_at_it_is_not(channel):
    assert "ok_response" == outcome(
        await call(channel, check_request(filler="x" * (MAX_REQUEST_BYTES - 100)))
    )

    code, _ = await status_of(call(channel, check_request(filler="x" * MAX_REQUEST_BYTES)))

    assert grpc.StatusCode.RESOURCE_EXHAUSTED == code
    assert "ok_response" == outcome(await call(channel, check_request()))


async def test_a_fault_of_our_own_is_an_answer_and_not_a_failed_call():
    def broken(*_: object) -> Never:
        raise ZeroDivisionError("a bug of ours")

    faults: list[Exception] = []
    async with (
        serving(Authorization(broken, faults.append).methods()) as server,
        channel_to(server) as channel,
    ):
        assert "error_response" == outcome(await call(channel, check_request()))
    assert [ZeroDivisionError] == [type(fault) for fault in faults]


async def test_ten_thousand_tenants_are_answered_and_only_the_bound_is_remembered(house, channel):
    answered = 0
    for start in range(0, 10_000, 500):
        calls = [
            call(channel, check_request(f"tenant-{start + number}"), timeout_s=60) for number in range(500)
        ]
        answered += sum("ok_response" == outcome(answer) for answer in await asyncio.gather(*calls))

    assert 10_000 == answered
    assert MAX_TENANTS == len(house.engine._tenants)
    assert 10_000 - MAX_TENANTS == house.engine._tenants.evicted
    assert [] == house.faults


# --- The caller gives up ---


async def give_up_by_cancelling(channel: grpc.aio.Channel, reached: Callable[[], Any]) -> Any:
    waiting = call(channel, check_request())
    task = asyncio.ensure_future(status_of(waiting))
    held_call = await reached()
    waiting.cancel()
    task.cancel()
    return held_call


async def give_up_by_deadline(channel: grpc.aio.Channel, reached: Callable[[], Any]) -> Any:
    waiting = asyncio.ensure_future(status_of(call(channel, check_request(), timeout_s=0.3)))
    held_call = await reached()
    assert grpc.StatusCode.DEADLINE_EXCEEDED == (await waiting)[0]
    return held_call


@pytest.mark.parametrize("give_up", [give_up_by_cancelling, give_up_by_deadline])
async def test_who_gives_up_pays_nothing(held, give_up):
    async with serving(held.methods) as server, channel_to(server) as channel:
        held_call = await give_up(channel, held.store.next_call)
        await until(lambda: held.engine.cancelled == 1)
        assert BURST == held.tokens

        held_call.grant(slot=SLOT)

        assert SLOT == (await asyncio.wait_for(held.store.next_refund(), 10)).slot
        assert (BURST, 1) == (held.tokens, held.engine.cancelled)


async def test_a_connection_that_breaks_gives_up_all_its_checks(held):
    async with serving(held.methods) as server:
        async with channel_to(server) as channel:
            waiting = [asyncio.ensure_future(status_of(call(channel, check_request()))) for _ in range(5)]
            await until(lambda: BURST - 5 == held.tokens)
        for task in waiting:
            task.cancel()
        await until(lambda: held.engine.cancelled == 5)

    assert BURST == held.tokens


async def test_a_reply_after_the_end_of_a_call_says_that_it_was_not_sent():
    replies: list[Callable[[bytes], bool]] = []
    cancelled = asyncio.Event()

    class Waiting:
        def cancel(self) -> None:
            cancelled.set()

    def handle(_request: Any, reply: Callable[[bytes], bool]) -> Cancellable:
        replies.append(reply)
        return Waiting()

    async with (
        serving([Unary("test.Service", "Wait", bytes, handle)]) as server,
        channel_to(server) as channel,
    ):
        await status_of(call(channel, b"", "/test.Service/Wait", timeout_s=0.3))
        await asyncio.wait_for(cancelled.wait(), 10)
        assert replies[0](b"late") is False

        second = asyncio.ensure_future(call(channel, b"", "/test.Service/Wait"))
        await until(lambda: len(replies) == 2)
        assert replies[1](b"first") is True
        assert replies[1](b"second") is False
        assert b"first" == await second


# --- Health ---


@pytest.mark.parametrize("service", ["", SERVICE, LIVENESS])
async def test_a_server_that_started_is_serving(channel, service):
    assert SERVING == await health(channel, service)


async def test_an_unknown_service_has_no_health(channel):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health(channel, "other.Service")

    assert grpc.StatusCode.NOT_FOUND == caught.value.code()


async def test_refusing_new_ones_is_told_and_checks_are_still_answered(server, channel):
    await server.refuse_new()

    assert [NOT_SERVING] * 2 == [await health(channel, service) for service in ("", SERVICE)]
    assert SERVING == await health(channel, LIVENESS), "an orchestrator must not kill it while it drains"
    assert "ok_response" == outcome(await call(channel, check_request()))


async def test_whoever_watches_hears_of_the_drain_at_once(server, channel):
    watch = health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(service=SERVICE), timeout=10
    )
    assert SERVING == (await watch.read()).status

    await server.refuse_new()

    assert NOT_SERVING == (await watch.read()).status
    watch.cancel()


# --- Reflection ---


async def reflect(channel: grpc.aio.Channel, version: str, **request: Any) -> Any:
    """Ask by raw path: the messages of v1 and v1alpha are the same but for their name."""
    stream = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(timeout=10)
    await stream.write(reflection_pb2.ServerReflectionRequest(**request))
    answer = await stream.read()
    await stream.done_writing()
    assert grpc.StatusCode.OK == await stream.code()
    return answer


versions = pytest.mark.parametrize("version", ["v1", "v1alpha"])


@versions
async def test_reflection_lists_what_is_mounted(channel, version):
    answer = await reflect(channel, version, list_services="")

    assert {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    } == {service.name for service in answer.list_services_response.service}


@versions
async def test_reflection_describes_the_service(channel, version):
    answer = await reflect(channel, version, file_containing_symbol=SERVICE)

    files = answer.file_descriptor_response.file_descriptor_proto
    assert any(b"CheckRequest" in data and b"Authorization" in data for data in files)


@versions
async def test_reflection_of_what_is_not_there_is_an_answer(channel, version):
    answer = await reflect(channel, version, file_containing_symbol="other.Service")

    assert grpc.StatusCode.NOT_FOUND.value[0] == answer.error_response.error_code


# --- Where it listens ---


async def test_a_unix_socket_is_for_its_group_and_goes_with_the_server(house, short_folder: Path):
    path = short_folder / "s.sock"
    async with serving(house.methods, Address(path=str(path))) as server, channel_to(server) as channel:
        assert 0o660 == stat.S_IMODE(path.stat().st_mode)
        assert "ok_response" == outcome(await call(channel, check_request()))

    assert not path.exists()


async def test_a_stale_socket_is_taken_over(house, short_folder: Path):
    path = short_folder / "s.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))

    async with serving(house.methods, Address(path=str(path))) as server, channel_to(server) as channel:
        assert "ok_response" == outcome(await call(channel, check_request()))


async def test_a_live_socket_is_left_to_its_owner(house, short_folder: Path):
    address = Address(path=str(short_folder / "s.sock"))
    async with serving(house.methods, address) as server, channel_to(server) as channel:
        with pytest.raises(AddressInUseError, match="GRPC_ADDRESS: cannot listen on unix:"):
            await GrpcioServer(address, house.methods).start()

        assert "ok_response" == outcome(await call(channel, check_request()))


async def test_a_live_port_is_named_by_its_setting(house, server):
    with pytest.raises(AddressInUseError, match=f"DEBUG_GRPC_ADDRESS: cannot listen on {server._address}"):
        await GrpcioServer(server._address, house.methods, "DEBUG_GRPC_ADDRESS").start()


async def test_a_live_port_cannot_be_shared(server):
    """SO_REUSEPORT, grpc's default, would give whoever asks for the same port half of the calls."""
    with socket.socket() as second:
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            second.bind((server._address.host, server._address.port))


async def test_a_missing_folder_is_a_start_that_failed(house, short_folder: Path):
    with pytest.raises(StartError, match="does not exist"):
        await GrpcioServer(Address(path=f"{short_folder}/no/s.sock"), house.methods).start()


async def test_after_its_end_the_port_is_free_for_the_next(house):
    address = Address("127.0.0.1", free_tcp_port())
    for _ in range(2):
        async with serving(house.methods, address) as server, channel_to(server) as channel:
            assert "ok_response" == outcome(await call(channel, check_request()))


# --- The end ---


async def test_a_call_under_way_is_finished_within_the_grace(held):
    server = GrpcioServer(Address("127.0.0.1", free_tcp_port()), held.methods)
    await server.start()
    async with channel_to(server) as channel:
        waiting = asyncio.ensure_future(call(channel, check_request()))
        store_call = await held.store.next_call()

        stopping = asyncio.ensure_future(server.stop(10))
        await asyncio.sleep(0)
        store_call.grant()

        assert "ok_response" == outcome(await waiting)
        await asyncio.wait_for(stopping, 10)


async def test_a_call_that_outlives_the_grace_is_ended_and_given_back(held):
    server = GrpcioServer(Address("127.0.0.1", free_tcp_port()), held.methods)
    await server.start()
    async with channel_to(server) as channel:
        waiting = asyncio.ensure_future(status_of(call(channel, check_request())))
        await held.store.next_call()

        await asyncio.wait_for(server.stop(0), 10)

        assert (await waiting)[0] in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        await until(lambda: held.engine.cancelled == 1)
    assert BURST == held.tokens
