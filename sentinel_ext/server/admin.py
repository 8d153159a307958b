"""Admin HTTP: metrics, liveness, readiness and more pages, on an address of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from sentinel_ext.address import Address
from sentinel_ext.server import listen
from sentinel_ext.server.audited import audited

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from prometheus_client.registry import Collector

# A scrape has no body, and an order is a few words.
MAX_BODY_BYTES = 16 * 1024
SHUTDOWN_S = 1.0


class Readiness(Protocol):
    """What /readyz tells."""

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Return (ready, details); details hold no secret."""
        ...


class Pages(Protocol):
    """More routes.

    Attributes:
        index: their lines of the index page.
    """

    index: str

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        ...


class Front(Pages, Protocol):
    """Pages that have one to show at `/`."""

    def front(self, request: web.Request) -> web.Response | None:
        """Return the page, or None for a request that wants the index."""
        ...


class AdminServer:
    """GET /metrics, /healthz, /readyz, an index, and what `pages` add."""

    def __init__(
        self,
        address: Address | socket.socket,
        metrics: Callable[[], Awaitable[Collector]],
        readiness: Readiness,
        pages: Sequence[Pages] = (),
        front: Front | None = None,
    ) -> None:
        """Listen on `address` once started; a socket is listening already, and stays its owner's.

        Args:
            front: more pages, of which one is for browsers that ask for `/`.
        """
        self._address = address
        self._collect = metrics
        self._readiness = readiness
        # A worker listens for its supervisor, which asks one after the other, and has written down who asked.
        middlewares = (audited,) if isinstance(address, Address) else ()
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=middlewares)
        app.router.add_get("/", self._index)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._front = front
        self._pages = pages if front is None else (front, *pages)
        for more in self._pages:
            more.add_to(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            AddressInUseError, StartError: the address cannot be had.
        """
        if isinstance(self._address, Address):
            listen.ensure_free(self._address, "ADMIN_ADDRESS")
        await self._runner.setup()
        await self._site().start()
        if isinstance(self._address, Address):
            listen.allow_group(self._address)

    def _site(self) -> web.BaseSite:
        if not isinstance(self._address, Address):
            return web.SockSite(self._runner, self._address)
        if self._address.is_unix:
            return web.UnixSite(self._runner, self._address.path)
        return web.TCPSite(self._runner, self._address.host, self._address.port)

    async def stop(self) -> None:
        """Close the port and end open requests."""
        await self._runner.cleanup()
        if isinstance(self._address, Address):
            listen.remove_socket(self._address)

    async def _index(self, request: web.Request) -> web.Response:
        page = None if self._front is None else self._front.front(request)
        if page is not None:
            return page
        text = "Sentinel\n\n/metrics   Prometheus\n/healthz   alive\n/readyz    ready, with details\n"
        text += "".join(more.index for more in self._pages)
        return web.Response(text=text, headers={"vary": "accept"})

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return web.Response(body=encode(await self._collect()), headers={"content-type": content_type})

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        ready, details = self._readiness.readiness()
        return web.json_response({"ready": ready, **details}, status=200 if ready else 503)
