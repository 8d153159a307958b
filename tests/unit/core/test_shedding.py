"""Stages 3 and 4: who is refused, what a request holds, and that all of it goes back when it is refused."""

from __future__ import annotations

import pytest
from support.build import make_check, make_plan, make_policy, make_tenant
from support.overload import (
    RULES,
    START_NS,
    UP,
    circuit_of,
    make_controller,
    ms,
    opened,
    see,
    shed_all,
    trying,
)

from sentinel_ext.core.breaker import CircuitState, View
from sentinel_ext.core.circuit import OTHERS_WAIT_NS, VERDICT_MS
from sentinel_ext.core.decision import Decision, Reason, ShadowDenial
from sentinel_ext.core.model import Mode, Stage, Tier
from sentinel_ext.core.shedding import SHED_RETRY_MS, Hold, Shedding

ENFORCE, SHADOW, OFF = Mode.ENFORCE, Mode.SHADOW, Mode.OFF
EARLIER = (ShadowDenial(Stage.BUCKET, Reason.LOCAL_RATE_LIMITED),)
SHED = ShadowDenial(Stage.PRESSURE, Reason.SHED)
CIRCUIT_OPEN = ShadowDenial(Stage.BREAKER, Reason.CIRCUIT_OPEN)


class House:
    """The two stages over a controller, and what they hold."""

    def __init__(self, pressure: Mode = ENFORCE, breaker: Mode = ENFORCE) -> None:
        policy = make_policy(pressure=pressure, breaker=breaker, default_upstream=RULES)
        self.controller = make_controller(policy)
        self.stages = Shedding(policy, self.controller)

    def admit(self, tier: Tier = Tier.STANDARD, now_ns: int = START_NS, **fields: str) -> Decision | Hold:
        check = make_check(make_tenant(make_plan(tier=tier)), **fields)
        return self.stages.admit(check, EARLIER, now_ns)

    def hold(self, tier: Tier = Tier.STANDARD, now_ns: int = START_NS) -> Hold:
        held = self.admit(tier, now_ns)
        assert isinstance(held, Hold)
        return held

    def refusal(self, tier: Tier = Tier.STANDARD, now_ns: int = START_NS, **fields: str) -> Decision:
        decision = self.admit(tier, now_ns, **fields)
        assert isinstance(decision, Decision)
        assert not decision.allowed
        return decision

    @property
    def in_flight(self) -> list[int]:
        return list(self.controller.upstream(UP).load.flight.open)


@pytest.fixture
def house() -> House:
    return House()


# --- Stage 3 ---


def test_an_untroubled_upstream_takes_the_request_into_its_flight(house):
    hold = house.hold(Tier.VITAL)

    assert [1, 0, 0] == house.in_flight
    assert (house.controller.upstream(UP).ticket, (), False) == (hold.ticket, hold.shadow, hold.wants_permit)


def test_who_gets_no_share_is_refused_with_the_shadows_of_earlier_stages(house):
    shed_all(house.controller)

    decision = house.refusal()

    assert (Stage.PRESSURE, Reason.SHED, EARLIER) == (decision.stage, decision.reason, decision.shadow)
    assert (None, None, "") == (decision.limit, decision.remaining, decision.ticket)
    assert [0, 0, 0] == house.in_flight


@pytest.mark.parametrize("tier", Tier)
@pytest.mark.parametrize(("chance", "factor"), [("0000", 1.0), ("8000", 1.5), ("ffff", 2.0)])
def test_a_shed_request_comes_back_later_the_lower_its_tier_and_spread_over_a_factor_of_two(
    house, tier, chance, factor
):
    shed_all(house.controller)

    decision = house.refusal(tier, decision_id=chance + "0" * 12)

    base = SHED_RETRY_MS[list(Tier).index(tier)]
    assert base <= decision.retry_ms < 2 * base
    assert base * factor == pytest.approx(decision.retry_ms, rel=0.001)


def test_a_refusal_is_awaited_in_the_log(house):
    shed_all(house.controller)
    house.refusal()
    see(house.controller, opened(), "other-one")

    house.refusal(upstream="other-one")

    assert 2 == house.controller.hearing.denials


def test_pressure_in_shadow_lets_pass_says_so_and_counts_it_as_sent():
    house = House(pressure=SHADOW)
    load = shed_all(house.controller).load

    hold = house.hold(Tier.ECONOMY)

    assert (SHED,) == hold.shadow
    assert [0, 0, 1] == house.in_flight
    assert 1 == load.publish(ms(200)).admitted
    house.stages.withdraw(make_check(make_tenant(make_plan(tier=Tier.ECONOMY))), hold)
    assert [0, 0, 0] == house.in_flight


def test_pressure_that_is_off_counts_all_the_same():
    house = House(pressure=OFF)
    load = shed_all(house.controller).load

    hold = house.hold()

    assert ((), [0, 1, 0], 1) == (hold.shadow, house.in_flight, load.publish(ms(200)).admitted)


def test_a_withdrawn_request_leaves_nothing_behind(house):
    check = make_check()
    hold = house.stages.admit(check, (), START_NS)

    house.stages.withdraw(check, hold)

    report = house.controller.upstream(UP).load.publish(ms(200))
    assert ([0, 0, 0], 0) == (house.in_flight, report.admitted)
    assert 0 == sum(demand.rate for demand in report.demands)


# --- Stage 4 ---


def test_an_open_breaker_refuses_until_its_time_is_over(house):
    see(house.controller, opened(4_000))

    decision = house.refusal(now_ns=ms(1_500))

    assert (Stage.BREAKER, Reason.CIRCUIT_OPEN, EARLIER) == (
        decision.stage, decision.reason, decision.shadow,
    )  # fmt: skip
    assert (2_500, [0, 0, 0]) == (decision.retry_ms, house.in_flight)


def test_who_is_shed_hears_that_and_not_that_the_breaker_is_open(house):
    shed_all(house.controller)
    see(house.controller, opened())

    assert Reason.SHED is house.refusal().reason


def test_both_in_shadow_let_pass_and_both_say_so():
    house = House(pressure=SHADOW, breaker=SHADOW)
    shed_all(house.controller)
    see(house.controller, opened())

    assert ((SHED, CIRCUIT_OPEN), [0, 1, 0]) == (house.hold().shadow, house.in_flight)


def test_a_breaker_that_is_off_is_none():
    house = House(breaker=OFF)

    assert house.controller.upstream(UP).circuit is None
    assert house.hold().shadow == ()


def test_a_half_open_breaker_is_asked_by_as_many_as_may_try(house):
    see(house.controller, trying())

    asking = [house.hold(Tier.VITAL).wants_permit for _ in range(2)]
    decision = house.refusal(Tier.VITAL)

    assert [True, True] == asking
    assert (Reason.CIRCUIT_OPEN, VERDICT_MS, [2, 0, 0]) == (
        decision.reason, decision.retry_ms, house.in_flight,
    )  # fmt: skip


def test_others_try_when_no_vital_request_came_for_a_while(house):
    see(house.controller, trying())

    assert Reason.CIRCUIT_OPEN is house.refusal(Tier.ECONOMY).reason
    assert house.hold(Tier.ECONOMY, START_NS + OTHERS_WAIT_NS).wants_permit


def test_who_wanted_a_permit_and_was_refused_before_it_was_asked_makes_room_for_the_next(house):
    """A tenant over its limit must not use up the places of those who may try."""
    see(house.controller, trying())
    check = make_check(make_tenant(make_plan(tier=Tier.VITAL)))
    for _ in range(10):
        hold = house.stages.admit(check, (), START_NS)
        assert isinstance(hold, Hold), "nobody is asking any more, and still there is no place"
        house.stages.withdraw(check, hold)

    assert [0, 0, 0] == house.in_flight
    assert [] == circuit_of(house.controller).take_results()


# --- The permit ---


def settled(house: House, permit: str, tier: Tier = Tier.VITAL) -> tuple[Decision, bool]:
    check = make_check(make_tenant(make_plan(tier=tier)))
    hold = house.stages.admit(check, EARLIER, START_NS)
    assert isinstance(hold, Hold)
    assert hold.wants_permit
    passed = Decision(check, True, Stage.WINDOW, Reason.ALLOWED, 100, 60, 6_000, shadow=EARLIER)
    return house.stages.permit_settled(check, hold, passed, permit, START_NS)


def test_a_granted_permit_travels_in_the_ticket_with_the_epoch_that_granted_it(house):
    see(house.controller, trying(epoch=0xA))

    decision, goes_out = settled(house, "00000000000000d1")

    generation = house.controller.upstream(UP).load.flight.generation
    assert f"i1.{generation:x}.a.00000000000000d1" == decision.ticket
    assert (True, True, Stage.BREAKER) == (goes_out, decision.allowed, decision.stage)
    assert (100, 60, 6_000) == (decision.limit, decision.remaining, decision.reset_ms)
    assert [1, 0, 0] == house.in_flight


def test_without_a_permit_it_is_refused_and_leaves_the_flight(house):
    see(house.controller, trying())

    decision, goes_out = settled(house, "")

    assert (False, False, Reason.CIRCUIT_OPEN) == (goes_out, decision.allowed, decision.reason)
    assert (EARLIER, [0, 0, 0]) == (decision.shadow, house.in_flight)


def test_without_a_permit_in_shadow_it_passes_and_says_so():
    house = House(breaker=SHADOW)
    see(house.controller, trying())

    decision, goes_out = settled(house, "")

    assert (True, True, (*EARLIER, CIRCUIT_OPEN)) == (goes_out, decision.allowed, decision.shadow)
    assert [1, 0, 0] == house.in_flight


def test_a_breaker_that_closed_meanwhile_needs_no_permit(house):
    circuit = see(house.controller, trying())
    check = make_check(make_tenant(make_plan(tier=Tier.VITAL)))
    hold = house.stages.admit(check, (), START_NS)
    passed = Decision(check, True, Stage.WINDOW, Reason.ALLOWED)
    circuit.adopt(View(CircuitState.CLOSED, 10), START_NS)

    assert (passed, True) == house.stages.permit_settled(check, hold, passed, "", START_NS)
