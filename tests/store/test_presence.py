"""How many instances there are, by a real Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.stores import make_redis_store, until

from sentinel_ext.store import presence
from sentinel_ext.store.presence import Presence

if TYPE_CHECKING:
    from support.redis_server import RedisServer


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "PERIOD_S", 0.02)
    monkeypatch.setattr(presence, "LEASE_MS", 300)


async def test_instances_find_each_other_and_notice_who_leaves_or_dies(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [make_redis_store(redis_server.url) for _ in range(3)]
    marks = [Presence(store, f"instance-{i}") for i, store in enumerate(stores)]
    for store, mark in zip(stores, marks, strict=True):
        await store.start()
        await mark.start()
    await until(lambda: [mark.instances for mark in marks] == [3, 3, 3])
    assert ("instance-0", "instance-1", "instance-2") == await marks[0].names()
    monkeypatch.setattr(presence, "MAX_NAMES", 2)
    assert 2 == len(await marks[0].names())

    await marks[2].close()  # leaves in order
    await until(lambda: [mark.instances for mark in marks[:2]] == [2, 2])
    marks[1]._task.cancel()  # dies: its mark lapses
    await until(lambda: marks[0].instances == 1)

    await marks[0].close()
    for store in stores:
        await store.close()


async def test_the_last_number_stands_while_the_store_is_away(redis_server: RedisServer) -> None:
    stores = [make_redis_store(redis_server.url) for _ in range(2)]
    marks = [Presence(store, f"instance-{i}") for i, store in enumerate(stores)]
    for store, mark in zip(stores, marks, strict=True):
        await store.start()
        await mark.start()
    await until(lambda: marks[0].instances == 2)

    redis_server.stop()
    await until(lambda: not stores[0]._side.is_up)

    assert 2 == marks[0].instances
    assert () == await marks[0].names()
    for mark in marks:
        await mark.close()
    for store in stores:
        await store.close()
