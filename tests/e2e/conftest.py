"""The suite runs on both servers: what holds on one has to hold on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.debug_house import House, started
from support.fleet import Sentinel
from support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(scope="module", params=["lean", "grpcio"])
def grpc_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """Set GRPC_SERVER of every Sentinel that the module starts."""
    Sentinel.grpc_server = request.param
    yield request.param
    Sentinel.grpc_server = "lean"


@pytest.fixture(scope="module")
def redis(module_folder: Path) -> Iterator[RedisServer]:
    """One that the tests of a file may freeze."""
    server = RedisServer(module_folder).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
async def house(shared_redis: RedisServer, module_folder: Path) -> AsyncIterator[House]:
    """Two instances and clients of their debug ports."""
    async with started(shared_redis, module_folder) as house:
        yield house
