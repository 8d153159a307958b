"""Rate limits with a tier: shed under pressure like Check's requests, and held in flight until they end."""

from __future__ import annotations

import pytest
from support.limits import Instance, SharedCounters, entry, limit, rules

from sentinel_ext.core.controller import Controller
from sentinel_ext.core.model import Tier
from sentinel_ext.core.policy import PlanDefaults
from sentinel_ext.core.ratelimit.admission import Admission
from sentinel_ext.core.ratelimit.outcome import Cause, Outcome
from sentinel_ext.core.ratelimit.rules import Node
from sentinel_ext.policy import parse_policy

USER, VIP = entry("user"), entry("vip")
DEFAULTS = PlanDefaults(limit=None, window_us=60_000_000, burst=20, refill_nano=10**10)


@pytest.fixture
def tiered() -> tuple[Instance, Controller]:
    instance = Instance(
        SharedCounters(),
        rules(
            Node("user", limits=(limit(2, tier=Tier.ECONOMY, upstream="orders"),)),
            Node("vip", limits=(limit(9, tier=Tier.VITAL, upstream="orders"),)),
        ),
    )
    controller = Controller("i1", parse_policy("", "p", DEFAULTS, "x"), 10**9)
    instance.limiter.admission = Admission(controller, lambda count: "ab" * count)
    return instance, controller


def of(instance: Instance, *descriptors) -> Outcome:
    outcome = instance.send(*descriptors)
    assert isinstance(outcome, Outcome)
    return outcome


def in_flight(controller: Controller) -> list[int]:
    return list(controller.upstream("orders").load.flight.open)


def test_a_request_that_passes_is_in_flight_and_has_a_ticket(tiered):
    instance, controller = tiered
    outcome = of(instance, USER)

    assert [0, 0, 1] == in_flight(controller)
    assert (True, "economy", "orders", "ab" * 8) == tuple(
        outcome.metadata[name] for name in ("allowed", "tier", "upstream", "decision_id")
    )
    assert outcome.metadata["ticket"].startswith("i1.")


def test_one_that_its_limit_refuses_is_not(tiered):
    instance, controller = tiered
    for _ in range(3):
        last = of(instance, USER)

    assert last.over
    assert [0, 0, 2] == in_flight(controller)
    assert (False, "rate_limited") == (last.metadata["allowed"], last.metadata["reason"])


def test_of_several_tiers_the_least_vital_counts(tiered):
    instance, controller = tiered
    of(instance, VIP, USER)

    assert [0, 0, 1] == in_flight(controller)


def test_a_shed_request_is_refused_with_its_reason_and_asks_nothing(tiered):
    instance, controller = tiered
    controller.upstream("orders").load.limits = (100, 50, 0)
    outcome = of(instance, USER)

    assert (True, Cause.SHED, 0) == (outcome.over, outcome.cause, instance.shared.calls)
    assert 15_000_000 <= outcome.retry_us < 30_000_000
    assert not of(instance, VIP).over
    assert 1 == sum(controller.upstream("orders").sheds.values())


def test_a_store_that_is_away_leaves_nobody_in_flight(tiered):
    instance, controller = tiered
    instance.shared.is_up = False
    instance.send(USER)

    assert [0, 0, 0] == in_flight(controller)
