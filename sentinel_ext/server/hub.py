"""What the connections of one server share: limits, counters, deadlines, and one flush per loop turn."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from sentinel_ext.server.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sentinel_ext.server.protocol import H2Protocol
    from sentinel_ext.wire.hpack import BlockCache
    from sentinel_ext.wire.limits import Limits, ProcessBudget
    from sentinel_ext.wire.methods import MethodTable

SECOND: Final = 1_000_000_000
# How often connections look at their own timeouts, which are seconds.
TICK_S: Final = 0.5
# Blocking handlers run here; more threads than that only fight for the interpreter.
MAX_THREADS: Final = 16

logger = logging.getLogger("sentinel.wire")


class Hub:
    """Belongs to one event loop.

    Attributes:
        connections: the open ones; at most `max_connections`.
        calls: calls given to a handler, ever.
        trips: how often each limit tripped, by reason.
        on_trip: told of each trip; the owner's metrics.
    """

    def __init__(
        self,
        methods: MethodTable,
        limits: Limits,
        cache: BlockCache | None,
        budget: ProcessBudget,
        now_ns: Callable[[], int],
    ) -> None:
        """Belong to the running loop; `methods` is final."""
        self.loop = asyncio.get_running_loop()
        self.methods = methods
        self.limits = limits
        self.cache = cache
        self.budget = budget
        self.now_ns = now_ns
        self.deadlines = Deadlines(self.loop, now_ns)
        self.connections: set[H2Protocol] = set()
        self.max_connections = sys.maxsize
        self.calls = 0
        self.trips: Counter[str] = Counter()
        self.on_trip: Callable[[str], object] = lambda _reason: None
        self._tasks: set[asyncio.Task[None]] = set()
        self._dirty: list[H2Protocol] = []
        self._timer: asyncio.TimerHandle | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._logged_ns: dict[str, int] = {}
        self._left_out: Counter[str] = Counter()
        self._empty = asyncio.Event()

    def flush_soon(self, protocol: H2Protocol) -> None:
        """Let `protocol` write at the end of this turn, with all others that have something to write."""
        if not self._dirty:
            self.loop.call_soon(self._flush)
        self._dirty.append(protocol)

    def opened(self, protocol: H2Protocol) -> None:
        """Count a connection, and tick while there is one."""
        self.connections.add(protocol)
        if self._timer is None:
            self._timer = self.loop.call_later(TICK_S, self._tick)

    def closed(self, protocol: H2Protocol) -> None:
        """Forget a connection."""
        self.connections.discard(protocol)
        if not self.connections:
            self._empty.set()

    async def wait_closed(self, timeout_s: float) -> None:
        """Wait until no connection is left, up to `timeout_s` seconds."""
        if not self.connections:
            return
        self._empty.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            pass

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run a handler that waits; the task is kept from the garbage collector until it is done."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def threads(self) -> ThreadPoolExecutor:
        """Where blocking handlers run; made when the first one is called."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(MAX_THREADS, "sentinel-handler")
        return self._threads

    def trip(self, reason: str) -> None:
        """Count a limit that tripped and log it, at most once a second for each reason."""
        self.trips[reason] += 1
        self.on_trip(reason)
        self.report(logging.WARNING, "wire limit", reason)

    def failed(self, error: BaseException, path: str) -> None:
        """Log what a handler raised; the client is not told (an exception's text may hold secrets)."""
        self.report(logging.ERROR, "handler failed", type(error).__name__, error, path)

    def report(
        self, level: int, message: str, reason: str, error: BaseException | None = None, path: str = ""
    ) -> None:
        """Log a line with `reason`; the next one tells how many were left out (log floods)."""
        now_ns = self.now_ns()
        if now_ns - self._logged_ns.get(reason, -SECOND) < SECOND:
            self._left_out[reason] += 1
            return
        self._logged_ns[reason] = now_ns
        extra: dict[str, object] = {"reason": reason}
        if path:
            extra["path"] = path
        if left_out := self._left_out.pop(reason, 0):
            extra["left_out"] = left_out
        logger.log(level, message, extra=extra, exc_info=error)

    async def close(self, patience_s: float) -> None:
        """Cancel what handlers still do, wait for it up to `patience_s` seconds, stop all timers."""
        self._cancel_timer()
        self.deadlines.close()
        # Twice: a handler in a thread stands its first cancellation to wait for the thread.
        for _ in range(2):
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=patience_s / 2)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for protocol in dirty:
            protocol.flush()

    def _tick(self) -> None:
        now_ns = self.now_ns()
        for protocol in tuple(self.connections):
            protocol.tick(now_ns)
        self._cancel_timer()
        if self.connections:
            self._timer = self.loop.call_later(TICK_S, self._tick)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
