"""Orders over admin HTTP stand in the audit log, whatever becomes of them; looks do not."""

from __future__ import annotations

import logging
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from support.admin import admin_of

from sentinel_ext.server.audited import MAX_CHARACTERS, ORDER

KNOWN = logging.makeLogRecord({}).__dict__.keys() | {"message"}


class Orders:
    index = ""

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/orders", self._order)
        app.router.add_post("/orders/{status}", self._order)

    async def _order(self, request: web.Request) -> web.Response:
        status = request.match_info.get("status", "200")
        request[ORDER] = {"domain": "d" * 1_000, "hits": 3}
        if status == "fault":
            raise ZeroDivisionError
        if status == "large":
            raise web.HTTPRequestEntityTooLarge(1, 2)
        return web.Response(status=int(status[:3]))


def audit_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    records = [record for record in caplog.records if record.name == "sentinel.audit"]
    return [
        {"message": record.getMessage(), **{k: v for k, v in record.__dict__.items() if k not in KNOWN}}
        for record in records
    ]


@pytest.mark.parametrize(
    ("path", "message", "status"),
    [
        ("/orders/200", "acted", 200),
        ("/orders/403", "refused", 403),
        ("/orders/400", "failed", 400),
        ("/orders/503", "failed", 503),
        ("/orders/large", "failed", 413),
        ("/orders/fault", "failed", 500),
    ],
)
async def test_an_order_is_one_line_with_who_asked(caplog, path, message, status):
    caplog.set_level(logging.WARNING, "sentinel.audit")
    async with admin_of(Orders()) as session, session.post(path) as response:
        assert status == response.status

    expected = {"message": message, "action": f"POST {path}", "peer": "127.0.0.1", "status": status}
    assert [{**expected, "domain": "d" * MAX_CHARACTERS, "hits": 3}] == audit_lines(caplog)


async def test_looks_and_paths_that_are_none_write_nothing(caplog):
    caplog.set_level(logging.WARNING, "sentinel.audit")
    async with admin_of(Orders()) as session:
        statuses = [await status_of(session.get("/orders")), await status_of(session.post("/nowhere"))]

    assert [200, 404] == statuses
    assert [] == audit_lines(caplog)


async def test_a_path_is_cut(caplog):
    caplog.set_level(logging.WARNING, "sentinel.audit")
    async with admin_of(Orders()) as session:
        await status_of(session.post("/orders/" + "2" * 2_000))

    (line,) = audit_lines(caplog)
    assert len("POST ") + MAX_CHARACTERS == len(line["action"])


async def status_of(asked: Any) -> int:
    async with asked as response:
        assert isinstance(response, aiohttp.ClientResponse)
        return response.status
