"""The store all instances share: windows in Redis, one script call for a whole batch.

Keys (all expire by themselves): `sentinel:w:{tenant}:<window ms>` a tenant's ring, `sentinel:presence` the
instances that are alive. Needs Redis 6.0 or newer (SET KEEPTTL); scripts use Redis' own TIME.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.store.base import Answer, Ask, Refund, StoreError
from sentinel_ext.store.link import Link, Script
from sentinel_ext.store.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentinel_ext.store.endpoint import Endpoint
    from sentinel_ext.store.link import Command

PRESENCE_KEY = b"sentinel:presence"

_ASK = struct.Struct("<dIII")
_ANSWER = struct.Struct("<IIddd")
_REFUND = struct.Struct("<ddI")


class RedisStore:
    """Windows in Redis. `links` connections carry batches side by side; one more carries the rest."""

    def __init__(
        self,
        place: str | Endpoint,
        *,
        links: int,
        jitter: Callable[[], float],
        changed: Callable[[bool, str], None] = lambda _up, _why: None,
        refusals: Refusals | None = None,
    ) -> None:
        """Know where to connect; `start` does it.

        Args:
            place: redis://, rediss:// or unix:// URL, with password and options as redis-py reads them; or
                what makes the connections.
            links: how many batches may be under way at once.
            jitter: a number in [0, 1), spreads reconnects.
            changed: told (is up, why) when the store as a whole comes or goes.
            refusals: hears what Redis refuses; several stores may share it.
        """
        refusals = Refusals() if refusals is None else refusals
        self._changed = changed
        self._is_up = False
        self._was_told: bool | None = None
        self._links = [Link(place, self._link_changed, jitter, refusals) for _ in range(links)]
        self._side = Link(place, lambda _up, _why: None, jitter, refusals)
        self._window, self._refund, self._presence = Script("window"), Script("refund"), Script("presence")
        self._reset, self._fleet = Script("reset"), Script("fleet")

    def is_available(self) -> bool:
        """Say whether a connection for batches is up."""
        return self._is_up

    async def start(self) -> None:
        """Connect in the background."""
        for link in (*self._links, self._side):
            await link.start()

    async def acquire(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Answer all asks in one script call. See store/lua/window.lua for the wire format."""
        link = self._free_link()
        async with link.lock:
            reply = await link.call(self._window, [a.key for a in asks], pack_asks(asks))
        return unpack_answers(reply, len(asks))

    async def hot(self, script: Script, keys: Sequence[bytes], *args: bytes | str | int) -> Any:  # noqa: ANN401  as Redis replies
        """Run a script of the request path, on a connection that is free.

        Raises:
            StoreError: with the fault.
        """
        link = self._free_link()
        async with link.lock:
            return await link.call(script, keys, *args)

    async def many(
        self, commands: Sequence[Command], *, asking: bool = False, is_hot: bool = True
    ) -> list[Any]:
        """Run scripts in one write; each result is Redis' reply or a StoreError.

        Args:
            asking: see Link.many.
            is_hot: of the request path.

        Raises:
            StoreError: the connection failed.
        """
        link = self._free_link() if is_hot else self._side
        async with link.lock:
            return await link.many(commands, asking=asking)

    async def refund(self, refunds: Sequence[Refund]) -> None:
        """Give hits back to the sub-windows that took them."""
        async with self._side.lock:
            await self._side.call(self._refund, [r.key for r in refunds], pack_refunds(refunds))

    async def forget(self, keys: Sequence[bytes]) -> int:
        """Forget windows."""
        return int(await self.run(self._reset, keys))

    async def presence(self, instance: str, lease_ms: int, *, leaving: bool = False) -> int:
        """Sign on or off; count who is alive."""
        async with self._side.lock:
            word = "leave" if leaving else ""
            return int(await self._side.call(self._presence, [PRESENCE_KEY], instance, lease_ms, word))

    async def fleet(self, at_most: int) -> Sequence[str]:
        """Name who is signed on."""
        return fleet_names(await self.run(self._fleet, [PRESENCE_KEY], at_most))

    async def run(self, script: Script, keys: Sequence[bytes], *args: bytes | str | int) -> Any:  # noqa: ANN401  as Redis replies
        """Run a script beside the request path, on the connection that carries no batches.

        Raises:
            StoreError: with the fault.
        """
        async with self._side.lock:
            return await self._side.call(script, keys, *args)

    async def close(self) -> None:
        """Disconnect."""
        for link in (*self._links, self._side):
            await link.close()
        self._is_up = False

    def _free_link(self) -> Link:
        up = [link for link in self._links if link.is_up]
        if not up:
            raise StoreError(StoreFault.UNREACHABLE, "not connected to Redis")
        return next((link for link in up if not link.lock.locked()), up[0])

    def _link_changed(self, _up: bool, why: str) -> None:
        # Kept, not computed: every request asks is_available.
        self._is_up = any(link.is_up for link in self._links)
        if self._is_up is not self._was_told:
            self._was_told = self._is_up
            self._changed(self._is_up, why)


def pack_asks(asks: Sequence[Ask]) -> bytes:
    """Return window.lua's argument."""
    pack = _ASK.pack
    return b"".join([pack(a.sub_us, a.limit, a.hits, a.count) for a in asks])


def unpack_answers(reply: object, count: int) -> list[Answer]:
    """Read window.lua's reply.

    Raises:
        StoreError: it is not one.
    """
    if not isinstance(reply, bytes) or len(reply) != _ANSWER.size * count:
        raise StoreError(StoreFault.ERROR, "Redis replied something else than the window script does")
    return [
        Answer(granted, used, int(reset_us), int(retry_us), int(slot))
        for granted, used, reset_us, retry_us, slot in _ANSWER.iter_unpack(reply)
    ]


def fleet_names(reply: object) -> list[str]:
    """Read fleet.lua's reply.

    Raises:
        StoreError: it is not one.
    """
    if not isinstance(reply, list) or not all(isinstance(each, bytes) for each in reply):
        raise StoreError(StoreFault.ERROR, "Redis replied something else than the fleet script does")
    return [each.decode(errors="replace") for each in reply]


def pack_refunds(refunds: Sequence[Refund]) -> bytes:
    """Return refund.lua's argument."""
    return b"".join([_REFUND.pack(r.sub_us, r.slot, r.hits) for r in refunds])
