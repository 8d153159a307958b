"""From the event loop to the exporter: a bounded queue and one thread. The loop only ever appends.

The exporters of the OpenTelemetry SDK block: on a collector that hangs up to OTEL_EXPORTER_OTLP_TIMEOUT. So
they run in a thread of their own, and what comes meanwhile waits up to a bound and is dropped beyond it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from sentinel_ext import clock
from sentinel_ext.core.model import Word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sentinel_ext.settings_tracing import TracingOptions

# How long the last spans may take at the end, and then how long an export that was broken off.
FLUSH_S: Final = 2.0
BREAK_OFF_S: Final = 0.5
# How long the thread may keep the interpreter's lock while the event loop waits for it. Python's 5 ms are as
# long as a request may wait for the store.
SWITCH_S: Final = 0.0005
# A collector that is away is news once, and then once in a while.
QUIET_NS: Final = 60_000_000_000
_POLL_S: Final = 0.02

Item = TypeVar("Item")
Span = TypeVar("Span")

logger = logging.getLogger("sentinel.tracing")


class Dropped(Word):
    """Why spans were lost; a metric label."""

    QUEUE_FULL = "queue_full"
    EXPORT_FAILED = "export_failed"
    SHUTDOWN = "shutdown"
    FAULT = "fault"


class SpanPipe(Generic[Item, Span]):
    """Takes what ended from one event loop; a thread makes spans of it and exports them.

    Attributes:
        exported: spans that the collector took.
        dropped: spans that were lost, by why.
        failures: exports that failed.
        last_error: what the exporter said of the latest failure.
    """

    def __init__(
        self,
        options: TracingOptions,
        make: Callable[[Item], Iterable[Span]],
        export: Callable[[Sequence[Span]], bool],
        break_off: Callable[[], None],
    ) -> None:
        """Start nothing yet.

        Args:
            make: the spans of an item; runs in the thread.
            export: sends spans, may block; says whether they arrived; runs in the thread.
            break_off: makes a blocked `export` return.
        """
        self._bound, self._batch = options.queue_spans, options.batch_spans
        self._delay_s = options.delay_ms / 1000
        self._make, self._export, self._break_off = make, export, break_off
        self._items: deque[tuple[Item, int]] = deque()
        # Each is written by one thread only, so that no lock is needed.
        self._put_spans = self._taken_spans = 0
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self.exported = self.failures = 0
        self.dropped: Counter[Dropped] = Counter()
        self._lock = threading.Lock()  # both threads drop; neither often
        self._unsent = 0
        self.last_error: Callable[[], str] = lambda: ""
        self._quiet_until_ns = 0

    @property
    def waiting(self) -> int:
        """Spans in the queue."""
        return self._put_spans - self._taken_spans

    def put(self, item: Item, spans: int) -> None:
        """Take an item that makes `spans` spans, or drop it. Never waits."""
        waiting = self._put_spans - self._taken_spans + spans
        if waiting > self._bound or self._is_stopping:
            self._lost(Dropped.SHUTDOWN if self._is_stopping else Dropped.QUEUE_FULL, spans)
            return
        self._put_spans += spans
        self._items.append((item, spans))
        if waiting >= self._batch > waiting - spans:
            self._wake.set()

    def start(self) -> None:
        """Start the thread; it must not keep the interpreter's lock from the event loop for long."""
        sys.setswitchinterval(SWITCH_S)
        self._thread.start()

    async def close(self) -> None:
        """Export what waits, for FLUSH_S at most, then break off; the rest is dropped."""
        if not self._thread.is_alive():
            return
        self._is_stopping = True
        self._wake.set()
        if not await self._ended(FLUSH_S):
            try:
                self._break_off()
            except Exception:
                logger.exception("the span exporter could not be stopped")
            await self._ended(BREAK_OFF_S)
        left = self.waiting
        if left:
            self._lost(Dropped.SHUTDOWN, left)
            logger.warning("spans lost at the end", extra={"spans": left})

    async def _ended(self, seconds: float) -> bool:
        until_ns = clock.monotonic_ns() + int(seconds * 1e9)
        while self._thread.is_alive():
            if clock.monotonic_ns() >= until_ns:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    # The thread. A daemon: an export that cannot be broken off does not keep the process.

    def _run(self) -> None:
        while not self._is_stopping:
            self._wake.wait(self._delay_s)
            self._wake.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        batch: list[Span] = []
        while self._items:
            item, spans = self._items.popleft()
            try:
                batch += self._make(item)
            except Exception:
                logger.exception("spans could not be made")
                self._lost(Dropped.FAULT, spans)
            # Others wait for the interpreter's lock up to its switch interval: the event loop goes first.
            time.sleep(0)
            self._unsent += spans
            if len(batch) >= self._batch:
                batch = self._send(batch)
        if batch:
            self._send(batch)
        self._sent()

    def _send(self, batch: list[Span]) -> list[Span]:
        try:
            has_arrived = self._export(batch)
        except Exception as error:  # noqa: BLE001  an exporter's bug must not end the thread
            has_arrived = False
            self._say(f"{type(error).__name__}: {error}")
        if has_arrived:
            self.exported += len(batch)
        else:
            self.failures += 1
            self._lost(Dropped.EXPORT_FAILED, len(batch))
            self._say(self.last_error())
        self._sent()
        return []

    def _sent(self) -> None:
        """What was taken no longer waits: only now, so that an export that hangs counts against the bound."""
        self._taken_spans += self._unsent
        self._unsent = 0

    def _lost(self, why: Dropped, spans: int) -> None:
        with self._lock:
            self.dropped[why] += spans

    def _say(self, why: str) -> None:
        now_ns = clock.monotonic_ns()
        if now_ns >= self._quiet_until_ns:
            self._quiet_until_ns = now_ns + QUIET_NS
            logger.warning("spans cannot be exported", extra={"why": why, "dropped": self.dropped.total()})
