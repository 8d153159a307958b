"""How many instances share the store: each signs on every second, a mark lapses after three."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from sentinel_ext.store.base import StoreError

if TYPE_CHECKING:
    from sentinel_ext.store.base import Store

PERIOD_S = 1.0
# People are told no more names than that; the number is told in any case.
MAX_NAMES = 64
NAMES_TIMEOUT_S = 0.5
LEASE_MS = 3_000


class Presence:
    """Keeps this instance's mark fresh and remembers how many there are.

    Attributes:
        instances: the last number heard of, at least 1. It stands while the store is away: that is what a
            local window divides its limit by.
    """

    def __init__(self, store: Store, instance: str, at_least: int = 1) -> None:
        """Sign on as `instance` once started; until the store was heard, there are `at_least` instances."""
        self.instances = at_least
        self._store = store
        self._instance = instance
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to sign on."""
        self._task = asyncio.create_task(self._refresh(), name="store-presence")

    async def close(self) -> None:
        """Sign off, so that the others' shares grow at once and not when the mark lapses."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        with contextlib.suppress(StoreError):
            await self._store.presence(self._instance, LEASE_MS, leaving=True)

    async def names(self) -> tuple[str, ...]:
        """Name the instances, at most MAX_NAMES; none while the store does not tell."""
        try:
            async with asyncio.timeout(NAMES_TIMEOUT_S):
                return tuple(sorted(await self._store.fleet(MAX_NAMES)))
        except (StoreError, TimeoutError):
            return ()

    async def _refresh(self) -> None:
        while True:
            pause = PERIOD_S
            try:
                self.instances = max(1, await self._store.presence(self._instance, LEASE_MS))
            except StoreError:
                pause = PERIOD_S / 5  # back soon: a restarted store knows nobody yet
            await asyncio.sleep(pause)
