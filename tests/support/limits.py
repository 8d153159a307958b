"""Rate limits without a socket: instances of the limiter around shared counters, on a clock of the test's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentinel_ext.core.ratelimit.counters import Counter, decide, make_counter
from sentinel_ext.core.ratelimit.limiter import Limiter
from sentinel_ext.core.ratelimit.outcome import Outcome, Problem
from sentinel_ext.core.ratelimit.pending import Options, Pending
from sentinel_ext.core.ratelimit.planner import Planner
from sentinel_ext.core.ratelimit.query import Descriptor, Query
from sentinel_ext.core.ratelimit.rules import Limit, Node, Rules, Unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentinel_ext.core.ratelimit.asks import CounterAnswer, GiveBack, RequestAsk
    from sentinel_ext.core.ratelimit.plan import Plan

START_US = 1_790_000_000_000_000
MINUTE_US = 60_000_000


class SharedCounters:
    """What Redis does: counters, their clock, and how often it was asked."""

    def __init__(self, now_us: int = START_US) -> None:
        self.now_us = now_us
        self.counters: dict[bytes, Counter] = {}
        self.calls = 0
        self.is_up = True

    def decide(self, request: RequestAsk) -> tuple[CounterAnswer, ...]:
        self.calls += 1
        counters = [self._counter(ask) for ask in request]
        return decide(request, counters, self.now_us)

    def give_back(self, back: GiveBack) -> None:
        counter = self.counters.get(back.key)
        if self.is_up and counter is not None:
            counter.advance(self.now_us)
            counter.give_back(back, self.now_us)

    def lose_data(self) -> None:
        self.counters.clear()

    def _counter(self, ask: Any) -> Counter:
        counter = self.counters.get(ask.key)
        if counter is None:
            counter = self.counters[ask.key] = make_counter(ask)
        counter.advance(self.now_us)
        return counter


class Instance:
    """One Sentinel's planner and limiter. Its clock is the store's, less an offset nobody knows of."""

    def __init__(
        self, shared: SharedCounters, rules: Rules | None, options: Options | None = None, instances: int = 1
    ) -> None:
        options = options or Options()
        self.shared = shared
        self.planner, self.limiter = Planner(rules, options), Limiter(options)
        self.limiter.give_back = shared.give_back
        self.limiter.instances = lambda: instances
        self.limiter.sweep(0)  # as the shell does from the start

    @property
    def now_ns(self) -> int:
        return (self.shared.now_us - START_US + 1_000_000) * 1000

    def plan(self, *descriptors: Descriptor, domain: str = "shop", hits: int = 1) -> Plan | Problem:
        return self.planner.plan(b"", Query(domain, descriptors, hits), self.now_ns)

    def send(self, *descriptors: Descriptor, domain: str = "shop", hits: int = 1) -> Outcome | Problem:
        plan = self.plan(*descriptors, domain=domain, hits=hits)
        return plan if isinstance(plan, Problem) else self.run(plan)

    def run(self, plan: Plan) -> Outcome | Problem:
        step = self.limiter.begin(plan, self.now_ns)
        if not isinstance(step, Pending):
            return step
        if not self.shared.is_up:
            return self.limiter.resume_without_store(step, self.now_ns)
        return self.limiter.resume(step, self.shared.decide(step.asks), self.now_ns)

    def at_once(self, plan: Plan, count: int) -> int:
        """Run `count` requests that travel to the store together; return how many pass."""
        steps = [self.limiter.begin(plan, self.now_ns) for _ in range(count)]
        answers = [self.shared.decide(step.asks) if isinstance(step, Pending) else () for step in steps]
        outcomes = [
            self.limiter.resume(step, answer, self.now_ns) if isinstance(step, Pending) else step
            for step, answer in zip(steps, answers, strict=True)
        ]
        return sum(not outcome.over for outcome in outcomes)


def entry(key: str, value: str = "", **more: Any) -> Descriptor:
    return Descriptor(((key, value),), **more)


def limit(requests: int, *, window_us: int = MINUTE_US, **more: Any) -> Limit:
    unit = Unit.MINUTE if window_us == MINUTE_US else Unit.UNKNOWN
    return Limit(requests=requests, window_us=window_us, **{"unit": unit, **more})


def rules(*nodes: Node, domain: str = "shop") -> Rules:
    return Rules({domain: tree(nodes)})


def tree(nodes: Sequence[Node]) -> Node:
    """Put nodes under a domain as the compiler of files does."""
    return Node(
        exact={(node.key, node.value): node for node in nodes if node.value and "*" not in node.value},
        wildcards=tuple(
            (node.key, tuple(node.value.split("*")), node) for node in nodes if "*" in node.value
        ),
        by_key={node.key: node for node in nodes if not node.value},
    )
