"""Engines around scripted stores, whose workers end with the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.build import make_engine, make_plan, make_policy
from support.engine import BURST, House
from support.fakes import FakeClock, ScriptedStore

from sentinel_ext.store.batcher import Batcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@pytest.fixture
async def build() -> AsyncIterator[Callable[..., House]]:
    """Make houses; their workers end with the test."""
    batchers: list[Batcher] = []

    async def make(timeout_s: float = 30.0, max_queued: int = 1_000, **plan) -> House:
        store, clock = ScriptedStore(), FakeClock()
        engine = make_engine(store, clock, make_policy(make_plan(burst=BURST, **plan)))
        engine.batcher = Batcher(store, timeout_s, max_queued=max_queued)
        await engine.batcher.start()
        batchers.append(engine.batcher)
        return House(engine, store, clock)

    yield make
    for batcher in batchers:
        await batcher.close()


@pytest.fixture
async def house(build) -> House:
    return await build()
