"""Modes that an operator set: in memory and in a real Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.stores import make_redis_store, until

from sentinel_ext.core.model import Mode, Stage
from sentinel_ext.store.base import Ask
from sentinel_ext.store.memory import MemoryStore
from sentinel_ext.store.modes import MODES_KEY, MemoryModes, RedisModes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.redis_server import RedisServer

    from sentinel_ext.store.base import Store
    from sentinel_ext.store.modes import ModeStore


@pytest.fixture(params=["memory", "redis"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Store, ModeStore]]:
    if request.param == "memory":
        yield MemoryStore(lambda: 10**15), MemoryModes()
        return
    server: RedisServer = request.getfixturevalue("shared_redis")
    with server.client() as client:
        client.flushall()
    store = make_redis_store(server.url)
    await store.start()
    await until(lambda: store.is_available() and store._side.is_up)
    yield store, RedisModes(store.run)
    await store.close()


async def test_modes_are_set_changed_and_forgotten(stores: tuple[Store, ModeStore]) -> None:
    modes = stores[1]
    first = await modes.read()
    one = await modes.write(Stage.WINDOW, Mode.SHADOW)
    two = await modes.write(Stage.BREAKER, Mode.OFF)
    changed = await modes.write(Stage.WINDOW, Mode.ENFORCE)
    gone = await modes.write(Stage.BREAKER, None)

    assert {} == first
    assert {Stage.WINDOW: Mode.SHADOW} == one
    assert {Stage.WINDOW: Mode.SHADOW, Stage.BREAKER: Mode.OFF} == two
    assert {Stage.WINDOW: Mode.ENFORCE, Stage.BREAKER: Mode.OFF} == changed
    assert {Stage.WINDOW: Mode.ENFORCE} == gone == await modes.read()


async def test_windows_are_forgotten_and_counted(stores: tuple[Store, ModeStore]) -> None:
    store = stores[0]
    keys = [b"sentinel:w:{a}:60000", b"sentinel:w:{b}:60000"]
    await store.acquire([Ask(key, 6_000_000, 10, 1, 3) for key in keys])

    assert 2 == await store.forget([*keys, b"sentinel:w:{c}:60000"])
    assert [0, 0] == [
        answer.used for answer in await store.acquire([Ask(k, 6_000_000, 10, 1, 0) for k in keys])
    ]


async def test_words_of_another_version_are_left_out(shared_redis: RedisServer) -> None:
    with shared_redis.client() as client:
        client.delete(MODES_KEY)
        client.hset(MODES_KEY, mapping={"window": "shadow", "door": "off", "bucket": "ajar"})
    store = make_redis_store(shared_redis.url)
    await store.start()
    await until(lambda: store._side.is_up)

    assert {Stage.WINDOW: Mode.SHADOW} == await RedisModes(store.run).read()
    await store.close()
