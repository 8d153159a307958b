"""An upstream of limited concurrency that a test slows down, fails, hangs, kills and revives."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from support.envoy import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

Distribution = Literal["exponential", "deterministic"]

# What a test may look at afterwards: the latest arrivals, and the longest line a runaway load may form.
MAX_ARRIVALS = 50_000
MAX_WAITING = 20_000
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n"


class Arrival(NamedTuple):
    """A request as the upstream saw it.

    Attributes:
        at_s: on the monotonic clock.
        waited_s: since the client of tests/support/load.py sent it: what proxy and decision took.
    """

    at_s: float
    waited_s: float
    tenant: str
    tier: str


class LimitedUpstream:
    """`workers` serve one request each at a time, in order of arrival.

    What waits is served also when its client has left: the dead work that makes overload expensive.

    Attributes:
        factor: service time times this, for what starts from now on; `factors` the same by tenant.
        fail_status: answer everything at once with this status.
        hangs: take requests and never answer them.
        served: answers after service, by tenant.
        arrivals: the latest, oldest first; `seen` counts all.
        most_open: the most requests that were there at a time since somebody reset it.
    """

    def __init__(
        self,
        workers: int = 12,
        service_s: float = 0.1,
        distribution: Distribution = "exponential",
        seed: int = 1,
    ) -> None:
        self.port = free_port()
        self.workers, self.service_s = workers, service_s
        self.factor = 1.0
        self.factors: dict[str, float] = {}
        self.fail_status: int | None = None
        self.hangs = False
        self.seen = self.busy = self.most_open = 0
        self.served: Counter[str] = Counter()
        self.arrivals: deque[Arrival] = deque(maxlen=MAX_ARRIVALS)
        self._random = random.Random(seed)
        self._distribution = distribution
        self._waiting: deque[tuple[_Connection, str]] = deque()
        self._hanging: set[_Connection] = set()  # an unanswered client closes its connection
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        # Answers of a server that died meanwhile must not count for the one that came after it.
        self._life = 0

    async def __aenter__(self) -> Self:
        await self.revive()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.die()

    @property
    def capacity(self) -> float:
        """Requests per second, undisturbed."""
        return self.workers / self.service_s

    @property
    def open(self) -> int:
        """Requests that are served, wait, or hang."""
        return self.busy + len(self._waiting) + len(self._hanging)

    async def revive(self) -> None:
        """Listen on the same port as before."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024, reuse_address=True
        )

    async def die(self) -> None:
        """Close the listener and reset every connection: what was asked is lost."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.abort()
        self._waiting.clear()
        self._hanging.clear()
        self.busy = 0
        self._life += 1
        await asyncio.sleep(0)

    def end_hang(self) -> None:
        """Serve again; what hung stays unanswered."""
        self.hangs = False
        self._hanging.clear()

    def joined(self, connection: _Connection) -> None:
        self._connections.add(connection)

    def left(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        self._hanging.discard(connection)

    def ask(self, connection: _Connection, headers: dict[str, str]) -> None:
        """Take a request."""
        tenant = headers.get("x-tenant-id", "")
        self.seen += 1
        now_s = time.monotonic()
        waited_s = now_s - float(headers.get("x-sent-s", now_s))
        self.arrivals.append(Arrival(now_s, waited_s, tenant, headers.get("x-sentinel-tier", "")))
        if self.fail_status is not None:
            connection.send(f"HTTP/1.1 {self.fail_status} Failed\r\ncontent-length: 0\r\n\r\n".encode())
        elif self.hangs:
            self._hanging.add(connection)
        elif self.busy < self.workers:
            self._begin(connection, tenant)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append((connection, tenant))
        else:
            connection.abort()
        self.most_open = max(self.most_open, self.open)

    def _begin(self, connection: _Connection, tenant: str) -> None:
        self.busy += 1
        mean_s = self.service_s * self.factor * self.factors.get(tenant, 1.0)
        takes_s = self._random.expovariate(1 / mean_s) if self._distribution == "exponential" else mean_s
        life = self._life

        def done() -> None:
            if life == self._life:
                self.busy -= 1
                self.served[tenant] += 1
                connection.send(_OK)
                if self._waiting and self.busy < self.workers:
                    self._begin(*self._waiting.popleft())

        asyncio.get_running_loop().call_later(takes_s, done)


class _Connection(asyncio.Protocol):
    """HTTP/1.1 as Envoy speaks it to an upstream: one request at a time, GET, no body."""

    def __init__(self, upstream: LimitedUpstream) -> None:
        self._upstream = upstream
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.send: Callable[[bytes], None] = lambda _data: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self.send = transport, transport.write
        self._upstream.joined(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, self._buffer = self._buffer[:end].decode("latin-1"), self._buffer[end + 4 :]
            fields = (line.partition(":") for line in head.split("\r\n")[1:])
            self._upstream.ask(self, {name.lower(): value.strip() for name, _, value in fields})

    def connection_lost(self, _error: Exception | None) -> None:
        self.send = lambda _data: None
        self._upstream.left(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
