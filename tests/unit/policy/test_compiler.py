"""Which numbers a tenant gets."""

from __future__ import annotations

import pytest

from sentinel_ext.core.model import FailureMode, Mode, Stage, Tier
from sentinel_ext.core.policy import PlanDefaults, Policy
from sentinel_ext.policy import parse_policy

DEFAULTS = PlanDefaults(limit=None, window_us=60_000_000, burst=20, refill_nano=10_000_000_000)


def load(text: str) -> Policy:
    return parse_policy(text, "policy.yaml", DEFAULTS, "x-tenant-id")


def test_values_left_out_come_from_the_environment():
    plan = load("plans: {gold: }").plans["gold"]

    assert (None, 60_000_000, 20, 10_000_000_000) == (
        plan.limit,
        plan.window_us,
        plan.burst,
        plan.refill_nano,
    )
    assert (Tier.STANDARD, FailureMode.LOCAL) == (plan.tier, plan.on_store_failure)


def test_zero_denies_all_and_unlimited_is_no_limit():
    plans = load(
        "plans: {none: {limit: 0, burst: 0, refill: 0}, all: {limit: unlimited, burst: unlimited}}"
    ).plans

    assert (0, 0, 0) == (plans["none"].limit, plans["none"].burst, plans["none"].refill_nano)
    assert (None, None) == (plans["all"].limit, plans["all"].burst)


@pytest.mark.parametrize(
    ("plan", "mode"),
    [
        ("{tier: vital}", FailureMode.OPEN),
        ("{tier: vital, on_store_failure: closed}", FailureMode.CLOSED),
        ("{tier: economy}", FailureMode.LOCAL),
        ("{on_store_failure: open}", FailureMode.OPEN),
    ],
)
def test_vital_stays_open_without_a_store_unless_told(plan, mode):
    assert mode is load(f"plans: {{gold: {plan}}}").plans["gold"].on_store_failure


def test_a_tenants_own_values_stand_on_its_plan():
    policy = load(
        "plans: {gold: {tier: vital, limit: 5, burst: 6}}\ntenants: {acme: {plan: gold, limit: 50}}"
    )

    plan = policy.plan_for("acme")
    assert ("acme", Tier.VITAL, 50, 6) == (plan.name, plan.tier, plan.limit, plan.burst)
    assert plan is policy.plans["acme"]


def test_a_tenants_tier_decides_its_failure_mode_unless_the_plan_names_one():
    text = "plans: {a: {tier: vital}, b: {tier: vital, on_store_failure: open}}\n"
    policy = load(text + "tenants: {x: {plan: a, tier: economy}, y: {plan: b, tier: economy}}")

    assert FailureMode.LOCAL is policy.plan_for("x").on_store_failure
    assert FailureMode.OPEN is policy.plan_for("y").on_store_failure


@pytest.mark.parametrize("tenant", ["gold", "{plan: gold}"])
def test_a_tenant_without_own_values_shares_the_plan(tenant):
    policy = load(f"plans: {{gold: {{}}}}\ntenants: {{acme: {tenant}}}")

    assert policy.plans["gold"] is policy.plan_for("acme")


def test_a_tenant_named_like_a_plan_does_not_change_the_plan():
    policy = load("plans: {gold: {limit: 5}}\ntenants: {gold: {limit: 7}, acme: gold}")

    assert (7, 5, 5) == (
        policy.plan_for("gold").limit,
        policy.plan_for("acme").limit,
        policy.plans["gold"].limit,
    )


@pytest.mark.parametrize(
    ("text", "name", "limit"),
    [
        ("{}", "default", None),
        ("plans: {default: {limit: 7}}", "default", 7),
        ("plans: {default: {limit: 7}, gold: {limit: 8}}\ndefault_plan: gold", "gold", 8),
        ("plans: {gold: {limit: 8}}\ndefault_plan: default", "default", None),
    ],
)
def test_the_default_plan(text, name, limit):
    plan = load(text).plan_for("somebody")

    assert (name, limit) == (plan.name, plan.limit)


def test_the_most_literal_pattern_is_first_and_ties_keep_their_order():
    policy = load('tenants: {"*": {}, "a*": {}, "*bc*": {}, "ab*": {}, "a*b": {}}')

    assert ["*bc*", "ab*", "a*b", "a*", "*"] == [pattern.text for pattern in policy.patterns]


def test_a_full_name_wins_over_any_pattern():
    policy = load('tenants: {"trial-*": {limit: 1}, trial-7: {limit: 2}}')

    assert (2, 1) == (policy.plan_for("trial-7").limit, policy.plan_for("trial-8").limit)


def test_modes_hold_what_is_not_plain_enforcement():
    policy = load("stages: {bucket: off, window: enforce}")

    assert {Stage.BUCKET: Mode.OFF} == policy.modes
    assert Mode.ENFORCE is policy.mode(Stage.WINDOW)
