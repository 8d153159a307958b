"""The admin server around a part of the test's own."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from support.build import free_tcp_port

from sentinel_ext.address import Address
from sentinel_ext.server.admin import AdminServer
from sentinel_ext.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prometheus_client import CollectorRegistry

    from sentinel_ext.server.admin import Front, Pages


class Ready:
    """Ready, with the metrics of a process that did nothing."""

    def __init__(self) -> None:
        self.metrics = Metrics("1.2.3")

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        return True, {}

    async def collect(self) -> CollectorRegistry:
        return self.metrics.registry


@asynccontextmanager
async def admin_of(
    *pages: Pages, front: Front | None = None, **options: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve `pages`; yield a session that asks there, made with `options`."""
    instance, address = Ready(), Address("127.0.0.1", free_tcp_port())
    server = AdminServer(address, instance.collect, instance, pages, front)
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://{address}", **options) as session:
            yield session
    finally:
        await server.stop()
