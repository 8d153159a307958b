"""Metrics of rate limit requests."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from sentinel_ext.core.ratelimit.outcome import Cause, Outcome, Problem
from sentinel_ext.core.ratelimit.rules import OnStoreFailure
from sentinel_ext.core.ratelimit.tallies import Tallies
from sentinel_ext.telemetry.limits import LimitMetrics

CLOSED = Outcome(True, (), Cause.STORE_UNAVAILABLE, fallback=OnStoreFailure.CLOSED)


@pytest.mark.parametrize(
    ("outcome", "verdict", "cause", "mode"),
    [
        (Outcome(False, ()), "ok", "", None),
        (Outcome(False, (), refused=True), "ok", "shadow", None),
        (Outcome(False, (), fallback=OnStoreFailure.OPEN), "ok", "", "open"),
        (Outcome(True, (), Cause.RATE_LIMITED), "over_limit", "rate_limited", None),
        (CLOSED, "over_limit", "store_unavailable", "closed"),
        (Problem.STORE, "error", "store_unavailable", None),
    ],
)
def test_a_request_is_counted_by_what_came_of_it(outcome, verdict, cause, mode):
    registry = CollectorRegistry()
    LimitMetrics(registry, Tallies()).decided(None, outcome, 1000)

    def counted(name):
        return {
            tuple(sample.labels.values()): sample.value
            for metric in registry.collect()
            for sample in metric.samples
            if sample.name == name and sample.value
        }

    assert {(verdict, cause): 1.0} == counted("sentinel_ratelimit_decisions_total")
    assert ({} if mode is None else {(mode,): 1.0}) == counted("sentinel_ratelimit_store_fallbacks_total")
    assert {(verdict,): 1.0} == counted("sentinel_ratelimit_duration_seconds_count")
