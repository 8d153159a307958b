"""From REDIS_URL to the stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.redis_url import targets
from sentinel_ext.store.batcher import WORKERS
from sentinel_ext.store.circuits import MemoryCircuits, RedisCircuits
from sentinel_ext.store.cluster import ClusterStore
from sentinel_ext.store.cluster_limits import ClusterLimits
from sentinel_ext.store.credentials import PasswordFile
from sentinel_ext.store.endpoint import FixedEndpoint, SentinelEndpoint
from sentinel_ext.store.limits import MemoryLimits, RedisLimits
from sentinel_ext.store.loads import MemoryLoads, RedisLoads
from sentinel_ext.store.memory import MemoryStore
from sentinel_ext.store.modes import MemoryModes, RedisModes
from sentinel_ext.store.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sentinel_ext.store.base import Store
    from sentinel_ext.store.circuits import CircuitStore
    from sentinel_ext.store.endpoint import Endpoint
    from sentinel_ext.store.limits import LimitStore
    from sentinel_ext.store.loads import LoadStore
    from sentinel_ext.store.modes import ModeStore

# Check and rate limits share the connections: a batch of each may be under way beside the other.
LINKS = 2 * WORKERS


def make_store(  # noqa: PLR0913  what the settings say, by name
    url: str,
    *,
    now_us: Callable[[], int],
    jitter: Callable[[], float],
    changed: Callable[[bool, str], None],
    username: str | None = None,
    password_file: Path | None = None,
    sentinel_password_file: Path | None = None,
) -> Store:
    """Make the store that `url` names; see redis_url.RedisUrl.

    Args:
        password_file: read for every connection, and again when it changes.
    """
    if url.startswith("memory:"):
        return MemoryStore(now_us)
    named = targets(url)
    credentials = None if password_file is None else PasswordFile(password_file, username)
    if named.kind == "cluster":
        return ClusterStore(named, credentials, links=LINKS, jitter=jitter, changed=changed)
    endpoint: Endpoint = (
        FixedEndpoint(url, credentials)
        if named.kind == "single"
        else SentinelEndpoint(
            named,
            credentials,
            None if sentinel_password_file is None else PasswordFile(sentinel_password_file),
        )
    )
    return RedisStore(endpoint, links=LINKS, jitter=jitter, changed=changed)


def make_shared(store: Store, instance: str, *, now_us: Callable[[], int]) -> tuple[CircuitStore, LoadStore]:
    """Make the stores of breakers and loads beside `store`.

    Args:
        instance: names this process, unlike any other's and any earlier one's.
    """
    if isinstance(store, (RedisStore, ClusterStore)):
        scripts = store.scripts if isinstance(store, ClusterStore) else None
        return RedisCircuits(store.run, instance, scripts), RedisLoads(store.run, instance)
    return MemoryCircuits(lambda: now_us() // 1000), MemoryLoads(lambda: now_us() / 1000)


def make_modes(store: Store) -> ModeStore:
    """Make the store of the modes that an operator set beside `store`."""
    if isinstance(store, (RedisStore, ClusterStore)):
        return RedisModes(store.run)
    return MemoryModes()


def make_limits(store: Store, *, now_us: Callable[[], int]) -> LimitStore:
    """Make the store of rate limits' counters beside `store`."""
    if isinstance(store, ClusterStore):
        return ClusterLimits(store)
    if isinstance(store, RedisStore):
        return RedisLimits(store.hot, store.run, store.is_available)
    return MemoryLimits(now_us)
