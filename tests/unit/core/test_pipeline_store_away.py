"""The window without its store: each failure mode."""

from __future__ import annotations

import pytest
from support.build import NS_PER_MS, make_check, make_plan, make_tenant
from support.pipeline import (
    BUCKET_SHADOW,
    ENFORCE,
    OFF,
    SHADOW,
    START,
    WINDOW_SHADOW,
    exhausted,
    fresh,
    pipeline,
    verdict,
)

from sentinel_ext.core.decision import Reason, ShadowDenial
from sentinel_ext.core.model import FailureMode, Stage
from sentinel_ext.core.pipeline import STORE_RETRY_MS
from sentinel_ext.core.window import WindowReply


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
