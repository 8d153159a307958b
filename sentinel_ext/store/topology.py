"""Which master of a Redis Cluster has which slots."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from sentinel_ext.store.endpoint import CONNECT_TIMEOUT_S

if TYPE_CHECKING:
    from sentinel_ext.store.endpoint import Endpoint


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int


async def read_slots(endpoint: Endpoint, url: str) -> list[tuple[int, int, Address]]:
    """Return (first slot, last slot, master) of every range, as one node sees it.

    Args:
        url: of that node; stands in where it does not know its own address.

    Raises:
        RedisError, OSError, TimeoutError: it does not answer, or is no cluster.
    """
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        connection = await endpoint.open()
        try:
            await connection.send_command("CLUSTER SLOTS")
            rows = await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)
    asked = urlsplit(url).hostname or ""
    return [
        (int(first), int(last), Address(_text(master[0]) or asked, int(master[1])))
        for first, last, master, *_ in rows
    ]


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
