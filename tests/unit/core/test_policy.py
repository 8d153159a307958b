"""Patterns of tenants."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.build import make_policy

from sentinel_ext.core.model import FailureMode, Mode, Plan, Stage, Tier
from sentinel_ext.core.policy import Pattern, Policy, UpstreamRules

PLAN = Plan("p", Tier.STANDARD, 1, 60_000_000, 1, 1, FailureMode.LOCAL)
OTHER = Plan("o", Tier.STANDARD, 1, 60_000_000, 1, 1, FailureMode.LOCAL)


@pytest.mark.parametrize(
    ("pattern", "tenant", "matches"),
    [
        ("*", "", True),
        ("*", "anything", True),
        ("trial-*", "trial-", True),
        ("trial-*", "trial-7", True),
        ("trial-*", "a-trial-7", False),
        ("*-eu", "acme-eu", True),
        ("*-eu", "acme-eu2", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("a*b*b", "ab", False),
        ("a**c", "abc", True),
        ("*a*", "bab", True),
        ("*A*", "bab", False),
        ("a.c*", "abc", False),
    ],
)
def test_a_star_stands_for_any_run_of_characters(pattern, tenant, matches):
    assert matches is Pattern(pattern, PLAN).matches(tenant)


@given(st.text("ab*", min_size=1, max_size=8).filter(lambda text: "*" in text), st.text("ab", max_size=10))
def test_patterns_agree_with_regular_expressions(pattern, tenant):
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), tenant) is not None

    assert expected is Pattern(pattern, PLAN).matches(tenant)


def test_many_stars_do_not_backtrack():
    assert not Pattern("*a" * 100 + "*b", PLAN).matches("a" * 256)


def test_a_tenant_gets_its_own_entry_then_a_pattern_then_the_default():
    patterns = (Pattern("a*", OTHER),)
    policy = Policy({}, PLAN, {"abc": PLAN}, patterns, (), {Stage.WINDOW: Mode.SHADOW})

    assert (PLAN, OTHER, PLAN) == (policy.plan_for("abc"), policy.plan_for("abd"), policy.plan_for("b"))
    assert (Mode.SHADOW, Mode.ENFORCE) == (policy.mode(Stage.WINDOW), policy.mode(Stage.BUCKET))


def test_an_upstream_gets_its_own_rules_then_the_defaults():
    orders = UpstreamRules("orders", slo_us=1)
    policy = make_policy(upstreams={"orders": orders}, default_upstream=UpstreamRules(slo_us=2))

    assert orders is policy.upstream("orders")
    assert ("default", 2) == (policy.upstream("Orders").name, policy.upstream("Orders").slo_us)


def test_pressure_and_breaker_have_modes_of_their_own():
    policy = make_policy(pressure=Mode.SHADOW, breaker=Mode.OFF)

    assert (Mode.SHADOW, Mode.OFF) == (policy.mode(Stage.PRESSURE), policy.mode(Stage.BREAKER))
