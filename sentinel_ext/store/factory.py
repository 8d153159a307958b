"""From REDIS_URL to a Store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.store.batcher import WORKERS
from sentinel_ext.store.memory import MemoryStore
from sentinel_ext.store.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.store.base import Store


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
