"""Fixtures every folder may use."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start what is put in the background so, and children inherit it: Ctrl-C could not be tested.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for socket names (108 bytes in all)."""
    with tempfile.TemporaryDirectory(prefix="snt-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    """Like short_folder, for what the tests of a file share."""
    with tempfile.TemporaryDirectory(prefix="snt-") as name:
        yield Path(name)


@pytest.fixture
def redis_server(short_folder: Path) -> Iterator[RedisServer]:
    """A redis-server that a test may freeze, stop and start again."""
    server = RedisServer(short_folder).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """A redis-server for tests that leave it running; each empties it or uses keys of its own."""
    with tempfile.TemporaryDirectory(prefix="snt-") as name:
        server = RedisServer(Path(name)).start()
        yield server
        server.stop()
