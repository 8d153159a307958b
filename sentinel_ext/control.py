"""The loops beside the request path: ticks, reports to the other instances, breakers, permits.

Nothing here is waited for by a request, but for the few that try a half-open breaker.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from sentinel_ext.core.fleet import LAW_MS, REPORT_MS, alone
from sentinel_ext.core.flight import TICK_NS
from sentinel_ext.core.law import next_shared
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.circuits import MAX_OPERATIONS, Acquire, Obey, Release, Report, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentinel_ext.core.breaker import BreakerOptions, Force
    from sentinel_ext.core.circuit import Circuit, Transition
    from sentinel_ext.core.controller import Controller, Protected
    from sentinel_ext.core.outbox import PermitResult
    from sentinel_ext.core.report import Report as LoadReport
    from sentinel_ext.core.tally import Batch
    from sentinel_ext.host import HostSignals
    from sentinel_ext.store.base import Store
    from sentinel_ext.store.circuits import CircuitStore, Operation
    from sentinel_ext.store.loads import LoadStore

TICK_S = TICK_NS / 1e9
REPORT_S = REPORT_MS / 1000
# An upstream without traffic is reported and looked at once in so many periods.
QUIET_ROUNDS = 5
_NS_PER_MS = 1_000_000
# Permits asked for at once, over all upstreams; one more is refused. half_open_max bounds each upstream.
MAX_ASKING = 256


class Control:
    """Drives a Controller. Belongs to one event loop.

    Attributes:
        transitions: told of each change of a breaker.
        instances: how many share the store.
        streams: open access log streams of this instance.
        failed: told of an exception of our own.
        faults: reports that the store did not take.
    """

    def __init__(
        self,
        controller: Controller,
        store: Store,
        stores: tuple[CircuitStore, LoadStore],
        host: HostSignals,
        now_ns: Callable[[], int],
        permit_timeout_s: float,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            store: says whether asking makes sense.
            stores: of breakers and of loads.
            permit_timeout_s: how long a request waits for a permit.
        """
        self.transitions: Callable[[Protected, Transition], None] = lambda _protected, _transition: None
        self.instances: Callable[[], int] = lambda: 1
        self.failed: Callable[[Exception], None] = lambda _error: None
        self.streams: Callable[[], int] = lambda: 0
        self.faults = 0
        self._controller = controller
        self._store = store
        self._circuits, self._loads = stores
        self._host = host
        self._now_ns = now_ns
        self._permit_timeout_s = permit_timeout_s
        self._urgent = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._round = 0
        self._ahead_ms = 0.0  # the store's clock before ours

    async def start(self) -> None:
        """Begin to tick and to report."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [
            asyncio.create_task(self._tick(), name="control-tick"),
            asyncio.create_task(self._report(), name="control-report"),
        ]

    async def close(self) -> None:
        """Stop; take this instance's reports away, so that the others do not wait for them to expire."""
        for task in (*self._tasks, *self._asking):
            task.cancel()
        if self._tasks:
            await asyncio.wait([*self._tasks, *self._asking])
            await self._tell_last_results()
        for name, protected in list(self._controller.upstreams.items()):
            with contextlib.suppress(StoreError):
                if protected.elsewhere:  # what nobody else has heard must not be lost with us
                    await self._exchange(protected, protected.load.publish(self._now_ns()))
                await self._loads.leave(name)

    async def _tell_last_results(self) -> None:
        """A probe that nobody tells of counts as lost, and opens the breaker again."""
        if self._store.is_available():
            try:
                await self._report_circuits()
            except Exception as error:  # noqa: BLE001  a bug of ours must not keep the reports here
                self.failed(error)

    def look(self, protected: Protected) -> None:
        """After a request ended: report at once when this instance's own counts would trip the breaker."""
        circuit = protected.circuit
        if circuit is not None and not self._urgent.is_set() and circuit.is_urgent(self._now_ns()):
            self._urgent.set()

    # Permits (engine.Permits).

    def acquire(self, protected: Protected, permit: str, settled: Callable[[bool], None]) -> None:
        """Ask for `permit`; `settled` is called later, once."""
        circuit = protected.circuit
        if circuit is None or circuit.is_local or len(self._asking) >= MAX_ASKING:
            granted = False
            if circuit is not None and circuit.is_local:
                granted = circuit.acquire_locally(permit, self._now_ns())
            elif circuit is not None:
                circuit.permit_failed(permit)
            self._loop.call_soon(settled, granted)
            return
        task = asyncio.create_task(self._acquire(protected, circuit, permit, settled))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def release(self, protected: Protected, permit: str) -> None:
        """Give a permit back."""
        if protected.circuit is not None:
            protected.circuit.release(permit, self._now_ns())

    async def _acquire(
        self, protected: Protected, circuit: Circuit, permit: str, settled: Callable[[bool], None]
    ) -> None:
        granted = False
        try:
            ask = Acquire(protected.name, circuit.options, permit)
            async with asyncio.timeout(self._permit_timeout_s):
                ((granted, view),) = await self._circuits.call([ask])
            self._tell(protected, circuit.permit_reply(permit, granted, view, self._now_ns()))
            granted = granted and circuit.holds(permit)
        except (StoreError, TimeoutError):
            self.faults += 1
            granted = False
            circuit.permit_failed(permit)
        except Exception as error:  # noqa: BLE001  a bug of ours must not leave the request without an answer
            granted = False
            self.failed(error)
        finally:
            settled(granted)

    async def force(self, name: str, mode: Force) -> Circuit:
        """Force the breaker of an upstream open or closed, or let it go and reset it.

        Raises:
            KeyError: no such upstream is known here, or it has no breaker.
            StoreError: it may or may not be done.
        """
        protected = self._controller.upstreams[name]
        circuit = protected.circuit
        if circuit is None:
            raise KeyError(name)
        ((_, view),) = await self._circuits.call([Obey(name, circuit.options, mode)])
        self._tell(protected, circuit.adopt(view, self._now_ns()))
        return circuit

    # Loops.

    async def _tick(self) -> None:
        due = self._loop.time() + TICK_S
        while True:
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            late_s = max(0.0, self._loop.time() - due)
            # Ticks that a stall swallowed are not made up for.
            due += TICK_S * (1 + int(late_s / TICK_S))
            now_ns = self._now_ns()
            try:
                self._controller.hearing.streams = self.streams()
                self._host.loop_ran_late(int(late_s * 1e9), now_ns)
                for protected, transition in self._controller.tick(self._host.sample(now_ns), now_ns):
                    self.transitions(protected, transition)
            except Exception as error:  # noqa: BLE001  a bug of ours must not end the loop
                self.failed(error)

    async def _report(self) -> None:
        due = self._loop.time() + REPORT_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._urgent.wait()
            self._urgent.clear()
            # By the clock: urgent reports that follow each other must not hold those of the loads back.
            is_due = self._loop.time() >= due
            if is_due:
                due = self._loop.time() + REPORT_S
            try:
                await self._report_circuits()
                if is_due:
                    await self._report_loads()
            except Exception as error:  # noqa: BLE001  as above
                self.failed(error)

    async def _report_circuits(self) -> None:
        every = [(p, p.circuit) for p in self._controller.upstreams.values() if p.circuit is not None]
        if not self._store.is_available():
            now_ns, instances = self._now_ns(), self.instances()
            for protected, circuit in every:
                self._tell(protected, circuit.store_lost(instances, now_ns))
            return
        batches: list[tuple[Protected, Circuit, Batch]] = []
        for protected, circuit in every:
            await self._report_results(protected, circuit)
            batches.append((protected, circuit, circuit.take_batch()))
        for first in range(0, len(batches), MAX_OPERATIONS):
            await self._report_batches(batches[first : first + MAX_OPERATIONS])

    async def _report_batches(self, batches: Sequence[tuple[Protected, Circuit, Batch]]) -> None:
        reports = [Report(p.name, c.options, c.epoch, batch) for p, c, batch in batches]
        try:
            replies = await self._circuits.call(reports)
        except StoreError:
            self.faults += 1
            for _, circuit, batch in batches:
                circuit.put_back(batch)
            return
        now_ns = self._now_ns()
        for (protected, circuit, _), (_, view) in zip(batches, replies, strict=True):
            self._tell(protected, circuit.adopt(view, now_ns))

    async def _report_results(self, protected: Protected, circuit: Circuit) -> None:
        """Tell what became of probes, in their order."""
        results = circuit.take_results(MAX_OPERATIONS)
        if not results:
            return
        operations = [_operation(protected.name, circuit.options, result) for result in results]
        try:
            replies = await self._circuits.call(operations)
        except StoreError:
            self.faults += 1
            circuit.put_back_results(results)
            return
        self._tell(protected, circuit.adopt(replies[-1][1], self._now_ns()))

    async def _report_loads(self) -> None:
        self._round += 1
        for protected in list(self._controller.upstreams.values()):
            load = protected.load
            is_quiet = load.is_idle and load.shared.credit is None and not protected.elsewhere
            report = load.publish(self._now_ns())  # also of a quiet one: its periods go on
            if is_quiet and self._round % QUIET_ROUNDS:
                continue
            if not self._store.is_available():
                self._go_on_alone(protected, report)
                continue
            try:
                await self._exchange(protected, report)
            except StoreError:
                self.faults += 1
                self._go_on_alone(protected, report)

    async def _exchange(self, protected: Protected, report: LoadReport) -> None:
        """Leave a report, learn what all know, and make the next state if it is this instance's turn."""
        load = protected.load
        mail = {
            who: [(generation, tier, count) for (generation, tier), count in ends.items()]
            for who, ends in self._controller.take_elsewhere(protected).items()
        }
        got = await self._loads.exchange(protected.name, report, mail, LAW_MS)
        self._controller.told_elsewhere(protected, got.ends, self._now_ns())
        self._ahead_ms = got.now_ms - self._now_ns() / _NS_PER_MS
        shared = got.shared
        if got.has_turn:
            shared = next_shared(shared, got.reports, load.law, got.now_ms, is_open=protected.is_open)
            with contextlib.suppress(StoreError):  # the next turn makes it from the same reports
                await self._loads.commit(protected.name, got.version, shared)
        load.adopt(shared)

    def _go_on_alone(self, protected: Protected, report: LoadReport) -> None:
        """Without the store: run the law on this instance's own counters."""
        load = protected.load
        now_ms = self._now_ns() / _NS_PER_MS + self._ahead_ms
        if now_ms - load.shared.at_ms >= LAW_MS:
            load.adopt(alone(load, report, load.law, now_ms, is_open=protected.is_open))

    def _tell(self, protected: Protected, transition: Transition | None) -> None:
        if transition is not None:
            self._controller.changed(protected)
            self.transitions(protected, transition)


def _operation(name: str, options: BreakerOptions, result: PermitResult) -> Operation:
    if result.ok is None:
        return Release(name, options, result.permit)
    return Result(name, options, result.epoch, result.permit, result.ok)
