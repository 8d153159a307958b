"""The service behind Envoy: answers every request with what arrived, so that one sees what Sentinel adds."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Sequence

# Requests last microseconds; only an idle keep-alive connection can be open at the end.
_SHUTDOWN_S = 1.0


@asynccontextmanager
async def echoing(sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
    """Answer on `sockets` until the context ends; closes them."""
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", _echo)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    try:
        await runner.setup()
        for one in sockets:
            await web.SockSite(runner, one).start()
        yield
    finally:
        await runner.cleanup()
        for one in sockets:
            one.close()


async def _echo(request: web.Request) -> web.Response:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    seen = {"method": request.method, "path": request.raw_path, "headers": headers}
    # Indented: it is read by somebody with curl in a terminal.
    return web.json_response(text=json.dumps(seen, indent=2) + "\n")
