"""Pressure and breaker around the window: their order, their refunds, the permit of a half-open breaker."""

from __future__ import annotations

import pytest
from support.build import NS_PER_S, make_check, make_policy, make_tenant
from support.overload import RULES, UP, circuit_of, make_controller, opened, see, shed_all, trying
from support.pipeline import (
    BUCKET_SHADOW,
    ENFORCE,
    GRANTED,
    OFF,
    REFUSED,
    SHADOW,
    START,
    WINDOW_SHADOW,
    exhausted,
    fresh,
)

from sentinel_ext.core.decision import Reason, ShadowDenial
from sentinel_ext.core.model import FailureMode, Mode, Stage, Tier
from sentinel_ext.core.pipeline import Pending, Pipeline
from sentinel_ext.core.report import Shared

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
