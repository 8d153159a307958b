"""The service behind Envoy: answers every request with what arrived, so that one sees what Sentinel adds.

    python -m sentinel_ext.demo.upstream HOST:PORT

serves it by itself, until SIGTERM: docker-compose.yml does.
"""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from sentinel_ext.address import Address

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Sequence

# Requests last microseconds; only an idle keep-alive connection can be open at the end.
_SHUTDOWN_S = 1.0


@asynccontextmanager
async def echoing(sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
    """Answer on `sockets` until the context ends; closes them."""
    runner = web.AppRunner(_application(), access_log=None, shutdown_timeout=_SHUTDOWN_S)
    try:
        await runner.setup()
        for one in sockets:
            await web.SockSite(runner, one).start()
        yield
    finally:
        await runner.cleanup()
        for one in sockets:
            one.close()


def main(arguments: Sequence[str]) -> int:
    """Serve at the one address given until SIGTERM or Ctrl-C; return the exit code, 2 for another use."""
    try:
        (text,) = arguments
        address = Address.parse(text)
    except ValueError as error:
        sys.stderr.write(f"usage: python -m sentinel_ext.demo.upstream HOST:PORT ({error})\n")
        return 2
    web.run_app(
        _application(),
        host=address.host,
        port=address.port,
        access_log=None,
        print=None,
        shutdown_timeout=_SHUTDOWN_S,
    )
    return 0


def _application() -> web.Application:
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", _echo)
    return application


async def _echo(request: web.Request) -> web.Response:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    seen = {"method": request.method, "path": request.raw_path, "headers": headers}
    # Indented: it is read by somebody with curl in a terminal.
    return web.json_response(text=json.dumps(seen, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
