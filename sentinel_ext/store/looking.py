"""Looks at windows for people: nothing is counted, and nobody on the request path waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.store.base import Ask, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentinel_ext.core.window import WindowQuery
    from sentinel_ext.store.base import Answer, Store

# People wait longer than requests do; a store that takes so long is as good as away.
LOOK_TIMEOUT_S: Final = 0.5
# In one script call, which takes Redis some 10 µs each.
MAX_LOOKS: Final = 128


async def look(store: Store, queries: Sequence[WindowQuery]) -> list[Answer | StoreFault]:
    """Return what each window says, or why it says nothing. Never raises because of the store."""
    found: list[Answer | StoreFault] = []
    for first in range(0, len(queries), MAX_LOOKS):
        some = queries[first : first + MAX_LOOKS]
        found += await _look(store, [Ask(q.key, q.sub_us, q.limit, q.hits, 0) for q in some])
    return found


async def _look(store: Store, asks: Sequence[Ask]) -> Sequence[Answer | StoreFault]:
    if not store.is_available():
        return [StoreFault.UNREACHABLE] * len(asks)
    try:
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            return await store.acquire(asks)
    except TimeoutError:
        return [StoreFault.TIMEOUT] * len(asks)
    except StoreError as error:
        return [error.fault] * len(asks)
