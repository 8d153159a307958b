"""What Explain says is what the pipeline then does; and saying it changes nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.build import make_check, make_plan, make_policy, make_tenant
from support.overload import RULES, UP, make_controller, opened, see, trying
from support.pipeline import START

from sentinel_ext.core.decision import Decision, StoreFault
from sentinel_ext.core.explain.compose import explain
from sentinel_ext.core.explain.stages import Scene, window_query
from sentinel_ext.core.model import FailureMode, Mode, Stage, Tier
from sentinel_ext.core.pipeline import Pending, Pipeline
from sentinel_ext.core.report import Shared
from sentinel_ext.core.window import Ring, WindowReply

STAGES = (Stage.BUCKET, Stage.WINDOW, Stage.PRESSURE, Stage.BREAKER)
CASES = st.fixed_dictionaries({
    "modes": st.tuples(*[st.sampled_from(list(Mode))] * 4),
    "limit": st.sampled_from([None, 0, 1, 3, 100]),
    "burst": st.sampled_from([None, 0, 1, 20]),
    "tier": st.sampled_from(list(Tier)),
    "on_store_failure": st.sampled_from(list(FailureMode)),
    "hits": st.sampled_from([1, 1, 1, 2, 5]),
    "tokens_taken": st.integers(0, 20),
    "used": st.integers(0, 4),
    "share": st.sampled_from([0.0, 0.3, 0.7, 1.0, 1.0]),
    "rate": st.sampled_from([None, None, 0.01, 2.0]),
    "breaker": st.sampled_from(["closed", "closed", "open", "half_open"]),
    "store_is_up": st.booleans(),
    "requests": st.integers(0, 5),
})  # fmt: skip


class World:
    """One tenant before one upstream, and a window that answers at once."""

    def __init__(self, case: dict[str, Any]) -> None:
        modes = dict(zip(("bucket", "window", "pressure", "breaker"), case["modes"], strict=True))
        self.modes = dict(zip(STAGES, case["modes"], strict=True))
        policy = make_policy(default_upstream=RULES, **modes)
        self.controller = make_controller(policy)
        self.pipeline = Pipeline(policy, self.controller)
        plan = make_plan(
            limit=case["limit"],
            burst=case["burst"],
            tier=case["tier"],
            on_store_failure=case["on_store_failure"],
        )
        self.tenant = make_tenant(plan, now_ns=START)
        if self.tenant.bucket is not None:
            self.tenant.bucket.try_acquire(min(case["tokens_taken"], self.tenant.bucket.tokens), START)
        self.ring = Ring(self.tenant.sub_us, START // 1000)
        self.ring.add(case["used"], START // 1000)
        self.store_is_up, self.hits = case["store_is_up"], case["hits"]
        load = self.controller.upstream(UP).load
        rates = {} if case["rate"] is None else {self.tenant.name: case["rate"]}
        load.adopt(
            Shared(credit=100.0, peak=100.0, tier_share=(case["share"],) * 3, rates=rates, instances=2)
        )
        if case["breaker"] != "closed" and self.controller.upstream(UP).circuit is not None:
            see(self.controller, opened() if case["breaker"] == "open" else trying())

    def check(self) -> Any:
        return make_check(self.tenant, self.hits, upstream=UP)

    def explain(self, check: Any) -> Any:
        scene = Scene(check, self.modes, self.controller.upstream(UP), 2, START)
        query = window_query(scene)
        said: WindowReply | StoreFault | None = None
        if query is not None:
            said = StoreFault.TIMEOUT
            if self.store_is_up:
                looked = self.ring.acquire(query.limit, query.hits, 0, START // 1000)
                said = WindowReply(looked[1] + query.hits <= query.limit, *looked[1:])
        return explain(scene, query, said)

    def decide(self, check: Any) -> Decision:
        step = self.pipeline.begin(check, START)
        if not isinstance(step, Pending):
            return step
        decision = step.passed
        if step.query is not None:
            if self.store_is_up:
                query = step.query
                granted, *rest = self.ring.acquire(query.limit, query.hits, 1, START // 1000)
                decision = self.pipeline.resume(step, WindowReply(granted == 1, *rest), START)
            else:
                decision = self.pipeline.resume_without_store(step, 2, START)
        assert decision is not None
        if decision.allowed and step.hold is not None and step.hold.wants_permit:
            step.passed, step.hold.wants_permit = decision, False
            permit, circuit = check.decision_id, step.hold.protected.circuit
            circuit.permit_reply(permit, True, circuit.view, START)
            decision = self.pipeline.resume_with_permit(step, permit, START)
        return decision


def said(decision: Decision) -> tuple[object, ...]:
    return (
        decision.allowed,
        decision.stage,
        decision.reason,
        decision.limit,
        decision.remaining,
        decision.retry_ms,
        decision.shadow,
        decision.fallback,
    )


@settings(max_examples=400, deadline=None)
@given(CASES)
def test_what_is_explained_is_what_happens(case: dict[str, Any]) -> None:
    world, twin = World(case), World(case)
    for _ in range(case["requests"]):
        world.decide(world.check())
        twin.decide(twin.check())
    check = world.check()

    first, second = world.explain(check), world.explain(check)
    decision = world.decide(check)

    assert said(decision) == said(first.decision)
    assert said(first.decision) == said(second.decision)
    assert first.looks == second.looks
    assert said(twin.decide(check_like(twin, check))) == said(decision)
    assert first.sentence
    assert decision.allowed == (first.advice == "") == (first.decides is None)
    if not decision.allowed:
        assert decision.reason.value in first.sentence


def check_like(world: World, check: Any) -> Any:
    made = world.check()
    assert made.decision_id == check.decision_id  # the spread of retry-after comes from it
    return made
