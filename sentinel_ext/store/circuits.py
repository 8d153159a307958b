"""Circuit breakers that all instances share: in Redis (store/lua/breaker.lua), or in memory for one instance.

Keys, hash-tagged by upstream: `sentinel:cb:{upstream}` the breaker, `…:permits` the probes under way,
`…:seen:<instance>` which of an instance's batches was counted last. All expire by themselves, but for a
breaker that an operator forced: that one stands until changed.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import msgspec

from sentinel_ext.core.breaker import Breaker, BreakerOptions, CircuitState, Force, TripReason, View
from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.keys import hash_tagged
from sentinel_ext.core.tally import Batch
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.link import Script

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sentinel_ext.store.link import Command

    Run: TypeAlias = Callable[..., Awaitable[Any]]
    Scripts: TypeAlias = Callable[..., Awaitable[list[Any]]]

# Redis serves nobody else while a script runs: this many operations take it about 1.5 ms.
MAX_OPERATIONS: Final = 128
# What one process remembers, at about 1.5 KB each; upstreams come from routes, so there are few.
MAX_BREAKERS: Final = 4_096

_REPLY = struct.Struct("<BBBBBddIIddd")
# Places are the numbers of breaker.lua.
_STATES = (CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN)
_FORCES = (Force.AUTO, Force.OPEN, Force.CLOSED)
_REASONS = (None, *TripReason)


class Report(msgspec.Struct, frozen=True, gc=False):
    """Count a batch, and ask how the breaker stands; an empty batch only asks."""

    upstream: str
    options: BreakerOptions
    epoch: int
    batch: Batch


class Acquire(msgspec.Struct, frozen=True, gc=False):
    """Ask to send one probe under an id nobody else uses."""

    upstream: str
    options: BreakerOptions
    permit: str


class Result(msgspec.Struct, frozen=True, gc=False):
    """Say how a probe ended."""

    upstream: str
    options: BreakerOptions
    epoch: int
    permit: str
    ok: bool


class Release(msgspec.Struct, frozen=True, gc=False):
    """Give back the permit of a request that never left."""

    upstream: str
    options: BreakerOptions
    permit: str


class Obey(msgspec.Struct, frozen=True, gc=False):
    """An operator forces the breaker, or lets it go."""

    upstream: str
    options: BreakerOptions
    mode: Force


Operation: TypeAlias = Report | Acquire | Result | Release | Obey


class CircuitStore(Protocol):
    """The breakers of all upstreams."""

    async def call(self, operations: Sequence[Operation]) -> Sequence[tuple[bool, View]]:
        """Do all operations in their order, at most MAX_OPERATIONS of them in one atomic step.

        Each reply says whether the operation did what it asked (counted, granted, known, changed), and how
        the breaker stands after it. Every operation may be sent again when its reply was lost.

        Raises:
            StoreError: some or all may have been done.
            ValueError: more than MAX_OPERATIONS.
        """
        ...


class MemoryCircuits:
    """Breakers of a single instance. `now_ms` is any clock in milliseconds."""

    def __init__(self, now_ms: Callable[[], int], max_breakers: int = MAX_BREAKERS) -> None:
        """Start with none."""
        self._now_ms = now_ms
        self._max_breakers = max_breakers
        self._breakers: OrderedDict[str, _Remembered] = OrderedDict()

    async def call(self, operations: Sequence[Operation]) -> Sequence[tuple[bool, View]]:
        """See CircuitStore."""
        _check_size(operations)
        now_ms = self._now_ms()
        return [self._breaker(operation).do(operation, now_ms) for operation in operations]

    def __len__(self) -> int:
        return len(self._breakers)

    def _breaker(self, operation: Operation) -> _Remembered:
        kept = self._breakers.get(operation.upstream)
        if kept is None:
            kept = self._breakers[operation.upstream] = _Remembered(operation.options)
            if len(self._breakers) > self._max_breakers:
                self._evict()
        else:
            self._breakers.move_to_end(operation.upstream)
        kept.breaker.options = operation.options
        return kept

    def _evict(self) -> None:
        """Forget the one that was asked least recently; a forced one only where all are."""
        auto = (name for name, kept in self._breakers.items() if not kept.breaker.is_forced)
        del self._breakers[next(auto, next(iter(self._breakers)))]


class _Remembered:
    """A breaker, and which batch it counted last: the part of the script that is not arithmetic."""

    __slots__ = ("_newest", "breaker")

    def __init__(self, options: BreakerOptions) -> None:
        self.breaker = Breaker(options)
        self._newest = 0

    def do(self, operation: Operation, now_ms: int) -> tuple[bool, View]:
        breaker = self.breaker
        match operation:
            case Report():
                return self._report(operation, now_ms)
            case Acquire():
                return breaker.acquire(operation.permit, now_ms)
            case Result():
                return breaker.result(operation.epoch, operation.permit, operation.ok, now_ms)
            case Release():
                return breaker.release(operation.permit, now_ms)
            case Obey():
                return breaker.force(operation.mode, now_ms)

    def _report(self, report: Report, now_ms: int) -> tuple[bool, View]:
        serial = report.batch.serial
        if 0 < serial <= self._newest:
            return self.breaker.report(report.epoch, Batch(), now_ms)
        counted, view = self.breaker.report(report.epoch, report.batch, now_ms)
        if counted and report.batch.ok + report.batch.failed:
            self._newest = max(self._newest, serial)
        return counted, view


class RedisCircuits:
    """Breakers in Redis."""

    def __init__(self, run: Run, instance: str, scripts: Scripts | None = None) -> None:
        """Use a connection that is not on the request path.

        Args:
            run: RedisStore.run: a script, its keys, its arguments.
            instance: a name no other process has, not even this one after a restart.
            scripts: ClusterStore.scripts: upstreams lie apart, and each one's operations are a call.
        """
        self._run = run
        self._instance = instance
        self._scripts = scripts
        self._script = Script("breaker")

    async def call(self, operations: Sequence[Operation]) -> Sequence[tuple[bool, View]]:
        """See CircuitStore."""
        _check_size(operations)
        if not operations:
            return []
        if self._scripts is not None:
            return await self._split(self._scripts, operations)
        script, keys, entries = self._command(operations)
        return _replies(await self._run(script, keys, *entries), len(operations))

    async def _split(self, scripts: Scripts, operations: Sequence[Operation]) -> Sequence[tuple[bool, View]]:
        places: dict[str, list[int]] = {}
        for at, operation in enumerate(operations):
            places.setdefault(operation.upstream, []).append(at)
        commands = [self._command([operations[at] for at in each]) for each in places.values()]
        found: dict[int, tuple[bool, View]] = {}
        for each, reply in zip(places.values(), await scripts(commands, is_hot=False), strict=True):
            found.update(zip(each, _replies(reply, len(each)), strict=True))
        return [found[at] for at in range(len(operations))]

    def _command(self, operations: Sequence[Operation]) -> Command:
        keys = [key for operation in operations for key in self._keys(operation.upstream)]
        return self._script, keys, [msgspec.msgpack.encode([_entry(operation) for operation in operations])]

    def _keys(self, upstream: str) -> tuple[bytes, bytes, bytes]:
        key = circuit_key(upstream)
        return key, key + b":permits", b"%b:seen:%b" % (key, self._instance.encode())


def circuit_key(upstream: str) -> bytes:
    """Return the key of an upstream's breaker; no two names share one."""
    return f"sentinel:cb:{hash_tagged(upstream)}".encode()


def _replies(reply: Any, count: int) -> list[tuple[bool, View]]:  # noqa: ANN401  as Redis replies
    if isinstance(reply, StoreError):
        raise reply
    if not isinstance(reply, bytes) or len(reply) != _REPLY.size * count:
        raise StoreError(StoreFault.ERROR, "Redis replied something else than the breaker script does")
    return [_read(*row) for row in _REPLY.iter_unpack(reply)]


def _check_size(operations: Sequence[Operation]) -> None:
    if len(operations) > MAX_OPERATIONS:
        raise ValueError(f"{len(operations)} operations in one call, at most {MAX_OPERATIONS}")


def _entry(operation: Operation) -> tuple[object, ...]:
    """Write an operation as breaker.lua reads it."""
    options = _options(operation.options)
    match operation:
        case Report(epoch=epoch, batch=b):
            counts = (b.ok, b.failed, b.slow, b.lead, b.trail, b.longest)
            return "rep", *options, epoch, b.serial, *counts
        case Acquire(permit=permit):
            return "acq", *options, permit
        case Result(epoch=epoch, permit=permit, ok=ok):
            return "res", *options, epoch, permit, int(ok)
        case Release(permit=permit):
            return "rel", *options, permit
        case Obey(mode=mode):
            return "force", *options, _FORCES.index(mode)


def _options(options: BreakerOptions) -> tuple[float, ...]:
    return (
        options.failure_threshold,
        options.consecutive_failures,
        options.min_requests,
        options.slot_ms,
        options.cooldown_ms,
        options.half_open_max,
        options.successes_needed,
        options.probe_ttl_ms,
        options.slow_rate or 0,
        options.life_ms,
    )


def _read(done: int, state: int, force: int, reason: int, level: int, *rest: float) -> tuple[bool, View]:
    epoch, retry_ms, permits, consecutive, ok, failed, slow = map(int, rest)
    view = View(
        _STATES[state], epoch, retry_ms, _FORCES[force], _REASONS[reason], level, permits, consecutive,
        ok, failed, slow,
    )  # fmt: skip
    return done == 1, view
