"""How the lean server begins, whom it lets in, and how it ends without losing a call."""

from __future__ import annotations

import asyncio
import gc
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from support.lean import PATIENCE_S, SERVICE, Client, ask, calling, local, refused, serving, until

from sentinel_ext.address import Address
from sentinel_ext.errors import AddressInUseError, StartError
from sentinel_ext.server import listen
from sentinel_ext.server.calls import PENDING, Call, HotUnary
from sentinel_ext.server.lean import LeanServer
from sentinel_ext.services.registry import HotStream, OpenStream, StreamKind
from sentinel_ext.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ECHO = HotUnary(SERVICE, "Echo", lambda data, _call: data)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


# Beginning.


async def test_a_unix_socket_serves_is_closed_to_others_and_goes_away(short_folder: Path) -> None:
    async def who(_request: bytes, context: Any) -> bytes:
        return str(context.peer()).encode()

    address = Address(path=str(short_folder / "s.sock"))
    async with calling({"Who": grpc.unary_unary_rpc_method_handler(who)}, address=address) as channel:
        assert b"unix:" == await ask(channel, "Who")
        assert 0o660 == stat.S_IMODE(Path(address.path).stat().st_mode)

    assert not Path(address.path).exists()


async def test_a_socket_file_nobody_listens_on_is_replaced(short_folder: Path) -> None:
    address = Address(path=str(short_folder / "s.sock"))
    with socket.socket(socket.AF_UNIX) as leftover:
        leftover.bind(address.path)

    async with calling(hot=(ECHO,), address=address) as channel:
        assert b"x" == await ask(channel, "Echo", b"x")


async def test_an_address_in_use_is_named_with_its_setting(short_folder: Path) -> None:
    for address in (local(), Address(path=str(short_folder / "s.sock"))):
        async with serving(hot=(ECHO,), address=address):
            with pytest.raises(AddressInUseError, match=f"MY_ADDRESS: cannot listen on {address}"):
                await LeanServer(address, "MY_ADDRESS").start()


async def test_an_address_that_is_not_ours_is_a_start_error() -> None:
    with pytest.raises(StartError, match=r"GRPC_ADDRESS: cannot listen on 192\.0\.2\.1:50051"):
        await LeanServer(Address("192.0.2.1", 50051)).start()


async def test_every_address_of_a_name_is_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` is 127.0.0.1 and ::1 on most machines, but not on all."""
    port = local().port
    infos = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", lambda *_arguments, **_named: infos)
        server = LeanServer(Address("both.test", port))
        server.add((ECHO,))
        await server.start()
    for host in ("127.0.0.1", "[::1]"):
        async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
            assert b"x" == await ask(channel, "Echo", b"x")
    await server.stop(0)


async def test_a_name_of_which_one_address_is_taken_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An unclosed socket would be a warning, and warnings are errors here."""
    port = local().port
    infos = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port)),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", lambda *_arguments, **_named: infos)
        patched.setattr(listen, "ensure_free", lambda *_arguments: None)
        with pytest.raises(StartError, match="GRPC_ADDRESS: cannot listen on both"):
            await LeanServer(Address("both.test", port)).start()
    gc.collect()

    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_accepted_sockets_send_at_once_and_notice_dead_peers() -> None:
    async with serving(hot=(ECHO,)) as (server, where), grpc.aio.insecure_channel(where) as channel:
        await ask(channel, "Echo")
        assert server._hub is not None
        (connection,) = server._hub.connections
        sock = connection._transport.get_extra_info("socket")

        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert 20_000 == sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


# Who gets in.


async def test_one_connection_too_many_is_closed_and_counted() -> None:
    tripped: list[str] = []
    address = local()
    async with serving(hot=(ECHO,), address=address, max_connections=2) as (server, where):
        server._hub.on_trip = tripped.append  # type: ignore[union-attr]
        async with grpc.aio.insecure_channel(where) as channel:
            await ask(channel, "Echo")
            second = Client(where)
            await until(lambda: server.connections == 2)
            third = Client(where)

            assert b"" == await third.read_all()
            assert {"connections": 1} == server.trips
            assert ["connections"] == tripped
            assert b"still" == await ask(channel, "Echo", b"still")
            second.close()
            third.close()
            await until(lambda: server.connections == 1)


async def test_what_is_not_http2_is_told_and_closed() -> None:
    async with serving(hot=(ECHO,)) as (server, where):
        client = Client(where)
        await client.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        said = await client.read_all()
        client.close()

        assert b"bad_preface" in said
        assert 1 == server.trips["bad_preface"]
        await until(lambda: server.connections == 0)


async def test_a_client_that_closes_one_direction_still_gets_its_answers() -> None:
    """A PING shows whether it still reads; a handler that never ends does not outlive a dead client."""
    later: list[Call] = []

    def handle(_data: bytes, call: Call) -> Any:
        later.append(call)
        return PENDING

    async with serving(hot=(HotUnary(SERVICE, "Hot", handle),)) as (server, where):
        client = Client(where)
        await client.write(request_bytes(f"/{SERVICE}/Hot"))
        await until(lambda: bool(later))
        client._sock.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.05)  # real sockets: let the end arrive
        assert 1 == server.connections
        assert later[0].reply(b"the answer")
        assert b"the answer" in await client.read_all()
        client.close()

        gone = Client(where)
        await gone.write(request_bytes(f"/{SERVICE}/Hot"))
        await until(lambda: len(later) == 2)
        gone.close()
        await until(lambda: server.connections == 0)
        assert later[1].cancelled


def request_bytes(path: str) -> bytes:
    """Preface, SETTINGS and one whole unary request with an empty message."""
    block = b"\x83\x86\x41\x01x" + b"\x04" + bytes([len(path)]) + path.encode()
    block += b"\x0f\x10\x10application/grpc"
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + bytes(3)
        + b"\x04\x00"
        + bytes(4)
        + len(block).to_bytes(3, "big")
        + b"\x01\x04\x00\x00\x00\x01"
        + block
        + b"\x00\x00\x05\x00\x01\x00\x00\x00\x01"
        + bytes(5)
    )


async def test_a_read_larger_than_a_turns_share_is_served_in_order() -> None:
    """Thousands of requests in one segment: all answered, over several turns."""
    seen: list[bytes] = []

    def handle(data: bytes, _call: Call) -> bytes:
        seen.append(data)
        return data

    async with serving(hot=(HotUnary(SERVICE, "Hot", handle),)) as (server, where):
        client = Client(where)
        first = request_bytes(f"/{SERVICE}/Hot")
        head = first[24 + 9 :]
        many = b"".join(
            head.replace(b"\x04\x00\x00\x00\x01", b"\x04" + number.to_bytes(4, "big")).replace(
                b"\x00\x01\x00\x00\x00\x01" + bytes(5), b"\x00\x01" + number.to_bytes(4, "big") + bytes(5)
            )
            for number in range(3, 6003, 2)
        )
        reading = asyncio.ensure_future(client.read_all())
        await client.write(first + many)
        await until(lambda: len(seen) == 3001)
        client.close()
        reading.cancel()
        await until(lambda: server.connections == 0)

        assert 3001 == server.calls


# Ending.


async def test_a_drain_loses_no_call() -> None:
    """Callers go on all the time, with a second server to go to, as a proxy has."""
    failures: list[object] = []
    answered = 0
    going = True

    async def slow_echo(request: bytes, _context: Any) -> bytes:
        await asyncio.sleep(0.01)
        return request

    handlers = {"Slow": grpc.unary_unary_rpc_method_handler(slow_echo)}

    async def call(channel: grpc.aio.Channel) -> None:
        nonlocal answered
        while going:
            try:
                await ask(channel, "Slow", b"x")
            except grpc.aio.AioRpcError as error:
                failures.append((error.code(), error.details()))
            answered += 1

    config = '{"loadBalancingConfig":[{"round_robin":{}}]}'
    async with serving(handlers) as (server, where), serving(handlers) as (other, elsewhere):
        both = f"ipv4:{where},{elsewhere}"
        async with grpc.aio.insecure_channel(both, (("grpc.service_config", config),)) as channel:
            callers = [asyncio.ensure_future(call(channel)) for _ in range(50)]
            await until(lambda: server.calls > 200 and other.calls > 200)
            before = answered
            await server.stop(3)
            assert server.connections == 0
            await until(lambda: answered > before + 500)
            going = False
            await asyncio.gather(*callers)

    assert [] == failures


async def test_stop_waits_for_running_calls_and_no_longer() -> None:
    later: list[Call] = []

    def handle(_data: bytes, call: Call) -> Any:
        later.append(call)
        return PENDING

    async with (
        serving(hot=(HotUnary(SERVICE, "Hot", handle),)) as (server, where),
        grpc.aio.insecure_channel(where) as channel,
    ):
        asked = asyncio.ensure_future(ask(channel, "Hot"))
        await until(lambda: bool(later))
        stopping = asyncio.ensure_future(server.stop(60))
        await asyncio.sleep(0.05)
        assert not stopping.done()
        later[0].reply(b"done")

        assert b"done" == await asked
        async with asyncio.timeout(PATIENCE_S):
            await stopping


async def test_at_half_the_grace_endless_streams_are_ended_with_unavailable() -> None:
    async def watch(_request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    handlers = {"Watch": grpc.unary_stream_rpc_method_handler(watch)}
    async with serving(handlers) as (server, where), grpc.aio.insecure_channel(where) as channel:
        call = channel.unary_stream(f"/{SERVICE}/Watch")(b"")
        await call.read()
        stopping = asyncio.ensure_future(server.stop(0.4))
        code, text = await refused(call.read())

        assert (grpc.StatusCode.UNAVAILABLE, "server is shutting down") == (code, text)
        await stopping


async def test_a_stream_that_minds_the_drain_ends_in_its_own_words() -> None:
    class Quota:
        def __init__(self, call: OpenStream) -> None:
            self.call = call

        def on_message(self, message: bytes) -> None:
            self.call.send(message)

        def on_half_close(self) -> None: ...

        def on_cancel(self) -> None: ...

        def on_writable(self) -> None: ...

        def on_drain(self) -> None:
            self.call.send(b"bye")
            self.call.finish(Status.OK)

    hot = (HotStream(SERVICE, "Quota", StreamKind.BIDI, Quota),)
    async with serving(hot=hot) as (server, where), grpc.aio.insecure_channel(where) as channel:
        call = channel.stream_stream(f"/{SERVICE}/Quota")()
        await call.write(b"hello")
        assert b"hello" == await call.read()
        stopping = asyncio.ensure_future(server.stop(60))

        assert b"bye" == await call.read()
        assert grpc.aio.EOF is await call.read()
        async with asyncio.timeout(PATIENCE_S):
            await stopping


async def test_a_handler_that_never_returns_does_not_hold_up_the_end() -> None:
    begun = asyncio.Event()

    async def stubborn(_request: bytes, _context: Any) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    handlers = {"Stubborn": grpc.unary_unary_rpc_method_handler(stubborn)}
    async with serving(handlers) as (server, where), grpc.aio.insecure_channel(where) as channel:
        asked = asyncio.ensure_future(refused(ask(channel, "Stubborn")))
        await begun.wait()
        await server.stop(0.1)

        assert grpc.StatusCode.UNAVAILABLE is (await asked)[0]
        assert 0 == server.in_flight


# Health and reflection.


async def test_health_is_there_and_says_not_serving_before_the_end() -> None:
    async with serving(hot=(ECHO,)) as (server, where), grpc.aio.insecure_channel(where) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        for name in ("", SERVICE, "liveness"):
            assert SERVING == (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status
        assert SERVING == (await watch.read()).status
        assert (
            grpc.StatusCode.NOT_FOUND
            is (await refused(stub.Check(health_pb2.HealthCheckRequest(service="no"))))[0]
        )
        assert grpc.StatusCode.UNIMPLEMENTED is (await refused(stub.List(health_pb2.HealthListRequest())))[0]

        await server.refuse_new()

        assert NOT_SERVING == (await watch.read()).status
        assert SERVING == (await stub.Check(health_pb2.HealthCheckRequest(service="liveness"))).status
        assert b"still" == await ask(channel, "Echo", b"still")
        watch.cancel()


async def test_an_end_without_notice_says_not_serving_before_it_cuts_the_watch() -> None:
    async with serving(hot=(ECHO,)) as (server, where), grpc.aio.insecure_channel(where) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert SERVING == (await watch.read()).status
        stopping = asyncio.ensure_future(server.stop(0.4))

        assert NOT_SERVING == (await watch.read()).status
        assert grpc.StatusCode.UNAVAILABLE is (await refused(watch.read()))[0]
        await stopping


async def test_the_blocking_health_servicer_mounts_and_watches() -> None:
    servicer = health.HealthServicer()
    servicer.set("shop", SERVING)

    def mount(server: LeanServer) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)

    async with serving(mount=mount) as (server, where), grpc.aio.insecure_channel(where) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="shop")
        assert SERVING == (await stub.Check(request)).status

        watch = stub.Watch(request)
        assert SERVING == (await watch.read()).status
        servicer.set("shop", NOT_SERVING)
        assert NOT_SERVING == (await watch.read()).status
        watch.cancel()
        await until(lambda: server.in_flight == 0 and not servicer._send_response_callbacks["shop"])
