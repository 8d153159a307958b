"""The audit log of orders over admin HTTP: one line for each POST to a route, whatever becomes of it.

The same log as the debug port's (acting.py). Paths that are no route order nothing, and write nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

audit = logging.getLogger("sentinel.audit")

# What a handler understood of the body; a client chooses how long names are.
ORDER: Final = web.RequestKey("order", dict[str, Any])
MAX_CHARACTERS: Final = 512
_REFUSED: Final = 403


@web.middleware
async def audited(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Write down who asked for what, and whether it was done."""
    if request.method != "POST" or request.match_info.http_exception is not None:
        return await handler(request)
    message, status = "failed", 500
    try:
        response = await handler(request)
        status = response.status
        message = "acted" if status < 300 else "refused" if status == _REFUSED else "failed"
    except web.HTTPException as error:  # an answer, too
        status = error.status
        raise
    finally:
        entry = {"action": f"POST {_cut(request.path)}", "peer": request.remote or "unix", "status": status}
        entry |= {name: _cut(value) for name, value in request.get(ORDER, {}).items()}
        audit.warning(message, extra=entry)
    return response


def _cut(value: Any) -> Any:  # noqa: ANN401  a field of a body that was read
    return value[:MAX_CHARACTERS] if isinstance(value, str) else value
