"""How loaded each upstream is, as all instances report it: in Redis (store/lua/load.lua), or in memory.

Keys, hash-tagged by upstream, all expire by themselves: `sentinel:load:{upstream}` the reports,
`…:state` what is known together, `…:mail:<instance>` ends of requests that another instance heard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import msgspec

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.keys import hash_tagged
from sentinel_ext.core.report import Report, Shared
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.link import Script

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    Run: TypeAlias = Callable[..., Awaitable[Any]]

# Generation, tier and count.
End: TypeAlias = tuple[int, int, int]

# A report that is older says nothing any more, and its instance is gone.
REPORT_LIFE_MS: Final = 3_000
# Who has the turn and does not use it loses it after that.
TURN_MS: Final = 150
# Pieces of mail that wait for an instance; beyond it the oldest go, and their ends expire as lost.
MAX_MAIL: Final = 256
# Reports that one call of the law reads; an upstream with more instances is judged by these.
MAX_REPORTS: Final = 1_024


class Exchanged(msgspec.Struct, frozen=True, gc=False):
    """What an exchange brought.

    Attributes:
        now_ms: the store's clock.
        version: of the shared state; to be named in `commit`.
        has_turn: this instance makes the next state, from `reports`.
        ends: requests of this instance whose end another one heard.
    """

    now_ms: float
    version: int
    shared: Shared
    has_turn: bool
    reports: tuple[Report, ...]
    ends: tuple[End, ...]


class LoadStore(Protocol):
    """Reports and shared state of all upstreams."""

    async def exchange(
        self, upstream: str, report: Report, mail: Mapping[str, Sequence[End]], due_ms: float
    ) -> Exchanged:
        """Leave a report and mail for others; learn the shared state.

        Raises:
            StoreError: nothing is known; report and mail may have arrived. Mail is not sent again: told twice
                it would count twice, told never it expires.
        """
        ...

    async def commit(self, upstream: str, version: int, shared: Shared) -> bool:
        """Make `shared` the state, if it still is at `version`.

        Raises:
            StoreError: it may or may not be.
        """
        ...

    async def leave(self, upstream: str) -> None:
        """Take this instance's report away: it stops.

        Raises:
            StoreError: the report expires by itself.
        """
        ...


class MemoryLoads:
    """The store of a single instance. `now_ms` is any clock in milliseconds."""

    def __init__(self, now_ms: Callable[[], float]) -> None:
        """Start empty; the owner's table of upstreams is bounded, so this one is."""
        self._now_ms = now_ms
        self._shared: dict[str, Shared] = {}

    async def exchange(
        self,
        upstream: str,
        report: Report,
        mail: Mapping[str, Sequence[End]],  # noqa: ARG002  a single instance has nobody to write to
        due_ms: float,
    ) -> Exchanged:
        """See LoadStore."""
        now_ms, shared = self._now_ms(), self._shared.get(upstream, Shared())
        has_turn = now_ms - shared.at_ms >= due_ms
        return Exchanged(now_ms, 0, shared, has_turn, (report,) if has_turn else (), ())

    async def commit(self, upstream: str, version: int, shared: Shared) -> bool:  # noqa: ARG002  likewise
        """See LoadStore."""
        self._shared[upstream] = shared
        return True

    async def leave(self, upstream: str) -> None:
        """See LoadStore."""
        self._shared.pop(upstream, None)


class RedisLoads:
    """Reports in Redis."""

    def __init__(self, run: Run, instance: str) -> None:
        """Use a connection that is not on the request path.

        Args:
            run: RedisStore.run: a script, its keys, its arguments.
            instance: a name no other process has; letters and digits.
        """
        self._run = run
        self._instance = instance
        self._load, self._commit = Script("load"), Script("commit")

    async def exchange(
        self, upstream: str, report: Report, mail: Mapping[str, Sequence[End]], due_ms: float
    ) -> Exchanged:
        """See LoadStore."""
        key = load_key(upstream)
        to = list(mail)
        keys = [key, key + b":state", *(b"%b:mail:%b" % (key, who.encode()) for who in (self._instance, *to))]
        pieces = [msgspec.msgpack.encode(mail[who]) for who in to]
        reply = await self._run(
            self._load,
            keys,
            self._instance,
            msgspec.msgpack.encode(report),
            REPORT_LIFE_MS,
            int(due_ms),
            TURN_MS,
            MAX_MAIL,
            *pieces,
        )
        return _read(reply)

    async def commit(self, upstream: str, version: int, shared: Shared) -> bool:
        """See LoadStore."""
        key = load_key(upstream) + b":state"
        state = msgspec.msgpack.encode(shared)
        return bool(await self._run(self._commit, [key], version, int(shared.at_ms), state))

    async def leave(self, upstream: str) -> None:
        """See LoadStore."""
        key = load_key(upstream)
        mine = b"%b:mail:%b" % (key, self._instance.encode())
        await self._run(
            self._load, [key, key + b":state", mine], self._instance, "", REPORT_LIFE_MS, 0, TURN_MS, MAX_MAIL
        )


def load_key(upstream: str) -> bytes:
    """Return the key of an upstream's reports; no two names share one."""
    return f"sentinel:load:{hash_tagged(upstream)}".encode()


_decode_shared = msgspec.msgpack.Decoder(Shared).decode
_decode_report = msgspec.msgpack.Decoder(Report).decode
_decode_ends = msgspec.msgpack.Decoder(tuple[End, ...]).decode


def _read(reply: Any) -> Exchanged:  # noqa: ANN401  as Redis replies
    try:
        now, version, state, turn, reports, mail = reply
        return Exchanged(
            float(now),
            int(version),
            _shared(state),
            turn == 1,
            tuple(report for raw in reports[:MAX_REPORTS] if (report := _report(raw)) is not None),
            tuple(end for piece in mail for end in _ends(piece)),
        )
    except (TypeError, ValueError) as error:
        raise StoreError(
            StoreFault.ERROR, "Redis replied something else than the load script does"
        ) from error


# During a rolling update instances of two versions share a store: what one cannot read, it leaves out.


def _shared(raw: bytes) -> Shared:
    try:
        return _decode_shared(raw) if raw else Shared()
    except msgspec.MsgspecError:
        return Shared()


def _report(raw: bytes) -> Report | None:
    try:
        return _decode_report(raw)
    except msgspec.MsgspecError:
        return None


def _ends(raw: bytes) -> tuple[End, ...]:
    try:
        return _decode_ends(raw)
    except msgspec.MsgspecError:
        return ()
