"""A Redis Cluster as one store: every script goes to the master of its keys' slot.

A script's keys must share a slot, so a batch becomes a script call for each slot in it; those for one master
travel in one write. redis-py reads the topology; what is asked per request goes over our own links.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from redis.crc import key_slot
from redis.exceptions import RedisError

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.store import redis as windows
from sentinel_ext.store.base import Answer, StoreError
from sentinel_ext.store.endpoint import FixedEndpoint
from sentinel_ext.store.link import RedirectError, Script
from sentinel_ext.store.redis import PRESENCE_KEY, RedisStore
from sentinel_ext.store.refusals import Refusals
from sentinel_ext.store.topology import Address, read_slots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from sentinel_ext.redis_url import Targets
    from sentinel_ext.store.base import Ask, Refund
    from sentinel_ext.store.credentials import PasswordFile
    from sentinel_ext.store.link import Command

    # A node, and whether it is asked for a slot that is on its way there.
    _Way: TypeAlias = tuple[Address, bool]

# Redis Cluster's own number.
SLOTS: Final = 16_384
# Without a reason to look earlier. A slot that has moved says so at once.
REFRESH_S: Final = 5.0
# While a node is away: how soon its replica may have taken its place.
HURRY_S: Final = 0.25
# A cluster larger than that is not one for counters.
MAX_NODES: Final = 256


class ClusterStore:
    """Windows in a Redis Cluster; the links of each master are those of a RedisStore."""

    def __init__(
        self,
        targets: Targets,
        credentials: PasswordFile | None,
        *,
        links: int,
        jitter: Callable[[], float],
        changed: Callable[[bool, str], None] = lambda _up, _why: None,
    ) -> None:
        """Know whom to ask for the topology; `start` does it. Arguments as RedisStore's."""
        self._targets, self._credentials = targets, credentials
        self._links, self._jitter, self._changed = links, jitter, changed
        self._refusals = Refusals()
        self._nodes: dict[Address, RedisStore] = {}
        self._owners: list[Address | None] = [None] * SLOTS
        self._is_complete = False
        self._was_told: bool | None = None
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._window, self._refund, self._presence = Script("window"), Script("refund"), Script("presence")
        self._reset, self._fleet = Script("reset"), Script("fleet")

    def is_available(self) -> bool:
        """Say whether any master can be asked; a slot whose master is away fails alone."""
        return self._is_complete and any(node.is_available() for node in self._nodes.values())

    async def start(self) -> None:
        """Read the topology and connect, in the background."""
        self._task = asyncio.create_task(self._follow(), name="store-topology")

    async def close(self) -> None:
        """Disconnect from all."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        for node in list(self._nodes.values()):
            await node.close()
        self._nodes.clear()
        self._is_complete = False

    # The store's interface (store/base.py).

    async def acquire(self, asks: Sequence[Ask]) -> Sequence[Answer | StoreFault]:
        """Answer each slot's asks in one atomic step; those of a slot that cannot be asked get a fault."""
        by_slot = _by_slot([ask.key for ask in asks])
        commands: list[Command] = []
        for places in by_slot.values():
            chosen = [asks[at] for at in places]
            commands.append((self._window, [ask.key for ask in chosen], [windows.pack_asks(chosen)]))
        answers: list[Answer | StoreFault] = [StoreFault.ERROR] * len(asks)
        for places, result in zip(by_slot.values(), await self.scripts(commands), strict=True):
            try:
                if isinstance(result, StoreError):
                    raise result
                found: Sequence[Answer | StoreFault] = windows.unpack_answers(result, len(places))
            except StoreError as error:
                found = [error.fault] * len(places)
            for at, answer in zip(places, found, strict=True):
                answers[at] = answer
        return answers

    async def refund(self, refunds: Sequence[Refund]) -> None:
        """Give hits back, slot by slot."""
        by_slot = _by_slot([refund.key for refund in refunds])
        commands: list[Command] = []
        for places in by_slot.values():
            chosen = [refunds[at] for at in places]
            commands.append((self._refund, [each.key for each in chosen], [windows.pack_refunds(chosen)]))
        raise_first(await self.scripts(commands))

    async def forget(self, keys: Sequence[bytes]) -> int:
        """Forget windows, each at its slot's master."""
        return sum([int(await self.run(self._reset, [key])) for key in keys])

    async def presence(self, instance: str, lease_ms: int, *, leaving: bool = False) -> int:
        """Sign on or off; count who is alive."""
        word = "leave" if leaving else ""
        return int(await self.run(self._presence, [PRESENCE_KEY], instance, lease_ms, word))

    async def fleet(self, at_most: int) -> Sequence[str]:
        """Name who is signed on."""
        return windows.fleet_names(await self.run(self._fleet, [PRESENCE_KEY], at_most))

    async def run(self, script: Script, keys: Sequence[bytes], *args: bytes | str | int) -> Any:  # noqa: ANN401  as Redis replies
        """Run a script beside the request path; all its keys share a slot.

        Raises:
            StoreError: with the fault.
        """
        (result,) = await self.scripts([(script, keys, args)], is_hot=False)
        if isinstance(result, StoreError):
            raise result
        return result

    async def scripts(self, commands: Sequence[Command], *, is_hot: bool = True) -> list[Any]:
        """Run scripts, each at its slot's master; each result is Redis' reply or a StoreError.

        Args:
            is_hot: of the request path.
        """
        nobody = StoreError(StoreFault.UNREACHABLE, "the slot has no master")
        results: list[Any] = [nobody] * len(commands)
        ways: dict[_Way, list[int]] = {}
        for at, (_, keys, _) in enumerate(commands):
            owner = self._owners[key_slot(keys[0])]
            if owner is not None:
                ways.setdefault((owner, False), []).append(at)
        await self._send(ways, commands, results, is_hot=is_hot)
        redirected: dict[_Way, list[int]] = {}
        for at, result in enumerate(results):
            if isinstance(result, RedirectError):
                self._moved(result)
                to = Address(result.host, result.port)
                redirected.setdefault((to, not result.is_moved), []).append(at)
            elif isinstance(result, StoreError):
                self._hurry.set()
        if redirected:
            await self._send(redirected, commands, results, is_hot=is_hot)
        return results

    async def _send(
        self, ways: dict[_Way, list[int]], commands: Sequence[Command], results: list[Any], *, is_hot: bool
    ) -> None:
        """Ask all masters at the same time and write their replies into `results`."""
        asked = [
            self._many(owner, [commands[at] for at in places], asking=asking, is_hot=is_hot)
            for (owner, asking), places in ways.items()
        ]
        # A task each, which costs as much as the call: not for one master alone.
        replies_of_all = [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked)
        for places, replies in zip(ways.values(), replies_of_all, strict=True):
            for at, reply in zip(places, replies, strict=True):
                results[at] = reply

    async def _many(
        self, owner: Address, commands: Sequence[Command], *, asking: bool, is_hot: bool
    ) -> list[Any]:
        node = self._nodes.get(owner)
        if node is None:
            nobody = StoreError(StoreFault.UNREACHABLE, "no connection to the slot's master yet")
            return [nobody] * len(commands)
        try:
            results = await node.many(commands, asking=asking, is_hot=is_hot)
        except StoreError as error:
            return [error] * len(commands)
        for result in results:
            if isinstance(result, RedirectError):
                result.host = result.host or owner.host
        return results

    def _moved(self, redirect: RedirectError) -> None:
        if redirect.is_moved and 0 <= redirect.slot < SLOTS:
            self._owners[redirect.slot] = Address(redirect.host, redirect.port)
        self._hurry.set()

    # Topology.

    async def _follow(self) -> None:
        while True:
            try:
                await self._refresh()
                pause = REFRESH_S
            except (RedisError, OSError, StoreError, TimeoutError) as error:
                pause = HURRY_S
                self._refusals.hear(str(error), asyncio.get_running_loop().time())
                self._tell(str(error))
            is_hurried = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._hurry.wait()
                    is_hurried = True
            if is_hurried:
                # A failover takes seconds: ask on, but not as fast as requests fail.
                await asyncio.sleep(HURRY_S)
                self._hurry.clear()

    async def _refresh(self) -> None:
        """Ask any node that answers, the known ones first."""
        urls = [*(self._url(address) for address in self._nodes), *self._targets.urls]
        last: Exception = StoreError(StoreFault.UNREACHABLE, "no node of the cluster answers")
        for url in urls:
            try:
                slots = await read_slots(FixedEndpoint(url, self._credentials), url)
            except (RedisError, OSError, TimeoutError) as error:
                last = error
                continue
            await self._adopt(slots)
            return
        raise last

    async def _adopt(self, slots: Sequence[tuple[int, int, Address]]) -> None:
        owners: list[Address | None] = [None] * SLOTS
        for first, last, address in slots:
            owners[first : last + 1] = [address] * (last + 1 - first)
        wanted = {address for address in owners if address is not None}
        if len(wanted) > MAX_NODES:
            raise StoreError(StoreFault.ERROR, f"a cluster of more than {MAX_NODES} masters")
        for address in wanted - self._nodes.keys():
            node = self._nodes[address] = RedisStore(
                FixedEndpoint(self._url(address), self._credentials),
                links=self._links,
                jitter=self._jitter,
                changed=self._node_changed,
                refusals=self._refusals,
            )
            await node.start()
        self._owners, self._is_complete = owners, bool(wanted)
        for address in [address for address in self._nodes if address not in wanted]:
            await self._nodes.pop(address).close()

    def _url(self, address: Address) -> str:
        """Return how to reach a node: as the first host of the URL, at another place."""
        url = self._targets.urls[0]
        scheme, _, rest = url.partition("://")
        before, mark, query = rest.partition("?")
        authority, _, path = before.partition("/")
        login, at, _ = authority.rpartition("@")
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"{scheme}://{login}{at}{host}:{address.port}/{path}{mark}{query}"

    def _node_changed(self, up: bool, why: str) -> None:
        if not up:
            self._hurry.set()
        self._tell(why)

    def _tell(self, why: str) -> None:
        is_up = self.is_available()
        if is_up is not self._was_told:
            self._was_told = is_up
            self._changed(is_up, why)


def _by_slot(keys: Sequence[bytes]) -> dict[int, list[int]]:
    """Return the places of keys by their slot."""
    by_slot: dict[int, list[int]] = {}
    for at, key in enumerate(keys):
        by_slot.setdefault(key_slot(key), []).append(at)
    return by_slot


def raise_first(results: Sequence[Any]) -> None:
    """Raise the first error among results, if there is one.

    Raises:
        StoreError: that one.
    """
    for result in results:
        if isinstance(result, StoreError):
            raise result
