"""The one asynchronous path: identify and begin now, ask the store in a batch, resume with its answer.

No coroutine, task or timer per request: a request that needs the store is a Ticket in the batcher's queue,
and its decision is delivered by a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.core.pipeline import Pending
from sentinel_ext.core.window import WindowReply
from sentinel_ext.store.batcher import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentinel_ext.core.decision import Decision, StoreFault
    from sentinel_ext.core.identify import Caller, Identifier
    from sentinel_ext.core.pipeline import Pipeline
    from sentinel_ext.core.tenant import Tenants
    from sentinel_ext.store.batcher import Batcher

    # Takes the decision, or None when Sentinel itself failed; says whether it could still be sent.
    Deliver = Callable[[Decision | None], bool]
    # Told of each decision and how long it took, nanoseconds.
    Observer = Callable[[Decision, int], None]


class Engine:
    """Decides. Belongs to one event loop."""

    def __init__(
        self,
        pipeline: Pipeline,
        identifier: Identifier,
        tenants: Tenants,
        batcher: Batcher,
        now_ns: Callable[[], int],
    ) -> None:
        """Wire the parts; add to `observers`, `instances` and `failed` before serving.

        Attributes:
            observers: told of each decision.
            instances: how many instances share the store.
            failed: told of an exception of our own that a request met; the request gets `deliver(None)`.
            cancelled: checks the caller gave up before they were decided.
        """
        self.pipeline = pipeline
        self.batcher = batcher
        self.observers: Sequence[Observer] = ()
        self.instances: Callable[[], int] = lambda: 1
        self.failed: Callable[[Exception], None] = lambda _error: None
        self.cancelled = 0
        self.now_ns = now_ns
        self._identifier = identifier
        self._tenants = tenants

    def decide(self, caller: Caller, deliver: Deliver) -> Decision | Ticket:
        """Decide at once if no store is needed; else return a Ticket and call `deliver` later, once.

        Raises:
            Exception: a bug of ours; the caller of this answers with its error response.
        """
        started_ns = self.now_ns()
        identity = self._identifier.identity(caller)
        tenant = self._tenants.get(identity.name, started_ns)
        check = self._identifier.check(caller, tenant, identity.problem)
        step = self.pipeline.begin(check, started_ns)
        if isinstance(step, Pending):
            ticket = Ticket(self, step, deliver, started_ns)
            try:
                if self.batcher.submit(ticket) is None:
                    return ticket
                ticket.is_settled = True
                step = self.pipeline.resume_without_store(step, self.instances(), started_ns)
            except Exception:
                ticket.abandon()
                raise
        self.publish(step, started_ns)
        return step

    def publish(self, decision: Decision, started_ns: int) -> None:
        """Tell the observers; one that fails does not cost the request its answer."""
        elapsed_ns = self.now_ns() - started_ns
        for observe in self.observers:
            try:
                observe(decision, elapsed_ns)
            except Exception as error:  # noqa: BLE001  any bug of an observer
                self.failed(error)


class Ticket(Waiter):
    """A check that waits for the store. `cancel` it when the caller is gone."""

    __slots__ = ("_deliver", "_engine", "_passed", "_pending", "_started_ns")

    def __init__(self, engine: Engine, pending: Pending, deliver: Deliver, started_ns: int) -> None:
        """Made by Engine.decide."""
        # In place of super().__init__: 0.15 µs.
        self.query = pending.query
        self.queued_at = 0.0
        self.is_settled = False
        self._engine = engine
        self._pending = pending
        self._deliver = deliver
        self._started_ns = started_ns
        self._passed = False

    def cancel(self) -> None:
        """Give back what the check took; hits that the store still grants go back when its reply comes."""
        if not self.is_settled:
            self.is_settled = True
            self._engine.pipeline.cancel(self._pending)
            self._engine.cancelled += 1

    def abandon(self) -> None:
        """End it without a word: a fault of ours came between."""
        self.is_settled = True
        self._engine.pipeline.cancel(self._pending)

    def settle(self, outcome: WindowReply | StoreFault) -> bool:
        """Resume with the store's word and deliver; True if hits were granted for nothing."""
        engine = self._engine
        granted = isinstance(outcome, WindowReply) and outcome.granted
        try:
            now_ns = engine.now_ns()
            if isinstance(outcome, WindowReply):
                decision = engine.pipeline.resume(self._pending, outcome, now_ns)
            else:
                decision = engine.pipeline.resume_without_store(self._pending, engine.instances(), now_ns)
            delivered = self._deliver(decision)
            self._passed = delivered and decision.allowed
            if not self._passed and decision.allowed:
                engine.pipeline.cancel(self._pending)
                engine.cancelled += 1
            engine.publish(decision, self._started_ns)
        except Exception as error:  # noqa: BLE001  a bug of ours must not stop the store's worker
            engine.failed(error)
            engine.pipeline.cancel(self._pending)
            self._deliver_fault()
        return granted and not self._passed

    def _deliver_fault(self) -> None:
        try:
            self._deliver(None)
        except Exception as error:  # noqa: BLE001  the same: others of the batch wait for their answers
            self._engine.failed(error)

    def settle_late(self, reply: WindowReply) -> bool:
        """After the deadline or a cancellation: hits of a request that did not pass go back."""
        return reply.granted and not self._passed
