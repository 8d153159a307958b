"""The snapshot of one process, small and quick however much there is to show; and of workers together."""

from __future__ import annotations

import asyncio
import gc
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support.build import make_decision, make_denial, make_policy
from support.fakes import FakeClock
from support.snapshots import make_process, make_snapshot

from sentinel_ext import clock
from sentinel_ext.core.breaker import CircuitState, Force, TripReason
from sentinel_ext.core.circuit import Transition
from sentinel_ext.core.controller import MAX_UPSTREAMS, Controller
from sentinel_ext.core.decision import Reason, StoreFault
from sentinel_ext.core.snapshot import MAX_CHANGES_SHOWN, MAX_TENANTS_SHOWN, MAX_UPSTREAMS_SHOWN
from sentinel_ext.core.tenant import MAX_TENANTS, Tenants
from sentinel_ext.host import HostSignals
from sentinel_ext.inspection import Inspector
from sentinel_ext.overview import STAGES, Overview, WorkersOverview
from sentinel_ext.server.live_status import NoSnapshotError
from sentinel_ext.store.memory import MemoryStore
from sentinel_ext.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path

# What a page loads each second, whatever clients and policies do; gaps of the event loop in CPU time, which
# others on the machine do not lengthen by much.
MAX_BYTES = 64 * 1024
MAX_GAP_S = 0.005
TRIES = 10
OPENED = Transition(
    CircuitState.CLOSED, CircuitState.OPEN, 2, TripReason.CONSECUTIVE_FAILURES, 0, Force.AUTO, False
)


class House:
    """The parts that an Overview looks at."""

    def __init__(self, folder: Path) -> None:
        self.policy = make_policy()
        self.tenants = Tenants(self.policy)
        self.controller = Controller("a1", self.policy, clock.monotonic_ns())
        self.metrics = Metrics("1.2.3")
        self.details: dict[str, Any] = {
            "draining": False,
            "stages": {stage: {"mode": "enforce", "policy": "enforce"} for stage in STAGES},
            "policy": {"file": None},
            "store": {"url": "memory://", "available": True},
            "instances": 1,
            "config": {"generation": 1, "digest": "ab", "ok": True, "loaded_at": 1.0},
        }
        clocks = (clock.monotonic_ns, clock.wall_s)
        store = MemoryStore(FakeClock().us)
        self.inspector = Inspector("host:1", self.policy, self.tenants, self.controller, store, clocks)
        feedback: Any = SimpleNamespace(logs=None, controller=self.controller)
        self.overview = Overview(
            lambda: (True, self.details),
            self.inspector,
            feedback,
            HostSignals(folder, clock.monotonic_ns()),
            (self.metrics.totals,),
        )

    def note(self, seconds: int = 0) -> None:
        """Note the totals as of a moment to come."""
        totals = self.metrics.totals()
        self.overview._timeline.add(totals, clock.monotonic_ns() + seconds * 1_000_000_000)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_what_was_decided_stands_by_verdict_stage_and_tier(house):
    house.note()
    for decision in (make_decision(), make_decision(), make_denial(), make_denial(Reason.LOCAL_RATE_LIMITED)):
        house.metrics.decided(decision, 1)
    house.metrics.store_called(0.001, 1, StoreFault.TIMEOUT)
    house.metrics.failed()
    house.note(1)
    shown = await house.overview.snapshot()
    stages = {stage.stage: stage for stage in shown.traffic.stages}
    tiers = {tier.tier: tier for tier in shown.traffic.tiers}

    assert (2.0, 2.0) == (round(shown.traffic.allowed), round(shown.traffic.refused))
    assert {"rate_limited": 1} == {reason: round(rate) for reason, rate in stages["window"].reasons.items()}
    assert {"local_rate_limited"} == set(stages["bucket"].reasons)
    assert (2, 2) == (tiers["standard"].allowed, tiers["standard"].refused)
    assert (0, 0) == (tiers["vital"].allowed, tiers["vital"].refused)
    assert [2] == [round(rate) for rate in shown.traffic.history["allow"]]
    assert ({"timeout": 1}, 1) == (
        {fault: round(rate) for fault, rate in shown.store.errors.items()},
        shown.processes[0].faults,
    )


async def test_a_tenants_refusals_are_a_rate_from_the_second_look_on(house):
    tenant = house.tenants.get("acme", clock.monotonic_ns())
    tenant.denied = 5
    first = await house.overview.snapshot()
    tenant.denied = 9
    second = await house.overview.snapshot()

    assert (None, 5) == (first.tenants[0].refused, first.tenants[0].denied)
    assert second.tenants[0].refused is not None
    assert 0 < second.tenants[0].refused


async def test_a_full_house_stays_small_and_holds_nobody_up(house):
    """The tables at their bounds; all names as long as they may be."""
    for number in range(100_000):
        house.tenants.get(f"tenant-{number:06}-" + "x" * 242, 0)
    for number in range(MAX_UPSTREAMS):
        protected = house.controller.upstream(f"upstream-{number:03}-" + "y" * 50)
        for _ in range(30):
            house.inspector.changed(protected, OPENED)
    gc.collect()
    gc.freeze()  # as app.py does
    gaps = []
    for _ in range(TRIES):
        ticker = asyncio.create_task(longest_gap())
        await asyncio.sleep(0)
        shown = await house.overview.snapshot()
        ticker.cancel()
        gaps.append(await ticker)
    encoded = time.thread_time()
    body = msgspec.json.encode(shown)
    encoded = time.thread_time() - encoded
    gc.unfreeze()

    assert (MAX_TENANTS, MAX_TENANTS_SHOWN) == (shown.tenant_count, len(shown.tenants))
    assert MAX_UPSTREAMS_SHOWN == len(shown.pressure.upstreams) == len(shown.breakers)
    assert MAX_CHANGES_SHOWN == len(shown.changes)
    assert len(body) < MAX_BYTES
    assert min(gaps) < MAX_GAP_S, gaps
    assert encoded < MAX_GAP_S


async def longest_gap() -> float:
    longest, last = 0.0, time.thread_time()
    try:
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now
    except asyncio.CancelledError:
        # Cancelled by whoever was measured: what it held last counts, too.
        return max(longest, time.thread_time() - last)


# --- Workers together ---


def readiness(*ready: bool) -> tuple[bool, dict[str, Any]]:
    workers = [{"ready": each, "restarts": number} for number, each in enumerate(ready)]
    return any(ready), {"draining": False, "workers": workers}


async def test_a_worker_that_does_not_answer_is_shown_as_away():
    answer = msgspec.json.encode(make_snapshot(processes=(make_process("host:a"),)))

    async def ask() -> list[bytes]:
        return [answer, b"", b"not json", answer]

    shown = await WorkersOverview(ask, lambda: readiness(True, False, False, True)).snapshot()

    assert [("host:a", True, 0), ("worker 1", False, 1), ("worker 2", False, 2), ("host:a", True, 3)] == [
        (process.name, process.is_ready, process.restarts) for process in shown.processes
    ]
    assert 20.0 == shown.traffic.allowed
    assert ["Not ready: worker 1, worker 2."] == [finding.text for finding in shown.findings]


async def test_when_no_worker_answers_nothing_can_be_said():
    async def ask() -> list[bytes]:
        return [b"", b""]

    with pytest.raises(NoSnapshotError):
        await WorkersOverview(ask, lambda: readiness(False, False)).snapshot()
