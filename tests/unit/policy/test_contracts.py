"""Guaranteed rates and weights: who has which, and what they are held against."""

from __future__ import annotations

import pytest

from sentinel_ext.core.policy import PlanDefaults, Policy
from sentinel_ext.errors import PolicyError
from sentinel_ext.policy import parse_policy

DEFAULTS = PlanDefaults(limit=None, window_us=60_000_000, burst=20, refill_nano=10**15)
GOLD = "plans: {gold: {tier: vital, guaranteed: 200/s}}\n"


def load(text: str) -> Policy:
    return parse_policy(text, "policy.yaml", DEFAULTS, "x-tenant-id")


def problems(text: str) -> list[str]:
    found: tuple[str, ...] = ()
    try:
        load(text)
    except PolicyError as error:
        found = error.problems
    return [line.partition(": ")[2] for line in found]


def warnings(text: str) -> list[str]:
    return [line.partition(": ")[2] for line in load(text).warnings]


@pytest.mark.parametrize(
    ("written", "per_s"),
    [("200/s", 200.0), (0.5, 0.5), ("90/m", 1.5), ("1000000/s", 1e6), ("1/d", 0.000011574)],
)
def test_a_contract_is_requests_per_second(written, per_s):
    plan = load(f"plans: {{gold: {{tier: vital, guaranteed: {written}}}}}").plans["gold"]

    assert per_s == plan.guaranteed_per_s


def test_without_a_word_there_is_no_contract_and_weights_are_equal():
    plan = load("{}").default_plan

    assert (1, 0.0) == (plan.weight, plan.guaranteed_per_s)


def test_a_tenant_has_its_plans_contract_and_weight_unless_it_has_its_own():
    text = "plans: {gold: {tier: vital, guaranteed: 200/s, weight: 4}}\n"
    policy = load(
        text + "tenants: {a: gold, b: {plan: gold, limit: unlimited}, c: {plan: gold, guaranteed: 5}}"
    )

    assert [200.0, 200.0, 5.0] == [policy.plan_for(name).guaranteed_per_s for name in "abc"]
    assert [4, 4, 4] == [policy.plan_for(name).weight for name in "abc"]


@pytest.mark.parametrize("own", ["tier: economy", "limit: 0"])
def test_a_tenant_taken_out_of_vital_or_denied_all_leaves_the_contract_behind(own):
    assert 0.0 == load(GOLD + f"tenants: {{acme: {{plan: gold, {own}}}}}").plan_for("acme").guaranteed_per_s


def test_a_contract_may_be_all_of_the_limit():
    plan = "plans: {gold: {tier: vital, limit: 60, window: 60s, guaranteed: %s}}"

    assert [] == problems(plan % "1/s")
    assert [
        "plans.gold.guaranteed: a contract of 1.000001/s is above the limit of 60 in 60s, which is 1/s"
    ] == (problems(plan % "1.000001/s"))


def test_an_own_contract_beside_a_limit_of_zero_is_a_mistake():
    (found,) = problems("plans: {gold: {tier: vital, limit: 0, guaranteed: 1/s}}")

    assert found.endswith("a contract of 1/s is above the limit of 0 in 60s, which is 0/s")


@pytest.mark.parametrize(("capacity", "fits"), [("1000/s", True), ("999.999/s", False), ("1/d", False)])
def test_contracts_may_be_seven_tenths_of_a_capacity(capacity, fits):
    text = GOLD + "tenants: {a: gold, b: gold, c: gold, d: {plan: gold, guaranteed: 100/s}}\n"

    assert fits is not bool(problems(text + f"upstreams: {{orders: {{capacity: {capacity}}}}}"))


def test_both_numbers_are_named():
    (found,) = problems(GOLD + "tenants: {a: gold, b: gold}\nupstreams: {orders: {capacity: 500/s}}")

    assert (
        "upstreams.orders.capacity: the contracts (guaranteed) of 2 tenants add up to 400/s, "
        "which is more than 0.7 of 500/s: 350/s"
    ) == found


def test_a_plan_that_nobody_has_binds_nothing():
    assert [] == problems(GOLD + "upstreams: {orders: {capacity: 1/s}}")


def test_a_capacity_under_default_is_checked_once_where_it_stands():
    text = GOLD + "tenants: {a: gold}\nupstreams: {default: {capacity: 100/s}, orders: {}, search: {}}"

    (found,) = problems(text)
    assert found.startswith("upstreams.default.capacity: ")


def test_a_wrong_plan_is_told_without_a_sum_that_follows_from_it():
    text = "plans: {default: {tier: vital, guaranteed: 200/s}}\ntenants: {a: gold, b: gold}\n"

    found = problems(text + "upstreams: {orders: {capacity: 100/s}}")

    assert ["tenants.a", "tenants.b"] == [line.partition(": ")[0] for line in found]


def test_a_patterns_contract_is_counted_once_with_a_warning():
    text = GOLD + 'tenants: {"eu-*": gold}\nupstreams: {orders: {capacity: 286/s}}'

    assert ['tenants."eu-*": each tenant of it has a contract of 200/s, which is counted only once'] == (
        warnings(text)
    )
    assert 1 == len(problems(text.replace("286/s", "285/s")))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("plans: {default: {tier: vital, guaranteed: 200/s}}\n", "plans.default.guaranteed"),
        (GOLD + "default_plan: gold\n", "default_plan"),
    ],
)
def test_a_contract_for_everybody_is_counted_once_with_a_warning(text, path):
    text += "upstreams: {orders: {capacity: 286/s}}"

    assert [f"{path}: each tenant of it has a contract of 200/s, which is counted only once"] == warnings(
        text
    )
    assert 1 == len(problems(text.replace("286/s", "285/s")))


def test_contracts_that_nothing_is_held_against_are_worth_a_warning():
    (found,) = warnings(GOLD + "tenants: {a: gold}")

    assert "contracts of 200/s are checked against nothing: no upstream has a capacity" == found


def test_a_contract_that_no_instance_lets_pass_is_worth_a_warning():
    plan = "plans: {gold: {tier: vital, guaranteed: 200/s, refill: %s}}"

    assert [
        "plans.gold.guaranteed: 200/s is more than the refill of 50/s, all that one instance lets pass"
    ] == (warnings(plan % "50/s"))
    assert [] == warnings(plan % "200/s")
    assert [] == warnings(plan % "50/s, burst: unlimited")


def test_many_tenants_of_one_plan_add_up():
    tenants = "".join(f"  t{number}: gold\n" for number in range(1000))
    text = GOLD + "tenants:\n" + tenants + "upstreams: {orders: {capacity: 285714/s}}"

    (found,) = problems(text)
    assert "of 1000 tenants add up to 200000/s, which is more than 0.7 of 285714/s: 199999.8/s" in found
