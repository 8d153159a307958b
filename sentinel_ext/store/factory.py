"""From REDIS_URL to a Store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.store.batcher import WORKERS
from sentinel_ext.store.circuits import MemoryCircuits, RedisCircuits
from sentinel_ext.store.loads import MemoryLoads, RedisLoads
from sentinel_ext.store.memory import MemoryStore
from sentinel_ext.store.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.store.base import Store
    from sentinel_ext.store.circuits import CircuitStore
    from sentinel_ext.store.loads import LoadStore


def make_store(
    url: str,
    *,
    now_us: Callable[[], int],
    jitter: Callable[[], float],
    changed: Callable[[bool, str], None],
) -> Store:
    """Make the store that `url` names: memory://, redis://, rediss:// or unix://."""
    if url.startswith("memory:"):
        return MemoryStore(now_us)
    return RedisStore(url, links=WORKERS, jitter=jitter, changed=changed)


def make_shared(store: Store, instance: str, *, now_us: Callable[[], int]) -> tuple[CircuitStore, LoadStore]:
    """Make the stores of breakers and loads beside `store`.

    Args:
        instance: names this process, unlike any other's and any earlier one's.
    """
    if isinstance(store, RedisStore):
        return RedisCircuits(store.run, instance), RedisLoads(store.run, instance)
    return MemoryCircuits(lambda: now_us() // 1000), MemoryLoads(lambda: now_us() / 1000)
