"""The asynchronous path of rate limits: plan and begin now, ask the store in a batch, resume with its answer.

Like engine.py: no coroutine, task or timer per request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sentinel_ext.core.ratelimit.outcome import Outcome, Problem
from sentinel_ext.store.limit_batcher import LimitWaiter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentinel_ext.core.decision import StoreFault
    from sentinel_ext.core.ratelimit.asks import CounterAnswer, GiveBack
    from sentinel_ext.core.ratelimit.known import Known
    from sentinel_ext.core.ratelimit.limiter import Limiter
    from sentinel_ext.core.ratelimit.pending import Pending
    from sentinel_ext.core.ratelimit.plan import Plan
    from sentinel_ext.core.ratelimit.planner import Planner
    from sentinel_ext.core.ratelimit.query import Query
    from sentinel_ext.core.ratelimit.rules import Rules
    from sentinel_ext.core.trace import Begun
    from sentinel_ext.store.limit_batcher import LimitBatcher

    # Takes the outcome, or None when Sentinel itself failed; says whether it could still be sent.
    Deliver = Callable[[Outcome | Problem | None], bool]
    # Told of each request, what came of it, how long it took, nanoseconds, and its trace if it is sampled.
    Observer = Callable[[Plan, Outcome | Problem, int, Begun | None], None]

# Expired leases go back within this time.
SWEEP_S = 0.05


class Limiting:
    """Decides rate limit requests. Belongs to one event loop.

    Attributes:
        observers: told of each decision.
        failed: told of an exception of our own.
        cancelled: requests the caller gave up before they were decided.
    """

    def __init__(
        self, planner: Planner, limiter: Limiter, batcher: LimitBatcher, now_ns: Callable[[], int]
    ) -> None:
        """Wire the parts."""
        self.planner, self.limiter, self.batcher = planner, limiter, batcher
        self.observers: Sequence[Observer] = ()
        self.failed: Callable[[Exception], None] = lambda _error: None
        self.cancelled = 0
        self.now_ns = now_ns
        self._sweeper: asyncio.TimerHandle | None = None
        limiter.give_back = batcher.give_back
        planner.forgotten = self._forgotten

    def decide(
        self, message: bytes, parse: Callable[[bytes], Query], deliver: Deliver, begun: Begun | None = None
    ) -> Outcome | Problem | LimitWaiting:
        """Decide at once if no store is needed; else return a LimitWaiting and call `deliver` later, once.

        Args:
            message: the request's bytes: equal ones are parsed and matched once.
            begun: its trace if it is sampled; observers are told.

        Raises:
            Exception: what `parse` raises, or a bug of ours.
        """
        started_ns = self.now_ns()
        plan = self.planner.plans.get(message)
        if plan is None:
            made = self.planner.plan(message, parse(message), started_ns)
            if isinstance(made, Problem):
                return made
            plan = made
        step = self.limiter.begin(plan, started_ns)
        if isinstance(step, Outcome):
            self.publish(plan, step, self.now_ns() - started_ns, begun)
            return step
        waiting = LimitWaiting(self, step, deliver, begun)
        if self.batcher.submit(waiting) is None:
            return waiting
        waiting.is_settled = True
        outcome = self.limiter.resume_without_store(step, started_ns)
        self.publish(plan, outcome, self.now_ns() - started_ns, begun)
        return outcome

    def publish(self, plan: Plan, outcome: Outcome | Problem, elapsed_ns: int, begun: Begun | None) -> None:
        """Tell the observers; one that fails does not cost the request its answer."""
        for observe in self.observers:
            try:
                observe(plan, outcome, elapsed_ns, begun)
            except Exception as error:  # noqa: BLE001  any bug of an observer
                self.failed(error)

    def replace(self, rules: Rules | None) -> None:
        """Go by other rules from now on."""
        self.planner.replace(rules)

    def start(self) -> None:
        """Begin to give expired leases back."""
        self._sweep()

    def close(self) -> None:
        """Give all leases back; the batcher sends them when it closes."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.limiter.close()

    def _sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        try:
            self.limiter.sweep(self.now_ns())
        except Exception as error:  # noqa: BLE001  a bug of ours must not end the sweeps
            self.failed(error)

    def _forgotten(self, known: Known) -> None:
        self.limiter.leased.pop(known, None)
        back: GiveBack | None = known.take_lease()
        if back is not None:
            self.batcher.give_back(back)


class LimitWaiting(LimitWaiter):
    """A request that waits for the store. `cancel` it when the caller is gone."""

    __slots__ = ("_begun", "_deliver", "_is_wanted", "_limiting", "_pending")

    def __init__(self, limiting: Limiting, pending: Pending, deliver: Deliver, begun: Begun | None) -> None:
        """Made by Limiting.decide."""
        super().__init__(pending.asks)
        self._limiting = limiting
        self._pending = pending
        self._deliver = deliver
        self._begun = begun
        self._is_wanted = False

    def cancel(self) -> None:
        """Take back what was taken here; what the store still counts goes back when its reply comes."""
        if not self.is_settled:
            self.is_settled = True
            self._limiting.limiter.cancel(self._pending)
            self._limiting.cancelled += 1

    def settle(self, outcome: tuple[CounterAnswer, ...] | StoreFault) -> None:
        """Resume with the store's word and deliver."""
        limiting, pending = self._limiting, self._pending
        try:
            now_ns = limiting.now_ns()
            if isinstance(outcome, tuple):
                decided: Outcome | Problem = limiting.limiter.resume(pending, outcome, now_ns)
            else:
                decided = limiting.limiter.resume_without_store(pending, now_ns)
            self._is_wanted = isinstance(decided, Outcome) and not decided.over
            self._deliver(decided)
            limiting.publish(pending.plan, decided, now_ns - pending.asked_ns, self._begun)
        except Exception as error:  # noqa: BLE001  a bug of ours must not stop the store's worker
            limiting.failed(error)
            try:
                self._deliver(None)
            except Exception as another:  # noqa: BLE001  others of the batch wait for their answers
                limiting.failed(another)

    def settle_late(self, answers: tuple[CounterAnswer, ...]) -> None:
        """Take a reply that came after the deadline or a cancellation."""
        try:
            limiting = self._limiting
            limiting.limiter.late(self._pending, answers, limiting.now_ns(), is_wanted=self._is_wanted)
        except Exception as error:  # noqa: BLE001  as in settle
            self._limiting.failed(error)
