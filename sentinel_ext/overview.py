"""The status page's source: one snapshot of this process, or of all workers through the supervisor.

Totals are noted every second, about 15 µs, so that whoever opens the page sees the last two minutes. All else
is read only while somebody looks (server/live_status.py).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from sentinel_ext import __version__, clock
from sentinel_ext.core.decision import Reason
from sentinel_ext.core.findings import judged
from sentinel_ext.core.merging import breaker_order, merged
from sentinel_ext.core.model import Stage, Tier
from sentinel_ext.core.snapshot import (
    COUNT_S,
    MAX_CHANGES_SHOWN,
    MAX_TENANTS_SHOWN,
    MAX_UPSTREAMS_SHOWN,
    RATE_S,
    BreakerChange,
    ConfigState,
    LogState,
    ProcessState,
    Snapshot,
    StageTraffic,
    StoreState,
    TenantRow,
    TierTraffic,
    Traffic,
)
from sentinel_ext.core.tenant import MAX_TENANTS
from sentinel_ext.core.timeline import Timeline
from sentinel_ext.server.live_status import NoSnapshotError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from sentinel_ext.core.timeline import Key, Span
    from sentinel_ext.core.views import BreakerView, TenantView
    from sentinel_ext.feedback import Feedback
    from sentinel_ext.host import HostSignals
    from sentinel_ext.inspection import Inspector

TICK_S: Final = 1.0
STAGES: Final = (Stage.BUCKET, Stage.WINDOW, Stage.PRESSURE, Stage.BREAKER)
LIMIT_VERDICTS: Final = ("ok", "over_limit", "error")
_SERIES: Final = ("allow", *(stage.value for stage in STAGES), "limits_ok", "limits_over")
_UNMATCHED: Final = ("unmatched", "expired_permit", "bad_ticket")
_US_PER_S: Final = 1e6
_NS_PER_S: Final = 1e9
# A difference to longer ago would be no rate of now: whoever looks again after a while starts anew.
MAX_LOOK_AGE_NS: Final = 6_000_000_000


class Overview:
    """One process. Belongs to one event loop.

    Attributes:
        failed: told of an exception of our own.
        names: asks who shares the store.
    """

    def __init__(
        self,
        readiness: Callable[[], tuple[bool, dict[str, Any]]],
        inspector: Inspector,
        feedback: Feedback,
        host: HostSignals,
        totals: Sequence[Callable[[], dict[Key, int]]],
    ) -> None:
        """Look at these; nothing is started.

        Args:
            readiness: what /readyz tells.
            totals: each gives running totals of its own, see core/timeline.py.
        """
        self.failed: Callable[[Exception], None] = lambda _error: None
        self.names: Callable[[], Awaitable[tuple[str, ...]]] = _nobody
        self._readiness, self._inspector, self._feedback, self._host = readiness, inspector, feedback, host
        self._totals = totals
        self._timeline = Timeline(_SERIES, _series_of)
        self._started_ns = clock.monotonic_ns()
        # Looks at the tenants that were shown: when, and what was refused of each.
        self._looks: deque[tuple[int, dict[str, int]]] = deque(maxlen=RATE_S + 1)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to note totals."""
        self._task = asyncio.create_task(self._tick(), name="overview-tick")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def snapshot(self) -> Snapshot:
        """Look at everything once. Waits for the store, briefly; requests go on between the looks."""
        # Together: each may wait for the store's timeout, and a supervisor waits for both (workers/).
        (views, count), names = await asyncio.gather(self._inspector.tenants(MAX_TENANTS_SHOWN), self.names())
        pressure = self._inspector.pressure()
        await asyncio.sleep(0)
        upstreams = sorted(pressure.upstreams, key=lambda each: -each.pressure)[:MAX_UPSTREAMS_SHOWN]
        breakers = self._inspector.breakers()
        await asyncio.sleep(0)
        shown, changes = _shown(breakers), _changes(breakers)
        await asyncio.sleep(0)
        now, minute = self._timeline.last(RATE_S), self._timeline.last(COUNT_S)
        is_ready, details = self._readiness()
        file = details["policy"]["file"]
        snapshot = Snapshot(
            at_s=round(clock.wall_s(), 3),
            version=__version__,
            is_ready=is_ready,
            is_draining=details["draining"],
            traffic=self._traffic(now, minute, details["stages"]),
            pressure=replace(pressure, upstreams=tuple(upstreams)),
            tenants=self._rows(views),
            tenant_count=count,
            tenants_max=MAX_TENANTS,
            upstream_count=len(pressure.upstreams),
            breakers=shown,
            changes=changes,
            store=self._store(now, details["store"]),
            log=self._log(now, minute),
            config=msgspec.convert({**details["config"], "file": file}, ConfigState),
            instances=details["instances"],
            names=names,
            processes=(self._process(now, minute, is_ready=is_ready, is_draining=details["draining"]),),
        )
        return judged(snapshot)

    def _traffic(self, now: Span, minute: Span, modes: dict[str, dict[str, str]]) -> Traffic:
        return Traffic(
            allowed=now.per_s("decision", "allow"),
            refused=now.per_s("decision", "deny"),
            fallbacks=now.per_s("fallback"),
            stages=tuple(_stage(stage, now, modes[stage]) for stage in STAGES),
            tiers=tuple(_tier(tier, now, minute) for tier in Tier),
            limits={verdict: now.per_s("limit", verdict) for verdict in LIMIT_VERDICTS},
            history=self._timeline.series(),
        )

    def _rows(self, views: Sequence[TenantView]) -> tuple[TenantRow, ...]:
        now_ns = clock.monotonic_ns()
        while self._looks and now_ns - self._looks[0][0] > MAX_LOOK_AGE_NS:
            self._looks.popleft()
        rows = tuple(_row(view, self._refused(view, now_ns)) for view in views)
        self._looks.append((now_ns, {view.name: view.denied for view in views}))
        return rows

    def _refused(self, view: TenantView, now_ns: int) -> float | None:
        for then_ns, denied in self._looks:
            if view.name in denied and now_ns > then_ns:
                return max(0, view.denied - denied[view.name]) * _NS_PER_S / (now_ns - then_ns)
        return None

    def _store(self, now: Span, details: dict[str, Any]) -> StoreState:
        faults = {key[1] for key in now.counts if key[0] == "store_error"}
        return StoreState(
            details["url"],
            details["available"],
            self._host.store_ms(),
            now.per_s("store_call"),
            {str(fault): now.per_s("store_error", fault) for fault in faults},
        )

    def _log(self, now: Span, minute: Span) -> LogState:
        logs, hearing = self._feedback.logs, self._feedback.controller.hearing
        return LogState(
            0 if logs is None else logs.streams,
            now.per_s("log_message"),
            now.per_s("log_entry"),
            sum(now.per_s("log_entry", result) for result in _UNMATCHED),
            minute.count("log_garbled"),
            hearing.flush_ms,
            hearing.was_ever,
        )

    def _process(self, now: Span, minute: Span, *, is_ready: bool, is_draining: bool) -> ProcessState:
        return ProcessState(
            self._inspector.instance,
            (clock.monotonic_ns() - self._started_ns) / 1e9,
            is_ready,
            is_draining,
            now.per_s("decision") + now.per_s("limit"),
            self._feedback.controller.local,
            minute.count("fault"),
        )

    def _note(self) -> None:
        found: dict[Key, int] = {}
        for totals in self._totals:
            found |= totals()
        self._timeline.add(found, clock.monotonic_ns())

    async def _tick(self) -> None:
        while True:
            try:
                self._note()
            except Exception as error:  # noqa: BLE001  a bug of ours must not end the loop
                self.failed(error)
            await asyncio.sleep(TICK_S)


class WorkersOverview:
    """All workers together, as their supervisor shows them."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[Sequence[bytes]]],
        workers: Callable[[], tuple[bool, dict[str, Any]]],
    ) -> None:
        """Merge what the workers say.

        Args:
            ask: each worker's /status, in their order; b"" from one that does not answer.
            workers: what the supervisor's /readyz tells.
        """
        self._ask, self._workers = ask, workers

    async def snapshot(self) -> Snapshot:
        """Ask all workers.

        Raises:
            NoSnapshotError: none answers.
        """
        answers = [_read(answer) for answer in await self._ask()]
        found = [answer for answer in answers if answer is not None]
        if not found:
            raise NoSnapshotError
        is_ready, details = self._workers()
        processes = tuple(
            _away(number, worker["restarts"])
            if answer is None
            else replace(answer.processes[0], restarts=worker["restarts"], is_ready=worker["ready"])
            for number, (answer, worker) in enumerate(zip(answers, details["workers"], strict=True))
        )
        whole = replace(merged(found), processes=processes, is_ready=is_ready)
        return judged(replace(whole, is_draining=whole.is_draining or details["draining"]))


def _read(answer: bytes) -> Snapshot | None:
    try:
        return msgspec.json.decode(answer, type=Snapshot) if answer else None
    except msgspec.MsgspecError:
        return None


def _away(number: int, restarts: int) -> ProcessState:
    return ProcessState(f"worker {number}", 0.0, False, False, 0.0, 0.0, 0, restarts)


async def _nobody() -> tuple[str, ...]:
    return ()


def _series_of(key: Key) -> str:
    """Name the graph that a total belongs to."""
    if key[0] == "decision":
        return "allow" if key[1] == "allow" else str(key[2])
    if key[0] == "limit":
        return {"ok": "limits_ok", "over_limit": "limits_over"}.get(key[1], "")
    return ""


def _stage(stage: Stage, now: Span, modes: dict[str, str]) -> StageTraffic:
    reasons = {reason.value: now.per_s("decision", "deny", stage, reason) for reason in Reason}
    return StageTraffic(
        stage.value,
        modes["mode"],
        modes["policy"],
        now.per_s("decision", "deny", stage),
        {reason: rate for reason, rate in reasons.items() if rate},
        now.per_s("shadow", stage),
    )


def _tier(tier: Tier, now: Span, minute: Span) -> TierTraffic:
    def of(span: Span, verdict: str) -> int:
        return sum(
            count for key, count in span.counts.items() if key[:2] == ("decision", verdict) and key[4] == tier
        )

    per_s = (of(now, "allow") + of(now, "deny")) / now.seconds if now.seconds else 0.0
    counts = of(minute, "allow"), of(minute, "deny"), minute.count("good", tier), minute.count("slo", tier)
    return TierTraffic(tier.value, per_s, *counts)


def _row(view: TenantView, refused: float | None) -> TenantRow:
    plan = view.plan
    window_s = plan.window_us / _US_PER_S
    return TenantRow(
        view.name, plan.name, plan.tier.value, view.rate, refused, view.allowed, view.denied,
        view.used, view.limit, window_s,
    )  # fmt: skip


def _shown(breakers: Sequence[BreakerView]) -> tuple[BreakerView, ...]:
    ranked = sorted(breakers, key=breaker_order)[:MAX_UPSTREAMS_SHOWN]
    return tuple(replace(each, history=()) for each in ranked)


def _changes(breakers: Sequence[BreakerView]) -> tuple[BreakerChange, ...]:
    # Each history is the newest first, so only heads are compared: ranking all took 2 ms for 256 breakers.
    latest = heapq.merge(*map(_history, breakers), key=attrgetter("at_s"), reverse=True)
    return tuple(itertools.islice(latest, MAX_CHANGES_SHOWN))


def _history(breaker: BreakerView) -> Iterator[BreakerChange]:
    for each in breaker.history:
        yield BreakerChange(breaker.upstream, each.at_s, each.before, each.after, each.reason, each.forced)
