"""Explain, with the store's word: what a request would meet, and nothing is taken for it."""

from __future__ import annotations

import asyncio
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
from sentinel_ext.core.ratelimit.explain import Asked, explain_limits, lines_of
from sentinel_ext.core.ratelimit.outcome import Problem
from sentinel_ext.core.window import WindowReply
from sentinel_ext.store.base import Answer, StoreError
from sentinel_ext.store.looking import LOOK_TIMEOUT_S, look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentinel_ext.core.controller import Controller
    from sentinel_ext.core.identify import Caller
    from sentinel_ext.core.ratelimit.asks import CounterAnswer, CounterAsk
    from sentinel_ext.core.ratelimit.explain import LimitsExplanation
    from sentinel_ext.core.ratelimit.pending import Options
    from sentinel_ext.core.ratelimit.planner import Planner
    from sentinel_ext.core.ratelimit.query import Query
    from sentinel_ext.core.tenant import Tenants
    from sentinel_ext.engine import Engine
    from sentinel_ext.stage_modes import StageModes
    from sentinel_ext.store.base import Store
    from sentinel_ext.store.limits import LimitStore


class Explained(msgspec.Struct, frozen=True):
    """A Check, explained. `set_stages`: their modes are an operator's, not the policy's."""

    explanation: Explanation
    who: Who
    set_stages: frozenset[Stage]


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
            frozenset(self._modes.current),
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


class LimitExplainer:
    """Explains rate limit requests. Belongs to one event loop."""

    def __init__(
        self,
        planner: Planner,
        controller: Controller,
        options: Options,
        store: LimitStore,
        now_ns: Callable[[], int],
    ) -> None:
        """Look at these."""
        self._planner, self._controller, self._options = planner, controller, options
        self._store, self._now_ns = store, now_ns

    async def explain(self, query: Query) -> LimitsExplanation | Problem:
        """Explain a request, or say why none can be decided."""
        lines = lines_of(self._planner, query)
        if isinstance(lines, Problem):
            return lines
        answers = iter(await self._look([ask for line in lines for _, _, ask in line.counted]))
        said = [[next(answers) for _ in line.counted] for line in lines]
        return explain_limits(
            lines, said, Asked(self._planner, self._controller, self._options, self._now_ns())
        )

    async def _look(self, asks: Sequence[CounterAsk]) -> list[CounterAnswer | StoreFault]:
        """Ask for each counter by itself: an answer must not depend on the others of its request."""
        if not asks:
            return []
        if not self._store.is_available():
            return [StoreFault.UNREACHABLE] * len(asks)
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                answers = await self._store.decide([(ask,) for ask in asks])
        except TimeoutError:
            return [StoreFault.TIMEOUT] * len(asks)
        except StoreError as error:
            return [error.fault] * len(asks)
        return [answer if isinstance(answer, StoreFault) else answer[0] for answer in answers]
