"""sentinel.v1.DecisionService, wired: what it asks, who watches, and where it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sentinel_ext import clock
from sentinel_ext.acting import Actions
from sentinel_ext.explaining import Explainer
from sentinel_ext.inspection import Inspector
from sentinel_ext.services.decision_watch import Watching
from sentinel_ext.services.decisions import Decisions
from sentinel_ext.stage_modes import StageModes
from sentinel_ext.store.factory import make_modes
from sentinel_ext.telemetry.config import publish_modes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sentinel_ext.core.breaker import Force
    from sentinel_ext.core.identify import Caller
    from sentinel_ext.core.model import Mode, Stage
    from sentinel_ext.core.policy import Policy, Source
    from sentinel_ext.core.ratelimit.outcome import Problem
    from sentinel_ext.core.ratelimit.query import Query
    from sentinel_ext.core.tenant import Tenants
    from sentinel_ext.core.usage import Order
    from sentinel_ext.core.views import BreakerView, PressureView, StageView, TenantView
    from sentinel_ext.engine import Engine
    from sentinel_ext.explaining import Explained, ExplainedLimits
    from sentinel_ext.feedback import Feedback
    from sentinel_ext.ratelimits import RateLimiting
    from sentinel_ext.services.registry import Answer, HotStream, Unary
    from sentinel_ext.store.base import Store
    from sentinel_ext.telemetry.metrics import Metrics


class _Work:
    """An answer under way (services.registry.Cancellable)."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def cancel(self) -> None:
        self._task.cancel()


class Debugging:
    """One instance's view of itself for people. Belongs to one event loop.

    Attributes:
        inspector: shows tenants, pressure and breakers.
        modes: of the stages, as an operator set them on top of the policy's.
    """

    def __init__(  # noqa: PLR0913  one parameter per part
        self,
        instance: str,
        policy: Policy,
        tenants: Tenants,
        store: Store,
        feedback: Feedback,
        engine: Engine,
        ratelimits: RateLimiting,
        *,
        may_act: bool,
    ) -> None:
        """Wire the parts; nothing is started. Set `modes.apply`."""
        self.instance = instance
        controller = feedback.controller
        clocks = (clock.monotonic_ns, clock.wall_s)
        self.inspector = Inspector(instance, policy, tenants, controller, store, clocks)
        self.modes = StageModes(store, make_modes(store), policy)
        self._explainer = Explainer(engine, tenants, controller, self.modes, store)
        self._limits, self._controller = ratelimits.explainer(), controller
        self._actions = Actions(self.inspector, tenants, feedback.control, self.modes, store, may_act=may_act)
        self._engine, self._ratelimits = engine, ratelimits
        self.watching = Watching(clock.monotonic_ns, clock.wall_s)
        self.watching.changed = self._watched
        self._tasks: set[asyncio.Task[None]] = set()
        feedback.watchers = (*feedback.watchers, self.inspector.changed)

    def methods(self, failed: Callable[[Exception], None]) -> tuple[Unary | HotStream, ...]:
        """Return the service, to be mounted; `failed` hears of our own faults."""
        self.inspector.failed = self.modes.failed = failed
        return Decisions(self, self.watching, self._spawn, failed).methods()

    def replace(self, policy: Policy) -> None:
        """Go by another policy of the files; what an operator set stays set."""
        self.inspector.policy = policy
        self.modes.replace(policy)

    async def start(self) -> None:
        """Begin to measure and to follow."""
        await self.inspector.start()
        await self.modes.start()

    async def close(self) -> None:
        """Stop."""
        await self.modes.close()
        await self.inspector.close()

    def publish(self, metrics: Metrics) -> None:
        """Publish who watches, what they missed, and how the stages run."""
        publish_modes(metrics, self.modes.shown)
        watching = self.watching
        metrics.gauge(
            "sentinel_watchers", "Open WatchDecisions streams.", lambda: float(len(watching.watchers))
        )
        metrics.counter_of(
            "sentinel_watch_missed",
            "Decisions that a watcher did not get, because it or all of them were too slow.",
            lambda: float(watching.missed),
        )

    # What the service asks (services.decisions.House).

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where the policy in force looks for tenants."""
        return self.modes.policy.sources

    async def explain_check(self, caller: Caller) -> Explained:
        """See explaining.py."""
        return await self._explainer.check(caller)

    async def explain_limits(self, query: Query) -> ExplainedLimits | Problem:
        """See explaining.py."""
        return await self._limits.explain(query, self._controller, clock.monotonic_ns())

    async def tenant(self, name: str) -> TenantView:
        """See inspection.py; likewise the next three."""
        return await self.inspector.tenant(name)

    async def tenants(self, limit: int, order: Order, prefix: str) -> tuple[list[TenantView], int]:  # noqa: D102
        return await self.inspector.tenants(limit, order, prefix)

    def pressure(self, upstream: str) -> PressureView:  # noqa: D102
        return self.inspector.pressure(upstream)

    def breakers(self, upstream: str) -> list[BreakerView]:  # noqa: D102
        return self.inspector.breakers(upstream)

    async def reset_tenant(self, name: str, peer: str) -> tuple[TenantView, bool]:
        """See acting.py; likewise the next two."""
        return await self._actions.reset_tenant(name, peer)

    async def set_breaker(self, upstream: str, mode: Force, peer: str) -> BreakerView:  # noqa: D102
        return await self._actions.set_breaker(upstream, mode, peer)

    async def set_stage_mode(self, stage: Stage, mode: Mode | None, peer: str) -> list[StageView]:  # noqa: D102
        return await self._actions.set_stage_mode(stage, mode, peer)

    def _watched(self, is_watched: bool) -> None:
        """The request path pays for watching only while somebody does."""
        engine, limiting = self._engine, self._ratelimits.limiting
        engine.observers = tuple(each for each in engine.observers if each != self.watching.decided)
        limiting.observers = tuple(each for each in limiting.observers if each != self.watching.limited)
        if is_watched:
            engine.observers = (*engine.observers, self.watching.decided)
            limiting.observers = (*limiting.observers, self.watching.limited)

    def _spawn(self, work: Coroutine[Any, Any, Answer], reply: Callable[[Answer], bool]) -> _Work:
        async def run() -> None:
            reply(await work)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return _Work(task)
