"""Servers to measure against: one method that answers a constant, and an upstream. Each runs as a process.

`python -m benchmarks.servers grpcio 127.0.0.1:50051`; the kinds are in KINDS.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, cast

import grpc
import uvloop

from sentinel_ext.address import Address
from sentinel_ext.server.lean import LeanServer
from sentinel_ext.services.registry import Unary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SERVICE, METHOD = "bench.Constant", "Answer"
PATH = f"/{SERVICE}/{METHOD}"
# As long as a CheckResponse that allows with five headers.
ANSWER = bytes(i % 251 for i in range(180))
_UPSTREAM_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nok\n"
_MAX_STREAMS = 1000


async def _answer(_request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return ANSWER


def _generic_handler() -> grpc.GenericRpcHandler[bytes, bytes]:
    # Bytes in, bytes out: the servers are compared, not protobuf.
    method = grpc.unary_unary_rpc_method_handler(_answer)
    return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})


async def _grpcio(address: Address) -> Any:  # noqa: ANN401  one of two unrelated servers
    """Plain grpc.aio, without anything of Sentinel's around it."""
    options = (("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", _MAX_STREAMS))
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((_generic_handler(),))
    server.add_insecure_port(str(address))
    await server.start()
    return server


async def _lean(address: Address) -> Any:  # noqa: ANN401
    """The lean server with a handler that answers at once, as Sentinel's own services do."""
    server = LeanServer(address)
    server.add((Unary(SERVICE, METHOD, bytes, lambda _message, _reply: ANSWER),))
    await server.start()
    return server


async def _lean_async(address: Address) -> Any:  # noqa: ANN401
    """The lean server with the very coroutine that grpc.aio runs."""
    server = LeanServer(address)
    server.add_generic_rpc_handlers((_generic_handler(),))
    await server.start()
    return server


class _Upstream(asyncio.Protocol):
    """Answers every HTTP/1.1 request without a body alike; Envoy sends no others here."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not instances of asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        count = data.count(b"\r\n\r\n")
        self._rest = data[data.rfind(b"\r\n\r\n") + 4 :] if count else data
        if count:
            self._transport.write(_UPSTREAM_ANSWER * count)


async def _upstream(address: Address) -> Any:  # noqa: ANN401
    return await asyncio.get_running_loop().create_server(_Upstream, address.host, address.port, backlog=1024)


KINDS: dict[str, Callable[[Address], Awaitable[Any]]] = {
    "grpcio": _grpcio,
    "lean": _lean,
    "lean-async": _lean_async,
    "upstream": _upstream,
}


async def _serve(kind: str, address: Address) -> None:
    server = await KINDS[kind](address)
    # The parent ends this process; a server that drains would only make the benchmark longer.
    await asyncio.Event().wait()
    del server


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], Address.parse(sys.argv[2])))
