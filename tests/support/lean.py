"""LeanServer with handlers of a test's own, and real grpcio clients for it."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from support.envoy import free_port

from sentinel_ext.address import Address
from sentinel_ext.server.lean import LeanServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

SERVICE = "test.Service"

# Every call of a test ends by itself; this is for the day it does not.
PATIENCE_S = 10.0


def local() -> Address:
    return Address("127.0.0.1", free_port())


def target(address: Address) -> str:
    return f"unix:{address.path}" if address.is_unix else str(address)


@asynccontextmanager
async def serving(
    handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]] | None = None,
    *,
    hot: Iterable[Any] = (),
    mount: Callable[[LeanServer], None] = lambda _server: None,
    address: Address | None = None,
    **options: Any,
) -> AsyncIterator[tuple[LeanServer, str]]:
    """Serve; gives the server and where it is. Stops it at once at the end."""
    address = address or local()
    server = LeanServer(address, **options)
    if handlers:
        # As generated code does it.
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        server.add_registered_method_handlers(SERVICE, handlers)
    server.add(hot)
    mount(server)
    await server.start()
    try:
        yield server, target(address)
    finally:
        await server.stop(0)


@asynccontextmanager
async def calling(
    handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]] | None = None, **options: Any
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve, and connect a client."""
    async with serving(handlers, **options) as (_, where), grpc.aio.insecure_channel(where) as channel:
        yield channel


async def ask(channel: grpc.aio.Channel, name: str, message: bytes = b"", **options: Any) -> bytes:
    """Make one unary call over bytes."""
    call = channel.unary_unary(f"/{SERVICE}/{name}")
    reply: bytes = await call(message, timeout=options.pop("timeout", PATIENCE_S), **options)
    return reply


async def refused(awaitable: Any) -> tuple[grpc.StatusCode, str]:
    """Await a call that must fail; its status."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return caught.value.code(), caught.value.details() or ""


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another party brings about."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.002)


class Client:
    """A TCP client that knows no HTTP/2."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self._sock = socket.create_connection((host, int(port)))
        self._sock.setblocking(False)

    async def read_all(self) -> bytes:
        """Read until the server closes."""
        loop, data = asyncio.get_running_loop(), b""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    part = await loop.sock_recv(self._sock, 65536)
                except ConnectionResetError:
                    return data
                if not part:
                    return data
                data += part

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    def close(self) -> None:
        self._sock.close()
