"""Gathers what waits of one event-loop turn into one store call, under a deadline.

No fixed delay: a worker that is free takes what is there on the loop's next turn; while all are busy the
queue grows and the next call is larger. Measured on Redis 6.2: 123 µs for one window alone, 6.7 µs of Redis'
CPU per window in a batch of 100.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.store.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Calls under way at once: one on the wire while the other's reply is read.
WORKERS = 2
# Requests in one call. Redis runs one script at a time: 512 windows hold it for about 3.5 ms.
MAX_BATCH = 512
# Requests waiting for a worker; beyond it the store counts as overloaded and failure modes decide at once.
MAX_QUEUED = 8_192
# What waits to be given back; beyond it hits stay counted until they leave the window by themselves.
MAX_REFUNDS = 4_096
# A deadline that fires late because this process was busy must not be taken for a slow store: replies that
# have already arrived are read first. Reading takes two turns: bytes to the stream, stream to the worker.
GRACE_TURNS = 3


class Waiting(Protocol):
    """A request that waits for the store."""

    queued_at: float
    is_settled: bool


class Source(Protocol):
    """A store, as far as the queue is concerned."""

    def is_available(self) -> bool:
        """Say whether asking now can succeed, without asking."""
        ...


W = TypeVar("W", bound=Waiting)
R = TypeVar("R")
S = TypeVar("S", bound=Source)


class Trip(Generic[W]):
    """One call to the store, and who waits for it."""

    __slots__ = ("asks", "groups", "is_over", "timer", "waiters")

    def __init__(self, waiters: Sequence[W], asks: Sequence[Any], groups: Sequence[Any] = ()) -> None:
        """Ask `asks` for `waiters`; `groups` is what the subclass needs to share the answers out."""
        self.waiters = waiters
        self.asks = asks
        self.groups = groups
        self.is_over = False
        self.timer: asyncio.TimerHandle | None = None


class Turns(ABC, Generic[W, R, S]):
    """Queue, workers, deadlines and refunds. Belongs to one event loop; subclasses know what is asked."""

    def __init__(
        self,
        store: S,
        timeout_s: float,
        observe: Callable[[float, int, StoreFault | None], None] = lambda _s, _n, _f: None,
        *,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        """Make it; `start` brings the workers up.

        Args:
            timeout_s: how long a request waits for the store.
            observe: told (seconds, what was asked for, fault or None) of every store call.
        """
        self._store = store
        self._timeout_s = timeout_s
        self._observe = observe
        self._max_queued = max_queued
        self._queue: deque[W] = deque()
        self._queue_timer: asyncio.TimerHandle | None = None
        self._idle: list[asyncio.Future[None]] = []
        self._refunds: deque[R] = deque(maxlen=MAX_REFUNDS)
        self._refund_wanted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # What a subclass knows.

    @abstractmethod
    def _trip(self, waiters: Sequence[W]) -> Trip[W]:
        """Say what is asked for these."""

    @abstractmethod
    async def _call(self, trip: Trip[W]) -> Sequence[Any]:
        """Ask the store."""

    @abstractmethod
    def _share_out(self, trip: Trip[W], answers: Sequence[Any]) -> None:
        """Settle each waiter with its part of the answers."""

    @abstractmethod
    def _settle_fault(self, waiter: W, fault: StoreFault) -> None:
        """Tell a waiter that there is no answer."""

    @abstractmethod
    async def _send_back(self, refunds: Sequence[R]) -> None:
        """Give back at the store."""

    async def start(self) -> None:
        """Start the workers on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._work(), name="store-worker") for _ in range(WORKERS)]
        self._tasks.append(asyncio.create_task(self._send_refunds(), name="store-refunds"))

    def submit(self, waiter: W) -> StoreFault | None:
        """Queue `waiter`, or return at once why the store cannot be asked."""
        if not self._store.is_available():
            return StoreFault.UNREACHABLE
        queue = self._queue
        if len(queue) >= self._max_queued:
            return StoreFault.OVERLOADED
        waiter.queued_at = self._loop.time()
        queue.append(waiter)
        if len(queue) == 1:  # behind others a worker is already woken, or the deadline armed
            self._wake_or_arm()
        return None

    def _give_back(self, refund: R) -> None:
        """Send `refund`, soon."""
        self._refunds.append(refund)
        self._refund_wanted.set()

    async def close(self) -> None:
        """Fail what still waits, send the last refunds, stop the workers."""
        while self._queue:
            self._settle(self._queue.popleft(), StoreFault.UNREACHABLE)
        if self._queue_timer is not None:
            self._queue_timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        with contextlib.suppress(StoreError):
            await self._flush_refunds()

    async def _work(self) -> None:
        while True:
            if not self._queue:
                idle = self._loop.create_future()
                self._idle.append(idle)
                try:
                    await idle
                finally:
                    if idle in self._idle:
                        self._idle.remove(idle)
            waiters = self._take()
            if self._queue:
                self._wake_or_arm()
            if waiters:
                await self._ask(self._trip(waiters))

    def _take(self) -> list[W]:
        taken: list[W] = []
        while self._queue and len(taken) < MAX_BATCH:
            waiter = self._queue.popleft()
            if not waiter.is_settled:  # cancelled while it waited
                taken.append(waiter)
        return taken

    def _wake_or_arm(self) -> None:
        """Wake a free worker for the queue; with all of them busy, see to it that nobody waits too long."""
        if self._idle:
            self._idle.pop().set_result(None)
        elif self._queue_timer is None:
            due = self._queue[0].queued_at + self._timeout_s
            self._queue_timer = self._loop.call_at(due, self._expire_queue)

    async def _ask(self, batch: Trip[W]) -> None:
        started = self._loop.time()
        batch.timer = self._loop.call_at(started + self._timeout_s, self._expire, batch, GRACE_TURNS)
        fault: StoreFault | None = None
        try:
            answers = await self._call(batch)
        except StoreError as error:
            fault = error.fault
            self._fail(batch, fault)
        except BaseException:
            self._fail(batch, StoreFault.ERROR)
            raise
        else:
            self._share_out(batch, answers)
        finally:
            batch.is_over = True
            batch.timer.cancel()
            self._observe(self._loop.time() - started, len(batch.asks), fault)

    def _fail(self, batch: Trip[W], fault: StoreFault) -> None:
        for waiter in batch.waiters:
            self._settle(waiter, fault)

    def _settle(self, waiter: W, fault: StoreFault) -> None:
        if not waiter.is_settled:
            waiter.is_settled = True
            self._settle_fault(waiter, fault)

    def _expire(self, batch: Trip[W], turns: int) -> None:
        if batch.is_over:
            return
        if turns:
            self._loop.call_soon(self._expire, batch, turns - 1)
        else:
            self._fail(batch, StoreFault.TIMEOUT)

    def _expire_queue(self) -> None:
        """Every worker is busy with a slow store: those who have waited long enough go by failure mode."""
        self._queue_timer = None
        due = self._loop.time() - self._timeout_s + 1e-4  # timers fire up to a clock tick early
        queue = self._queue
        while queue and queue[0].queued_at <= due:
            self._settle(queue.popleft(), StoreFault.TIMEOUT)
        if queue:
            self._queue_timer = self._loop.call_at(queue[0].queued_at + self._timeout_s, self._expire_queue)

    async def _send_refunds(self) -> None:
        while True:
            await self._refund_wanted.wait()
            self._refund_wanted.clear()
            # The store away: hits stay counted until they leave the window, which is the safe side.
            with contextlib.suppress(StoreError):
                await self._flush_refunds()

    async def _flush_refunds(self) -> None:
        while self._refunds:
            batch = [self._refunds.popleft() for _ in range(min(len(self._refunds), MAX_BATCH))]
            await self._send_back(batch)
