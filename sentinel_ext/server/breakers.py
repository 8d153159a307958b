"""Circuit breakers over admin HTTP: GET /breakers shows them, POST /breakers/{upstream} acts on one.

Acting needs ADMIN_ACTIONS=true and a JSON body: the admin port asks nobody who calls, and a page in a
browser of the operator's must not be able to post to it (a JSON content type needs a CORS preflight, which
nothing here answers).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from sentinel_ext.server.audited import ORDER

if TYPE_CHECKING:
    from collections.abc import Sequence

MODES = ("open", "closed", "auto")


class UnknownUpstreamError(Exception):
    """No upstream of that name was seen, or it has no breaker."""


class StoreAwayError(Exception):
    """The store did not take the order; it may or may not hold."""


class Breakers(Protocol):
    """What the pages show and do."""

    async def breakers(self) -> Sequence[dict[str, Any]]:
        """Return the breakers, JSON-ready."""
        ...

    async def force(self, upstream: str, mode: str) -> dict[str, Any]:
        """Force a breaker open or closed for the whole fleet, or let it go and reset it (auto).

        Raises:
            UnknownUpstreamError, StoreAwayError: it is not done, or perhaps not.
        """
        ...


class BreakerPages:
    """The two routes."""

    index = "/breakers  circuit breakers; POST /breakers/{upstream} acts on one\n"

    def __init__(self, breakers: Breakers, *, may_act: bool) -> None:
        """Show `breakers`; act only if `may_act`."""
        self._breakers = breakers
        self._may_act = may_act

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/breakers", self._show)
        app.router.add_post("/breakers/{upstream}", self._act)

    async def _show(self, _request: web.Request) -> web.Response:
        return web.json_response({"breakers": list(await self._breakers.breakers())})

    async def _act(self, request: web.Request) -> web.Response:
        if not self._may_act:
            return _refused(403, "acting is switched off; set ADMIN_ACTIONS=true to allow it")
        if request.content_type != "application/json":
            return _refused(415, "send the body as content-type: application/json")
        mode = await _mode(request)
        if mode not in MODES:
            return _refused(400, f'send {{"mode": "…"}} with one of {", ".join(MODES)}')
        upstream = request.match_info["upstream"]
        request[ORDER] = {"upstream": upstream, "mode": mode}
        try:
            return web.json_response(await self._breakers.force(upstream, mode))
        except UnknownUpstreamError:
            why = f"no breaker of an upstream {upstream!r} is known here; GET /breakers lists them"
            return _refused(404, why)
        except StoreAwayError as error:
            return _refused(503, f"the store did not confirm it: {error}; look again, and repeat if need be")


async def _mode(request: web.Request) -> str:
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError, web.HTTPRequestEntityTooLarge):
        return ""
    mode = body.get("mode") if isinstance(body, dict) else None
    return mode if isinstance(mode, str) else ""


def _refused(status: int, why: str) -> web.Response:
    return web.json_response({"error": why}, status=status)
