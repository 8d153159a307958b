"""The services on our own wire: sockets, TLS, health, and an end in good order."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from sentinel_ext import clock
from sentinel_ext.errors import StartError
from sentinel_ext.server import listen
from sentinel_ext.server import tls as tls_module
from sentinel_ext.server.hub import Hub
from sentinel_ext.server.mount import REFLECTION_V1, REFLECTION_V1ALPHA, Mounts
from sentinel_ext.server.protocol import H2Protocol, Refusal
from sentinel_ext.wire.codes import Status
from sentinel_ext.wire.hpack import BlockCache
from sentinel_ext.wire.limits import Limits, ProcessBudget

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Callable, Iterable, Mapping

    import grpc

    from sentinel_ext.address import Address
    from sentinel_ext.server.calls import HotUnary
    from sentinel_ext.services.registry import HotStream, Unary

HEALTH: Final = "grpc.health.v1.Health"
LIVENESS: Final = "liveness"

# Envoy has a connection per worker thread; a thousand is far beyond any proxy, and bounds memory.
MAX_CONNECTIONS: Final = 1024
# Envoy's workers connect all at once after it starts.
BACKLOG: Final = 1024
# Unacknowledged data for that long means that the peer is gone (as the keepalive's timeout).
USER_TIMEOUT_MS: Final = 20_000
HANDSHAKE_S: Final = 10.0
# How long handlers may take to return after they were cancelled, and connections after they were aborted.
PATIENCE_S: Final = 1.0


class LeanServer:
    """Carries methods over HTTP/2 of our own; what generated code mounts on grpcio mounts here, too.

    Attributes:
        on_trip: called with a word for each limit that trips; set it before `start`.
    """

    def __init__(
        self,
        address: Address,
        variable: str = "GRPC_ADDRESS",
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """Listen on `address` once started.

        Args:
            address: where.
            variable: the setting's name, for messages.
            limits: of each connection; by default `trusted` on a Unix socket or loopback, else `exposed`.
            tls: for TLS or mTLS; see `tls.server_context`.
            max_connections: one more is closed at once.
        """
        self._address = address
        self._variable = variable
        self._limits = limits or _limits_for(address)
        self._tls = tls
        self._max_connections = max_connections
        self._mounts = Mounts()
        self._health = HealthServicer()
        self._budget = ProcessBudget()
        self._cache: BlockCache | None = None
        self._hub: Hub | None = None
        self._listeners: list[asyncio.Server] = []
        self._is_stopping = False
        self.on_trip: Callable[[str], object] = lambda _reason: None
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self)

    # Mounting, before `start`.

    def add(self, methods: Iterable[Unary | HotUnary | HotStream]) -> None:
        """Mount hot methods: plain functions, the fast path."""
        self._mounts.add(methods)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Mount a servicer; `add_XServicer_to_server(servicer, server)` calls this."""
        self._mounts.add_registered(service_name, method_handlers)

    def add_generic_rpc_handlers(
        self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler[Any, Any]]
    ) -> None:
        """Mount handlers that are asked by path; registered ones come first."""
        self._mounts.add_generic(generic_rpc_handlers)

    def add_reflection(self) -> None:
        """Mount reflection, v1 and v1alpha, over all services mounted so far."""
        names = dict.fromkeys((*self._mounts.services, REFLECTION_V1ALPHA, REFLECTION_V1))
        servicer = ReflectionServicer(list(names))
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, self)

    # Life.

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            AddressInUseError, StartError: the address cannot be had.
        """
        listen.ensure_free(self._address, self._variable)
        if self._tls is not None:
            tls_module.prepare(self._tls)
        methods = self._mounts.table()
        self._cache = BlockCache(methods, self._limits)
        self._hub = Hub(methods, self._limits, self._cache, self._budget, clock.monotonic_ns)
        self._hub.on_trip = self.on_trip
        self._hub.max_connections = self._max_connections
        try:
            await self._listen(self._hub)
        except OSError as error:
            self._close_listeners()
            raise StartError(f"{self._variable}: cannot listen on {self._address}: {error}") from error
        listen.allow_group(self._address)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)

    async def refuse_new(self) -> None:
        """Say NOT_SERVING, so that proxies stop choosing this instance; go on answering."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Send GOAWAY, let calls finish for `grace_s` seconds, then end them.

        At half of it streams that never end by themselves are ended with UNAVAILABLE: an access log, a
        quota stream, a health watch. Before that their handlers were told (`on_drain`).
        """
        hub = self._hub
        if hub is None or self._is_stopping:
            return
        self._is_stopping = True
        await self.refuse_new()
        self._close_listeners()
        for protocol in tuple(hub.connections):
            protocol.drain("shutdown")
            for call in tuple(protocol.streams):
                call.draining()
        if grace_s > 0:
            await hub.wait_closed(grace_s / 2)
        for protocol in tuple(hub.connections):
            for call in tuple(protocol.streams):
                call.end(Status.UNAVAILABLE, "server is shutting down")
        if grace_s > 0:
            await hub.wait_closed(grace_s / 2)
        for protocol in tuple(hub.connections):
            protocol.abort()
        await hub.wait_closed(PATIENCE_S)
        await hub.close(PATIENCE_S)
        listen.remove_socket(self._address)

    # What the owner's metrics read.

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._hub.connections) if self._hub else 0

    @property
    def in_flight(self) -> int:
        """Calls whose handler has not returned, cancelled ones included."""
        return self._budget.in_flight

    @property
    def calls(self) -> int:
        """Calls given to a handler, ever."""
        return self._hub.calls if self._hub else 0

    @property
    def cache_misses(self) -> int:
        """Header blocks that the block cache did not know whole, ever; hits are not counted, they are hot."""
        return 0 if self._cache is None else self._cache.misses

    @property
    def trips(self) -> Mapping[str, int]:
        """How often each limit tripped, by reason."""
        return self._hub.trips if self._hub else {}

    # Inside.

    async def _set_health(self, status: Any) -> None:  # noqa: ANN401  an enum of generated code
        for name in ("", *self._mounts.services):
            await self._health.set(name, status)

    async def _listen(self, hub: Hub) -> None:
        loop = hub.loop

        def accept() -> asyncio.Protocol:
            if len(hub.connections) >= self._max_connections:
                hub.trip("connections")
                return Refusal()
            return H2Protocol(hub)

        handshake_s = HANDSHAKE_S if self._tls is not None else None
        for sock in self._sockets():
            self._listeners.append(
                await loop.create_server(
                    accept,
                    sock=sock,
                    ssl=self._tls,
                    backlog=BACKLOG,
                    ssl_handshake_timeout=handshake_s,
                )
            )

    def _sockets(self) -> list[socket.socket]:
        """Bound sockets: one for a path, one for each address of a name."""
        address = self._address
        if address.is_unix:
            return [_bound(socket.socket(socket.AF_UNIX), address.path)]
        infos = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        sockets: list[socket.socket] = []
        try:
            for family, _, _, _, where in dict.fromkeys(infos):
                sockets.append(_tcp_socket(family, where))
        except OSError:
            for sock in sockets:
                sock.close()
            raise
        return sockets

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()


def _limits_for(address: Address) -> Limits:
    """Peers on this host are vouched for by it; a proxy of theirs may reset thousands of streams at once."""
    return Limits.trusted() if address.is_local else Limits.exposed()


def _tcp_socket(family: int, where: Any) -> socket.socket:  # noqa: ANN401  depends on the family
    """A bound socket; what is accepted on it inherits the options (Linux)."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return _bound(sock, where)


def _bound(sock: socket.socket, where: Any) -> socket.socket:  # noqa: ANN401  depends on the family
    try:
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock
