"""Customers: exact shares without chance, a bounded table, demands over a few periods."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_ext.core.customers import MAX_CUSTOMERS, Customers
from sentinel_ext.core.fill import Demand
from sentinel_ext.core.report import MAX_NAMED, Shared
from sentinel_ext.core.traffic import PERIODS

NO_BACKSTOP = (0.0, 0.0, 0.0)


@pytest.fixture
def customers() -> Customers:
    return Customers(Shared())


def ask(customers: Customers, name: str, count: int, tier: int = 1, weight: float = 1.0) -> None:
    customer = customers.table.get(name) or customers.first_seen(name, tier, weight, 0.0)
    customer.count += count


def passed(customers: Customers, name: str, count: int = 1) -> int:
    customer = customers.table.get(name) or customers.first_seen(name, 1, 1.0, 0.0)
    return sum(customer.share >= 1.0 or customer.passes() for _ in range(count))


@given(st.text(max_size=20), st.floats(0.0, 1.0), st.integers(1, 200))
def test_of_any_number_of_requests_the_share_passes_give_or_take_one(name, share, count):
    customers = Customers(Shared(tier_share=(1.0, share, 0.0)))

    assert share * count == pytest.approx(passed(customers, name, count), abs=1.001)


def test_of_many_tenants_with_one_request_each_the_share_passes():
    """They neither all pass nor all fail."""
    customers = Customers(Shared(tier_share=(1.0, 0.3, 0.0)))

    assert 300 == pytest.approx(sum(passed(customers, f"tenant-{n}") for n in range(1_000)), abs=50)


def test_a_name_that_is_no_unicode_text_is_a_name(customers):
    ask(customers, "\ud800", 1)

    assert 1 == len(customers)


def test_a_newcomer_gets_its_own_share_or_its_tiers():
    customers = Customers(Shared(tier_share=(1.0, 0.5, 0.0), shares={"known": 0.25}))

    assert 0.25 == customers.first_seen("known", 1, 1.0, 0.0).share
    assert 0.5 == customers.first_seen("new", 1, 1.0, 0.0).share
    assert 0.0 == customers.first_seen("cheap", 2, 1.0, 0.0).share


def test_new_shares_reach_everybody_with_the_backstop_but_a_contract(customers):
    plain = customers.first_seen("plain", 0, 1.0, 0.0)
    contract = customers.first_seen("contract", 0, 1.0, 10.0)
    customers.adopt(Shared(tier_share=(0.8, 1.0, 1.0)), (0.5, 0.0, 0.0))

    assert (0.4, 0.8) == pytest.approx((plain.share, contract.share))


def test_beyond_the_bound_newcomers_count_with_the_rest_of_their_tier(customers):
    for number in range(MAX_CUSTOMERS):
        ask(customers, f"t{number}", 1)
    ask(customers, "late", 5, tier=2)
    ask(customers, "later", 6, tier=2)

    assert MAX_CUSTOMERS == len(customers)
    assert customers.first_seen("late", 2, 1.0, 0.0) is customers.first_seen("other", 2, 1.0, 0.0)
    demands = customers.demands(1.0)
    assert [11.0] == [demand.rate for demand in demands if demand.tier == 2]


def test_the_rest_of_a_tier_follows_its_share():
    customers = Customers(Shared(tier_share=(1.0, 0.5, 0.2)))
    for number in range(MAX_CUSTOMERS):
        ask(customers, f"t{number}", 1)
    customers.adopt(Shared(tier_share=(1.0, 1.0, 0.1)), NO_BACKSTOP)

    assert 0.1 == pytest.approx(customers.first_seen("late", 2, 1.0, 0.0).share)


def test_the_busiest_are_named_and_the_others_summed_up_by_tier(customers):
    for number in range(MAX_NAMED + 10):
        ask(customers, f"t{number:03}", 1_000 - number, tier=number % 3, weight=2.0)
    demands = customers.demands(2.0)
    named = [demand for demand in demands if demand.name]
    others = [demand for demand in demands if not demand.name]

    assert MAX_NAMED == len(named)
    assert Demand("t000", 0, 500.0, 2.0) == named[0]
    assert [0, 1, 2] == [demand.tier for demand in others]
    assert 20.0 == sum(demand.weight for demand in others)
    assert sum(1_000 - n for n in range(MAX_NAMED, MAX_NAMED + 10)) / 2 == sum(d.rate for d in others)


def test_a_demand_is_measured_over_a_few_periods_and_then_forgotten(customers):
    ask(customers, "a", 8)

    seen = [customers.demands(0.8) for _ in range(PERIODS + 1)]

    assert [(Demand("a", 1, 10.0),)] * PERIODS + [()] == seen
    assert 0 == len(customers)
    assert customers.is_idle


def test_a_tenant_that_goes_on_is_not_forgotten(customers):
    for _ in range(3 * PERIODS):
        ask(customers, "a", 1)
        customers.demands(0.8)

    assert 1 == len(customers)


def test_a_table_that_was_full_takes_newcomers_when_others_have_gone(customers):
    for number in range(MAX_CUSTOMERS):
        ask(customers, f"t{number}", 1)
    for _ in range(PERIODS + 1):
        customers.demands(0.8)
    ask(customers, "late", 1)

    assert [Demand("late", 1, 1.25)] == list(customers.demands(0.8))
