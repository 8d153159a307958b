"""Rate limits over admin HTTP: GET /ratelimits shows rules, POST .../reset and .../refund act on counters.

Acting needs ADMIN_ACTIONS=true and a JSON body, for the reasons in server/breakers.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from aiohttp import web

from sentinel_ext.server.audited import ORDER
from sentinel_ext.server.breakers import StoreAwayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

# As many as a descriptor of a request may have.
MAX_ENTRIES = 32
MAX_REFUND = 2**32


class NoSuchLimitError(Exception):
    """No limit of the rules in force applies to these entries."""


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which counter is meant: as a request would name it.

    Attributes:
        entries: pairs of key and value, in a descriptor's order.
        hits: what to refund.
    """

    domain: str
    entries: list[tuple[str, str]]
    hits: int = 0


class RateLimitActions(Protocol):
    """What the pages show and do."""

    async def shown(self) -> dict[str, Any]:
        """Return the rules in force, JSON-ready."""
        ...

    async def reset(self, domain: str, entries: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Forget what was counted on the limits that apply to `entries`, for all instances.

        Raises:
            NoSuchLimitError, StoreAwayError: it is not done, or perhaps not.
        """
        ...

    async def refund(self, domain: str, entries: Sequence[tuple[str, str]], hits: int) -> dict[str, Any]:
        """Give `hits` back on the limits that apply to `entries`; never below nothing counted.

        Raises:
            NoSuchLimitError, StoreAwayError: it is not done, or perhaps not.
        """
        ...


class RateLimitPages:
    """The three routes."""

    index = (
        "/ratelimits  rate limits in force; POST /ratelimits/reset and /ratelimits/refund act on counters\n"
    )

    def __init__(self, limits: RateLimitActions, *, may_act: bool) -> None:
        """Show `limits`; act only if `may_act`."""
        self._limits = limits
        self._may_act = may_act

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/ratelimits", self._show)
        app.router.add_post("/ratelimits/reset", self._reset)
        app.router.add_post("/ratelimits/refund", self._refund)

    async def _show(self, _request: web.Request) -> web.Response:
        return web.json_response(await self._limits.shown())

    async def _reset(self, request: web.Request) -> web.Response:
        return await self._act(request, lambda target: self._limits.reset(target.domain, target.entries))

    async def _refund(self, request: web.Request) -> web.Response:
        def refund(target: Target) -> Awaitable[dict[str, Any]]:
            if not 0 < target.hits <= MAX_REFUND:
                raise ValueError(f'"hits" must be between 1 and {MAX_REFUND}')
            return self._limits.refund(target.domain, target.entries, target.hits)

        return await self._act(request, refund)

    async def _act(
        self, request: web.Request, act: Callable[[Target], Awaitable[dict[str, Any]]]
    ) -> web.Response:
        if not self._may_act:
            return _refused(403, "acting is switched off; set ADMIN_ACTIONS=true to allow it")
        if request.content_type != "application/json":
            return _refused(415, "send the body as content-type: application/json")
        try:
            target = await _target(request)
            entries = ", ".join(f"{key}={value}" for key, value in target.entries)
            request[ORDER] = {"domain": target.domain, "entries": entries, "hits": target.hits}
            return web.json_response(await act(target))
        except ValueError as error:
            return _refused(400, str(error))
        except NoSuchLimitError:
            return _refused(404, "no limit applies to these entries; GET /ratelimits shows the rules")
        except StoreAwayError as error:
            return _refused(503, f"the store did not confirm it: {error}; look again, and repeat if need be")


async def _target(request: web.Request) -> Target:
    """Read the body.

    Raises:
        ValueError: with what would be right.
    """
    usage = 'send {"domain": "…", "entries": [["key", "value"], …]}'
    try:
        target = msgspec.convert(await request.json(), Target)
    except (json.JSONDecodeError, UnicodeDecodeError, web.HTTPRequestEntityTooLarge):
        raise ValueError(usage) from None
    except msgspec.ValidationError as error:
        raise ValueError(f"{usage}: {error}") from None
    if not target.domain or not 0 < len(target.entries) <= MAX_ENTRIES:
        raise ValueError(f"{usage}, 1 to {MAX_ENTRIES} entries")
    return target


def _refused(status: int, why: str) -> web.Response:
    return web.json_response({"error": why}, status=status)
