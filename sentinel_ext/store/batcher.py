"""Gathers the window queries of one event-loop turn into one store call, under a deadline.

No fixed delay: a worker that is free takes what is there on the loop's next turn; while all are busy the
queue grows and the next call is larger. Measured on Redis 6.2: 123 µs for one entry alone, 6.7 µs of Redis'
CPU per entry in a batch of 100.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.window import WindowQuery, WindowReply
from sentinel_ext.store.base import Answer, Ask, Refund, Store, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Calls under way at once: one on the wire while the other's reply is read.
WORKERS = 2
# Entries in one call. Redis runs one script at a time: 512 entries hold it for about 3.5 ms.
MAX_BATCH = 512
# Requests waiting for a worker; beyond it the store counts as overloaded and failure modes decide at once.
MAX_QUEUED = 8_192
# Refunds waiting to be sent; beyond it hits stay counted until they leave the window by themselves.
MAX_REFUNDS = 4_096
# A deadline that fires late because this process was busy must not be taken for a slow store: replies that
# have already arrived are read first. Reading takes two turns: bytes to the stream, stream to the worker.
GRACE_TURNS = 3


class Waiter:
    """A request that waits for the store. Subclass it with `settle`, which is called exactly once."""

    __slots__ = ("is_settled", "query", "queued_at")

    def __init__(self, query: WindowQuery) -> None:
        """Ask `query`."""
        self.query = query
        self.queued_at = 0.0
        self.is_settled = False

    def settle(self, outcome: WindowReply | StoreFault) -> bool:
        """Take the outcome; return True if the hits it was granted must be given back."""
        raise NotImplementedError

    def settle_late(self, reply: WindowReply) -> bool:
        """Take a reply that came after the deadline; return True if its hits must be given back."""
        raise NotImplementedError


class _Batch:
    __slots__ = ("asks", "groups", "is_over", "timer")

    def __init__(self, waiters: Sequence[Waiter]) -> None:
        groups: dict[tuple[bytes, int, int], list[Waiter]] = {}
        for waiter in waiters:
            query = waiter.query
            groups.setdefault((query.key, query.limit, query.hits), []).append(waiter)
        self.groups = list(groups.values())
        self.asks = [
            Ask(group[0].query.key, group[0].query.sub_us, limit, hits, len(group))
            for (_, limit, hits), group in groups.items()
        ]
        self.is_over = False
        self.timer: asyncio.TimerHandle | None = None


class Batcher:
    """Between the engine and a store. Belongs to one event loop."""

    def __init__(
        self,
        store: Store,
        timeout_s: float,
        observe: Callable[[float, int, StoreFault | None], None] = lambda _s, _n, _f: None,
        *,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        """Make it; `start` brings the workers up.

        Args:
            timeout_s: how long a request waits for the store.
            observe: told (seconds, entries, fault or None) of every store call.
        """
        self._store = store
        self._timeout_s = timeout_s
        self._observe = observe
        self._max_queued = max_queued
        self._queue: deque[Waiter] = deque()
        self._queue_timer: asyncio.TimerHandle | None = None
        self._idle: list[asyncio.Future[None]] = []
        self._refunds: deque[Refund] = deque(maxlen=MAX_REFUNDS)
        self._refund_wanted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the workers on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._work(), name="store-worker") for _ in range(WORKERS)]
        self._tasks.append(asyncio.create_task(self._send_refunds(), name="store-refunds"))

    def submit(self, waiter: Waiter) -> StoreFault | None:
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

    def give_back(self, query: WindowQuery, slot: int) -> None:
        """Refund the hits that `slot` took for `query`, soon."""
        self._refunds.append(Refund(query.key, query.sub_us, slot, query.hits))
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
                await self._ask(_Batch(waiters))

    def _take(self) -> list[Waiter]:
        taken: list[Waiter] = []
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

    async def _ask(self, batch: _Batch) -> None:
        started = self._loop.time()
        batch.timer = self._loop.call_at(started + self._timeout_s, self._expire, batch, GRACE_TURNS)
        fault: StoreFault | None = None
        try:
            answers = await self._store.acquire(batch.asks)
        except StoreError as error:
            fault = error.fault
            self._fail(batch, fault)
        except BaseException:
            self._fail(batch, StoreFault.ERROR)
            raise
        else:
            for answer, group in zip(answers, batch.groups, strict=True):
                self._share_out(answer, group)
        finally:
            batch.is_over = True
            batch.timer.cancel()
            self._observe(self._loop.time() - started, len(batch.asks), fault)

    def _share_out(self, answer: Answer, group: list[Waiter]) -> None:
        """First come, first served: the first `granted` waiters pass, each sees what was used up to it."""
        before = answer.used - answer.granted * group[0].query.hits
        for i, waiter in enumerate(group):
            granted = i < answer.granted
            used = before + (i + 1) * waiter.query.hits if granted else answer.used
            reply = WindowReply(granted, used, answer.reset_us, answer.retry_us, answer.slot)
            settled_before = waiter.is_settled
            waiter.is_settled = True
            gives_back = waiter.settle_late(reply) if settled_before else waiter.settle(reply)
            if granted and gives_back:
                self.give_back(waiter.query, reply.slot)

    def _fail(self, batch: _Batch, fault: StoreFault) -> None:
        for group in batch.groups:
            for waiter in group:
                self._settle(waiter, fault)

    def _settle(self, waiter: Waiter, fault: StoreFault) -> None:
        if not waiter.is_settled:
            waiter.is_settled = True
            waiter.settle(fault)

    def _expire(self, batch: _Batch, turns: int) -> None:
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
            await self._store.refund(batch)
