"""Explain, with the store's word: what a request would meet, and nothing is taken for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.circuit import Circuit
from sentinel_ext.core.controller import MAX_UPSTREAMS, OTHER, Protected
from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.explain.compose import explain
from sentinel_ext.core.explain.looks import Explanation
from sentinel_ext.core.explain.stages import Scene, window_query
from sentinel_ext.core.explain.who import Who, who
from sentinel_ext.core.model import Mode, Stage
from sentinel_ext.core.ratelimit.explain import LimitsLook, begin
from sentinel_ext.core.ratelimit.outcome import Problem
from sentinel_ext.core.views import StageView
from sentinel_ext.core.window import WindowReply
from sentinel_ext.store.base import Answer, StoreError
from sentinel_ext.store.looking import LOOK_TIMEOUT_S, look

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.core.controller import Controller
    from sentinel_ext.core.identify import Caller
    from sentinel_ext.core.ratelimit.asks import CounterAnswer, CounterAsk
    from sentinel_ext.core.ratelimit.limiter import Limiter
    from sentinel_ext.core.ratelimit.outcome import Outcome
    from sentinel_ext.core.ratelimit.planner import Planner
    from sentinel_ext.core.ratelimit.query import Query
    from sentinel_ext.core.tenant import Tenants
    from sentinel_ext.engine import Engine
    from sentinel_ext.stage_modes import StageModes
    from sentinel_ext.store.base import Store
    from sentinel_ext.store.limits import LimitStore


class Explained(msgspec.Struct, frozen=True):
    """A Check, explained. `stages`: how they run, and whose word that is."""

    explanation: Explanation
    who: Who
    stages: dict[Stage, StageView]


class Explainer:
    """Belongs to one event loop."""

    def __init__(
        self, engine: Engine, tenants: Tenants, controller: Controller, modes: StageModes, store: Store
    ) -> None:
        """Look at these."""
        self._engine, self._tenants, self._controller = engine, tenants, controller
        self._modes, self._store = modes, store

    async def check(self, caller: Caller) -> Explained:
        """Explain a Check."""
        now_ns, identifier = self._engine.now_ns(), self._engine.identifier
        found = identifier.find(caller)
        tenant, is_known = self._tenants.look(found[0].name, now_ns)
        check = identifier.check(caller, tenant, found[0].problem)
        modes = self._modes.all()
        protected = self._protected(check.upstream, now_ns)
        scene = Scene(check, modes, protected, self._engine.instances(), now_ns)
        query = window_query(scene)
        said: WindowReply | StoreFault | None = None
        if query is not None:
            (answer,) = await look(self._store, [query])
            said = _reply(answer, query.hits, query.limit)
        return Explained(
            explain(scene, query, said),
            who(check, caller, found, self._modes.policy, is_known=is_known),
            self._modes.views(),
        )

    def _protected(self, name: str, now_ns: int) -> Protected:
        """Return the upstream; one that was never seen is made and not remembered."""
        upstreams, policy = self._controller.upstreams, self._modes.policy
        protected = upstreams.get(name)
        if protected is None and len(upstreams) >= MAX_UPSTREAMS - 1:
            protected = upstreams.get(OTHER)
        if protected is not None:
            return protected
        rules = policy.upstream(name)
        is_off = rules.breaker is None or self._modes.mode(Stage.BREAKER) is Mode.OFF
        circuit = None if is_off or rules.breaker is None else Circuit(rules.breaker, now_ns)
        return Protected(name, rules, circuit, now_ns)


def _reply(answer: Answer | StoreFault, hits: int, limit: int) -> WindowReply | StoreFault:
    if isinstance(answer, StoreFault):
        return answer
    fits = answer.used + hits <= limit
    return WindowReply(fits, answer.used, answer.reset_us, answer.retry_us, answer.slot)


class ExplainedLimits(msgspec.Struct, frozen=True):
    """A rate limit request, explained. `headers`: what the client would get, by the server's style."""

    looked: LimitsLook
    headers: Sequence[tuple[str, str]]


class LimitExplainer:
    """Explains rate limit requests. Belongs to one event loop."""

    def __init__(
        self,
        planner: Planner,
        limiter: Limiter,
        store: LimitStore,
        headers: Callable[[Outcome], Sequence[tuple[str, str]]],
    ) -> None:
        """Look at these; `headers` makes what a response would have."""
        self._planner, self._limiter = planner, limiter
        self._store, self._headers = store, headers

    async def explain(self, query: Query, controller: Controller, now_ns: int) -> ExplainedLimits | Problem:
        """Explain a request, or say why none can be decided."""
        options, instances = self._limiter.options, self._limiter.instances()
        looking = begin(self._planner, query, options, instances, now_ns)
        if isinstance(looking, Problem):
            return looking
        looked = looking.look(await self._said(looking.asks), options, controller)
        return ExplainedLimits(
            looked, () if isinstance(looked.outcome, Problem) else self._headers(looked.outcome)
        )

    async def _said(self, asks: tuple[CounterAsk, ...]) -> tuple[CounterAnswer, ...] | StoreFault:
        if not asks:
            return ()
        if not self._store.is_available():
            return StoreFault.UNREACHABLE
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                (answer,) = await self._store.decide([asks])
        except TimeoutError:
            return StoreFault.TIMEOUT
        except StoreError as error:
            return error.fault
        return answer
