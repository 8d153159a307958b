"""Stage order, refunds, modes and failure modes."""

from __future__ import annotations

import pytest
from support.build import NS_PER_MS, NS_PER_S, make_check, make_plan, make_policy, make_tenant
from support.overload import RULES, UP, circuit_of, make_controller, opened, see, shed_all, trying

from sentinel_ext.core.decision import Decision, Reason, ShadowDenial
from sentinel_ext.core.model import FailureMode, Mode, Stage, Tier
from sentinel_ext.core.pipeline import NEVER_RETRY_MS, STORE_RETRY_MS, Pending, Pipeline
from sentinel_ext.core.report import Shared
from sentinel_ext.core.window import WindowQuery, WindowReply

START = 1000 * NS_PER_S
ENFORCE, SHADOW, OFF = Mode.ENFORCE, Mode.SHADOW, Mode.OFF
BUCKET_SHADOW = ShadowDenial(Stage.BUCKET, Reason.LOCAL_RATE_LIMITED)
WINDOW_SHADOW = ShadowDenial(Stage.WINDOW, Reason.RATE_LIMITED)
GRANTED = WindowReply(True, 40, 6_000_001, 0, 7)
REFUSED = WindowReply(False, 100, 6_000_001, 1_500_001, 7)


def pipeline(bucket=ENFORCE, window=ENFORCE):
    return Pipeline(make_policy(bucket=bucket, window=window))


def fresh(hits=1, **plan):
    return make_check(make_tenant(make_plan(**plan), now_ns=START), hits)


def exhausted(hits=1, **plan):
    """A check of a tenant whose bucket is empty."""
    check = fresh(hits, **plan)
    assert check.tenant.bucket.try_acquire(check.tenant.bucket.tokens, START)
    return check


def verdict(decision):
    assert isinstance(decision, Decision)
    return decision.allowed, decision.stage, decision.reason, decision.shadow


# --- Stage 1, and the order ---


def test_a_check_that_passes_the_bucket_asks_the_window():
    check = fresh(hits=3)

    pending = pipeline().begin(check, START)

    assert isinstance(pending, Pending)
    assert WindowQuery(check.tenant.key, 6_000_000, 100, 3) == pending.query
    assert 17 == check.tenant.bucket.tokens


def test_the_bucket_refuses_before_the_window_is_asked():
    decision = pipeline().begin(exhausted(), START)

    assert (False, Stage.BUCKET, Reason.LOCAL_RATE_LIMITED, ()) == verdict(decision)


def test_a_bucket_denial_says_its_burst_and_when_a_token_comes():
    decision = pipeline().begin(exhausted(burst=20, refill_nano=3_000_000_000), START)

    assert (20, 0, 334, 334) == (decision.limit, decision.remaining, decision.reset_ms, decision.retry_ms)
    assert decision.fallback is None


@pytest.mark.parametrize(
    ("plan", "hits"),
    [({"burst": 0}, 1), ({"burst": 20}, 21), ({"burst": 20, "refill_nano": 0}, 1)],
    ids=["burst 0", "more than the burst", "never refills"],
)
def test_a_bucket_that_can_never_give_asks_for_patience(plan, hits):
    decision = pipeline().begin(exhausted(hits, **plan), START)

    assert (NEVER_RETRY_MS, False) == (decision.retry_ms, decision.allowed)


def test_limit_0_denies_all_without_the_store_and_costs_no_token():
    check = fresh(limit=0)

    decision = pipeline().begin(check, START)

    assert (False, Stage.WINDOW, Reason.RATE_LIMITED, ()) == verdict(decision)
    assert (0, 0, NEVER_RETRY_MS) == (decision.limit, decision.remaining, decision.retry_ms)
    assert 20 == check.tenant.bucket.tokens


def test_burst_0_is_told_before_limit_0():
    assert Stage.BUCKET is pipeline().begin(fresh(burst=0, limit=0), START).stage


def test_an_unlimited_plan_is_decided_by_its_bucket_alone():
    check = fresh(limit=None)

    decision = pipeline().begin(check, START)

    assert (True, Stage.BUCKET, Reason.ALLOWED, ()) == verdict(decision)
    assert (20, 19, 100) == (decision.limit, decision.remaining, decision.reset_ms)


def test_with_neither_burst_nor_limit_nothing_is_claimed():
    decision = pipeline().begin(fresh(limit=None, burst=None), START)

    assert (True, Stage.IDENTIFY, Reason.ALLOWED, ()) == verdict(decision)
    assert (None, None, None) == (decision.limit, decision.remaining, decision.reset_ms)


def test_without_a_burst_the_window_alone_limits():
    check = fresh(burst=None)

    for _ in range(1000):
        assert isinstance(pipeline().begin(check, START), Pending)


@pytest.mark.parametrize(
    ("bucket", "window", "expected"),
    [
        # The bucket is empty; the window, where asked, refuses.
        (ENFORCE, ENFORCE, (False, Stage.BUCKET, Reason.LOCAL_RATE_LIMITED, ())),
        (ENFORCE, SHADOW, (False, Stage.BUCKET, Reason.LOCAL_RATE_LIMITED, ())),
        (ENFORCE, OFF, (False, Stage.BUCKET, Reason.LOCAL_RATE_LIMITED, ())),
        (SHADOW, ENFORCE, (False, Stage.WINDOW, Reason.RATE_LIMITED, (BUCKET_SHADOW,))),
        (SHADOW, SHADOW, (True, Stage.WINDOW, Reason.ALLOWED, (BUCKET_SHADOW, WINDOW_SHADOW))),
        (SHADOW, OFF, (True, Stage.IDENTIFY, Reason.ALLOWED, (BUCKET_SHADOW,))),
        (OFF, ENFORCE, (False, Stage.WINDOW, Reason.RATE_LIMITED, ())),
        (OFF, SHADOW, (True, Stage.WINDOW, Reason.ALLOWED, (WINDOW_SHADOW,))),
        (OFF, OFF, (True, Stage.IDENTIFY, Reason.ALLOWED, ())),
    ],
)
def test_each_stage_enforces_shadows_or_is_off(bucket, window, expected):
    stages = pipeline(bucket, window)

    step = stages.begin(exhausted(), START)

    assert expected == verdict(stages.resume(step, REFUSED, START) if isinstance(step, Pending) else step)


@pytest.mark.parametrize(
    ("bucket", "window", "tokens"),
    [(ENFORCE, OFF, 19), (SHADOW, OFF, 19), (OFF, OFF, 20), (OFF, ENFORCE, 20), (ENFORCE, ENFORCE, 19)],
)
def test_a_bucket_that_is_off_takes_no_token(bucket, window, tokens):
    check = fresh()

    pipeline(bucket, window).begin(check, START)

    assert tokens == check.tenant.bucket.tokens


def test_limit_0_in_shadow_lets_pass_and_says_so():
    decision = pipeline(window=SHADOW).begin(fresh(limit=0), START)

    assert (True, Stage.WINDOW, Reason.ALLOWED, (WINDOW_SHADOW,)) == verdict(decision)


# --- Stage 2 ---


def test_a_grant_allows_with_the_windows_numbers_rounded_up():
    stages, check = pipeline(), fresh()

    decision = stages.resume(stages.begin(check, START), GRANTED, START)

    assert Decision(check, True, Stage.WINDOW, Reason.ALLOWED, 100, 60, 6001) == decision
    assert 19 == check.tenant.bucket.tokens


def test_a_refusal_denies_and_gives_the_token_back():
    stages, check = pipeline(), fresh()

    decision = stages.resume(stages.begin(check, START), REFUSED, START)

    assert Decision(check, False, Stage.WINDOW, Reason.RATE_LIMITED, 100, 0, 1501, 1501) == decision
    assert 20 == check.tenant.bucket.tokens


def test_a_refusal_in_shadow_lets_pass_and_keeps_the_token():
    stages, check = pipeline(window=SHADOW), fresh()

    decision = stages.resume(stages.begin(check, START), REFUSED, START)

    assert (True, (WINDOW_SHADOW,)) == (decision.allowed, decision.shadow)
    assert 19 == check.tenant.bucket.tokens


def test_remaining_is_never_below_zero():
    """A limit that was lowered while hits are counted: more is used than allowed."""
    stages = pipeline(window=SHADOW)

    decision = stages.resume(stages.begin(fresh(limit=30), START), GRANTED, START)

    assert 0 == decision.remaining


def test_what_was_not_taken_is_not_given_back():
    """The bucket in shadow refused: the window's refusal must not refund a token that nobody took."""
    stages, check = pipeline(bucket=SHADOW), exhausted()

    decision = stages.resume(stages.begin(check, START), REFUSED, START)

    assert not decision.allowed
    assert 0 == check.tenant.bucket.tokens


def test_cancel_gives_back_once():
    stages, check = pipeline(), fresh(hits=3)
    pending = stages.begin(check, START)
    assert check.tenant.bucket.try_acquire(10, START)

    stages.cancel(pending)
    stages.cancel(pending)

    assert 10 == check.tenant.bucket.tokens


# --- Without the store ---


@pytest.mark.parametrize(
    ("failure", "window", "expected", "tokens"),
    [
        (FailureMode.OPEN, ENFORCE, (True, Stage.WINDOW, Reason.ALLOWED, ()), 19),
        (FailureMode.OPEN, SHADOW, (True, Stage.WINDOW, Reason.ALLOWED, ()), 19),
        (FailureMode.CLOSED, ENFORCE, (False, Stage.WINDOW, Reason.STORE_UNAVAILABLE, ()), 20),
        (
            FailureMode.CLOSED,
            SHADOW,
            (True, Stage.WINDOW, Reason.ALLOWED, (ShadowDenial(Stage.WINDOW, Reason.STORE_UNAVAILABLE),)),
            19,
        ),
        (FailureMode.LOCAL, ENFORCE, (True, Stage.WINDOW, Reason.ALLOWED, ()), 19),
        (FailureMode.LOCAL, SHADOW, (True, Stage.WINDOW, Reason.ALLOWED, ()), 19),
    ],
)
def test_without_the_store_the_plans_failure_mode_decides(failure, window, expected, tokens):
    stages, check = pipeline(window=window), fresh(on_store_failure=failure)

    decision = stages.resume_without_store(stages.begin(check, START), 2, START)

    assert expected == verdict(decision)
    assert failure is decision.fallback
    assert tokens == check.tenant.bucket.tokens


@pytest.mark.parametrize("failure", FailureMode)
def test_a_failure_mode_keeps_the_shadow_marks_of_earlier_stages(failure):
    stages = pipeline(bucket=SHADOW)

    pending = stages.begin(exhausted(on_store_failure=failure), START)
    decision = stages.resume_without_store(pending, 1, START)

    assert (BUCKET_SHADOW,) == decision.shadow


@pytest.mark.parametrize("failure", FailureMode)
def test_off_asks_no_store_so_no_failure_mode_is_needed(failure):
    decision = pipeline(window=OFF).begin(fresh(on_store_failure=failure), START)

    assert (True, None) == (decision.allowed, decision.fallback)


def test_open_claims_the_limit_but_no_remaining():
    stages = pipeline()

    decision = stages.resume_without_store(
        stages.begin(fresh(on_store_failure=FailureMode.OPEN), START), 1, START
    )

    assert (100, None, None, 0) == (decision.limit, decision.remaining, decision.reset_ms, decision.retry_ms)


def test_closed_asks_to_come_back_soon():
    stages = pipeline()

    decision = stages.resume_without_store(
        stages.begin(fresh(on_store_failure=FailureMode.CLOSED), START), 1, START
    )

    assert (100, STORE_RETRY_MS) == (decision.limit, decision.retry_ms)


@pytest.mark.parametrize(("window", "allowed"), [(ENFORCE, 5), (SHADOW, 12)])
def test_local_enforces_this_instances_share(window, allowed):
    stages, tenant = pipeline(window=window), make_tenant(make_plan(limit=10), now_ns=START)

    decisions = [
        stages.resume_without_store(stages.begin(make_check(tenant), START), 2, START) for _ in range(12)
    ]

    assert allowed == sum(decision.allowed for decision in decisions)
    assert {5} == {decision.limit for decision in decisions}
    last = decisions[-1]
    assert 0 == last.remaining
    assert (Reason.RATE_LIMITED if window is ENFORCE else Reason.ALLOWED) is last.reason
    assert (WINDOW_SHADOW,) * (window is SHADOW) == last.shadow
    assert 20 - allowed == tenant.bucket.tokens


def test_local_goes_on_from_what_the_store_last_said():
    stages, tenant = pipeline(), make_tenant(make_plan(limit=100), now_ns=START)
    stages.resume(stages.begin(make_check(tenant), START), WindowReply(True, 98, 1, 0, 1), START)

    decisions = [
        stages.resume_without_store(stages.begin(make_check(tenant), START), 1, START + NS_PER_MS)
        for _ in range(3)
    ]

    assert [True, True, False] == [decision.allowed for decision in decisions]
    assert [1, 0, 0] == [decision.remaining for decision in decisions]
    assert decisions[-1].retry_ms > 0


# --- Stages 3 and 4, around the window ---

SHED_SHADOW = ShadowDenial(Stage.PRESSURE, Reason.SHED)
CIRCUIT_SHADOW = ShadowDenial(Stage.BREAKER, Reason.CIRCUIT_OPEN)


class House:
    """The whole pipeline over a controller."""

    def __init__(self, **modes: Mode) -> None:
        policy = make_policy(default_upstream=RULES, **modes)
        self.controller = make_controller(policy)
        self.stages = Pipeline(policy, self.controller)

    @property
    def in_flight(self) -> int:
        return self.controller.upstream(UP).load.flight.total

    def pending(self, check) -> Pending:
        step = self.stages.begin(check, START)
        assert isinstance(step, Pending)
        return step


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize("limit", [100, None], ids=["window", "bucket alone"])
def test_what_passes_bears_the_ticket_of_its_start(house, limit):
    check = fresh(limit=limit)
    step = house.stages.begin(check, START)
    decision = house.stages.resume(step, GRANTED, START) if limit else step

    assert (True, house.controller.upstream(UP).ticket) == (decision.allowed, decision.ticket)
    assert 1 == house.in_flight


def shed(house: House) -> None:
    shed_all(house.controller)


def trip(house: House) -> None:
    see(house.controller, opened())


def both(house: House) -> None:
    shed(house)
    trip(house)


@pytest.mark.parametrize(
    ("trouble", "tokens", "reason"),
    [
        (both, 0, Reason.LOCAL_RATE_LIMITED),
        (both, 20, Reason.SHED),
        (trip, 20, Reason.CIRCUIT_OPEN),
    ],
    ids=["bucket before pressure", "pressure before breaker", "breaker before window"],
)
def test_the_first_local_stage_that_refuses_says_why_and_costs_nothing(house, trouble, tokens, reason):
    trouble(house)
    check = fresh() if tokens else exhausted()

    decision = house.stages.begin(check, START)

    assert (False, reason, ()) == (decision.allowed, decision.reason, decision.shadow)
    assert (tokens, 0, "") == (check.tenant.bucket.tokens, house.in_flight, decision.ticket)


@pytest.mark.parametrize("limit", [100, None, 0])
def test_in_shadow_all_stages_let_pass_and_say_so_in_their_order(limit):
    house = House(bucket=SHADOW, window=SHADOW, pressure=SHADOW, breaker=SHADOW)
    both(house)

    step = house.stages.begin(exhausted(limit=limit), START)
    decision = house.stages.resume(step, REFUSED, START) if isinstance(step, Pending) else step

    window = () if limit is None else (WINDOW_SHADOW,)
    assert (BUCKET_SHADOW, SHED_SHADOW, CIRCUIT_SHADOW, *window) == decision.shadow
    assert (True, 1) == (decision.allowed, house.in_flight)
    assert house.controller.upstream(UP).ticket == decision.ticket


@pytest.mark.parametrize("stage", ["pressure", "breaker"])
def test_a_local_stage_that_refuses_keeps_the_shadow_marks_before_it(stage):
    house = House(bucket=SHADOW)
    shed(house) if stage == "pressure" else trip(house)
    check = exhausted()

    decision = house.stages.begin(check, START)

    assert (False, (BUCKET_SHADOW,), 0) == (decision.allowed, decision.shadow, check.tenant.bucket.tokens)


def test_a_window_that_is_off_leaves_pressure_and_breaker_on_even_for_limit_0():
    house = House(window=OFF)
    check = fresh(limit=0)

    assert house.stages.begin(check, START).ticket
    assert 1 == house.in_flight
    shed(house)
    assert Reason.SHED is house.stages.begin(make_check(make_tenant(name="b")), START).reason


def test_deny_all_starts_nothing(house):
    decision = house.stages.begin(fresh(limit=0), START)

    assert (False, Reason.RATE_LIMITED, 0) == (decision.allowed, decision.reason, house.in_flight)


@pytest.mark.parametrize("how", ["refused", "cancelled", "closed"])
def test_what_does_not_pass_after_all_gives_its_place_in_flight_back(house, how):
    check = fresh(on_store_failure=FailureMode.CLOSED)
    pending = house.pending(check)
    assert 1 == house.in_flight

    if how == "refused":
        house.stages.resume(pending, REFUSED, START)
    elif how == "cancelled":
        house.stages.cancel(pending)
        house.stages.cancel(pending)
    else:
        house.stages.resume_without_store(pending, 1, START)

    assert (0, 20) == (house.in_flight, check.tenant.bucket.tokens)


@pytest.mark.parametrize("failure", [FailureMode.OPEN, FailureMode.LOCAL])
def test_what_passes_without_the_store_bears_its_ticket(house, failure):
    pending = house.pending(fresh(on_store_failure=failure))

    decision = house.stages.resume_without_store(pending, 1, START)

    assert (house.controller.upstream(UP).ticket, 1) == (decision.ticket, house.in_flight)


def test_a_tenant_s_limit_follows_its_rate_and_comes_back():
    house = House()
    load, check = house.controller.upstream(UP).load, fresh(limit=6_000)
    load.adopt(Shared(rates={"acme": 10.0}))
    first = house.pending(check).query.limit

    at_last = house.stages.begin(check, START + 120 * NS_PER_S).query.limit
    load.adopt(Shared())
    again = house.stages.begin(check, START + 121 * NS_PER_S).query.limit

    assert (6_000, 6_000) == (first, again)
    assert 10 * 60 < at_last < 1.5 * 10 * 60
    assert check.tenant.scaled is None


# --- The permit of a half-open breaker ---


def vital(**plan):
    return fresh(tier=Tier.VITAL, **plan)


@pytest.mark.parametrize(("limit", "window"), [(None, ENFORCE), (100, OFF), (0, SHADOW)])
def test_without_a_window_to_ask_only_the_permit_is_missing(limit, window):
    house = House(window=window)
    see(house.controller, trying())

    pending = house.pending(vital(limit=limit))
    assert (None, True) == (pending.query, pending.passed.allowed)
    decision = house.stages.resume_with_permit(pending, "p1", START)

    assert (True, Stage.BREAKER, "p1") == (decision.allowed, decision.stage, decision.ticket.split(".")[3])
    assert (WINDOW_SHADOW,) * (limit == 0) == decision.shadow


def test_a_refused_permit_gives_all_back(house):
    see(house.controller, trying())
    check = vital()
    pending = house.pending(check)
    pending.passed = house.stages.resume(pending, GRANTED, START)

    decision = house.stages.resume_with_permit(pending, "", START)

    assert (False, Stage.BREAKER, Reason.CIRCUIT_OPEN) == (decision.allowed, decision.stage, decision.reason)
    assert (0, 20) == (house.in_flight, check.tenant.bucket.tokens)
    house.stages.cancel(pending)
    assert (0, 20) == (house.in_flight, check.tenant.bucket.tokens)


def test_who_is_over_its_limit_uses_up_no_place_of_those_who_may_try(house):
    circuit = see(house.controller, trying())
    for _ in range(10):
        house.stages.resume(house.pending(vital()), REFUSED, START)

    assert house.pending(vital()).hold.wants_permit
    assert circuit is circuit_of(house.controller)
