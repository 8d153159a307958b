"""Which rules an upstream gets."""

from __future__ import annotations

import pytest

from sentinel_ext.core.breaker import BreakerOptions
from sentinel_ext.core.model import Mode, Stage
from sentinel_ext.core.policy import PlanDefaults, Policy, UpstreamDefaults, UpstreamRules
from sentinel_ext.policy import parse_policy
from sentinel_ext.settings import Settings

DEFAULTS = PlanDefaults(limit=None, window_us=60_000_000, burst=20, refill_nano=10_000_000_000)
OTHERS = UpstreamDefaults(
    slo_us=300_000,
    timeout_us=4_000_000,
    failure_threshold=0.25,
    consecutive_failures=7,
    cooldown_ms=800,
    half_open_max=2,
)


def load(text: str, upstream: UpstreamDefaults | None = None) -> Policy:
    defaults = DEFAULTS
    if upstream is not None:
        defaults = PlanDefaults(limit=None, window_us=1, burst=1, refill_nano=1, upstream=upstream)
    return parse_policy(text, "policy.yaml", defaults, "x-tenant-id")


def breaker(text: str) -> BreakerOptions:
    found = load(text).upstream("orders").breaker
    assert found is not None
    return found


def test_without_a_word_the_cores_defaults_and_the_environments_are_the_same():
    settings = Settings()

    policy = parse_policy("{}", "policy.yaml", settings.plan_defaults, "x-tenant-id")

    assert UpstreamRules() == policy.upstream("orders")


def test_values_left_out_come_from_the_environment():
    rules = load("upstreams: {orders: }", OTHERS).upstream("orders")

    expected = BreakerOptions(
        failure_threshold=0.25,
        consecutive_failures=7,
        min_requests=20,
        window_ms=10_000,
        cooldown_ms=800,
        half_open_max=2,
        successes_needed=2,
        probe_ttl_ms=4_500,
        slow_rate=None,
    )
    assert UpstreamRules("orders", 300_000, 4_000_000, False, None, None, expected) == rules


def test_all_that_can_be_said_about_an_upstream():
    text = """
upstreams:
  orders:
    slo: 250ms
    timeout: 3s
    capacity: 60000/m
    failures: {count_500: true}
    breaker:
      failure_threshold: 0.3
      consecutive_failures: 6
      min_requests: 50
      window: 30s
      cooldown: 5s
      half_open_max_requests: 8
      successes: 4
      slow: 2s
      slow_rate: 0.9
"""
    options = BreakerOptions(0.3, 6, 50, 30_000, 5_000, 8, 4, 3_500, 0.9)

    expected = UpstreamRules("orders", 250_000, 3_000_000, True, 1000.0, 2_000_000, options)
    assert expected == load(text).upstream("orders")


def test_what_an_upstream_leaves_out_stands_under_default():
    text = """
upstreams:
  default:
    {slo: 1s, failures: {count_500: true}, breaker: {cooldown: 2s, successes: 1, slow: 3s, slow_rate: 1}}
  orders: {timeout: 5s, breaker: {cooldown: 4s}}
"""
    policy = load(text)
    orders, others = policy.upstream("orders"), policy.upstream("search")

    assert (1_000_000, 5_000_000, True) == (orders.slo_us, orders.timeout_us, orders.count_500)
    assert (3_000_000, 1.0) == (orders.slow_us, breaker(text).slow_rate)
    assert (4_000, 1) == (breaker(text).cooldown_ms, breaker(text).successes_needed)
    assert ("default", 1_000_000, 30_000_000) == (others.name, others.slo_us, others.timeout_us)
    assert others is policy.default_upstream is policy.upstream("default")


@pytest.mark.parametrize(
    ("default", "own", "has_breaker"),
    [
        ("{}", "{breaker: off}", False),
        ("{breaker: off}", "{}", False),
        ("{breaker: off}", "", False),
        ("{breaker: off}", "{breaker: {}}", True),
        ("{breaker: {slow: 1s, slow_rate: 1}}", "{breaker: off}", False),
    ],
)
def test_a_breaker_can_be_off_for_one_or_for_the_others(default, own, has_breaker):
    rules = load(f"upstreams: {{default: {default}, orders: {own}}}").upstream("orders")

    assert has_breaker is (rules.breaker is not None)
    assert has_breaker or rules.slow_us is None


def test_no_more_successes_are_needed_than_there_are_permits():
    assert 1 == breaker("upstreams: {orders: {breaker: {half_open_max_requests: 1}}}").successes_needed
    assert 3 == breaker("upstreams: {orders: {breaker: {half_open_max_requests: 9}}}").successes_needed


def test_a_permit_outlives_the_timeout_by_two_flushes_of_the_log():
    assert 501 == breaker("upstreams: {orders: {timeout: 1ms}}").probe_ttl_ms


def test_a_threshold_that_nothing_can_miss_is_worth_a_warning():
    (warning,) = load("upstreams: {orders: {slo: 2s, timeout: 1500ms}}").warnings

    assert warning.endswith(
        "upstreams.orders.slo: 2s is not below the timeout of 1500ms, so all that ends is good"
    )


def test_stages_of_pressure_and_breaker_have_modes():
    assert {Stage.PRESSURE: Mode.SHADOW, Stage.BREAKER: Mode.OFF} == load(
        "stages: {pressure: shadow, breaker: off}"
    ).modes
