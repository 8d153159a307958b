"""The lean server's tests run under asyncio's own loop and under uvloop: their transports differ."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops = {"asyncio": asyncio.new_event_loop}
    if item.path.name.startswith("test_lean_"):
        loops["uvloop"] = uvloop.new_event_loop
    return loops
