"""Stage order, modes, and the window's answer: a grant, a refusal with its refund."""

from __future__ import annotations

import pytest
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
    pipeline,
    verdict,
)

from sentinel_ext.core.decision import Decision, Reason
from sentinel_ext.core.model import Stage
from sentinel_ext.core.pipeline import NEVER_RETRY_MS, Pending
from sentinel_ext.core.window import WindowQuery

# --- Stage 1, and the order ---


def test_a_check_that_passes_the_bucket_asks_the_window():
    check = fresh(hits=3)

    pending = pipeline().begin(check, START)

    assert isinstance(pending, Pending)
    assert WindowQuery(check.tenant.key, 6_000_000, 100, 3) == pending.query
    assert 17 == check.tenant.bucket.tokens


def test_the_bucket_refuses_before_the_window_is_asked():
    decision = pipeline().begin(exhausted(), START)

    assert (False, Stage.BUCKET, Reason.LOCAL_RATE_LIMITED, ()) == verdict(decision)


def test_a_bucket_denial_says_its_burst_and_when_a_token_comes():
    decision = pipeline().begin(exhausted(burst=20, refill_nano=3_000_000_000), START)

    assert (20, 0, 334, 334) == (decision.limit, decision.remaining, decision.reset_ms, decision.retry_ms)
    assert decision.fallback is None


@pytest.mark.parametrize(
    ("plan", "hits"),
    [({"burst": 0}, 1), ({"burst": 20}, 21), ({"burst": 20, "refill_nano": 0}, 1)],
    ids=["burst 0", "more than the burst", "never refills"],
)
def test_a_bucket_that_can_never_give_asks_for_patience(plan, hits):
    decision = pipeline().begin(exhausted(hits, **plan), START)

    assert (NEVER_RETRY_MS, False) == (decision.retry_ms, decision.allowed)


def test_limit_0_denies_all_without_the_store_and_costs_no_token():
    check = fresh(limit=0)

    decision = pipeline().begin(check, START)

    assert (False, Stage.WINDOW, Reason.RATE_LIMITED, ()) == verdict(decision)
    assert (0, 0, NEVER_RETRY_MS) == (decision.limit, decision.remaining, decision.retry_ms)
    assert 20 == check.tenant.bucket.tokens


def test_burst_0_is_told_before_limit_0():
    assert Stage.BUCKET is pipeline().begin(fresh(burst=0, limit=0), START).stage


def test_an_unlimited_plan_is_decided_by_its_bucket_alone():
    check = fresh(limit=None)

    decision = pipeline().begin(check, START)

    assert (True, Stage.BUCKET, Reason.ALLOWED, ()) == verdict(decision)
    assert (20, 19, 100) == (decision.limit, decision.remaining, decision.reset_ms)


def test_with_neither_burst_nor_limit_nothing_is_claimed():
    decision = pipeline().begin(fresh(limit=None, burst=None), START)

    assert (True, Stage.IDENTIFY, Reason.ALLOWED, ()) == verdict(decision)
    assert (None, None, None) == (decision.limit, decision.remaining, decision.reset_ms)


def test_without_a_burst_the_window_alone_limits():
    check = fresh(burst=None)

    for _ in range(1000):
        assert isinstance(pipeline().begin(check, START), Pending)


@pytest.mark.parametrize(
    ("bucket", "window", "expected"),
    [
        # The bucket is empty; the window, where asked, refuses.
        (ENFORCE, ENFORCE, (False, Stage.BUCKET, Reason.LOCAL_RATE_LIMITED, ())),
        (ENFORCE, SHADOW, (False, Stage.BUCKET, Reason.LOCAL_RATE_LIMITED, ())),
        (ENFORCE, OFF, (False, Stage.BUCKET, Reason.LOCAL_RATE_LIMITED, ())),
        (SHADOW, ENFORCE, (False, Stage.WINDOW, Reason.RATE_LIMITED, (BUCKET_SHADOW,))),
        (SHADOW, SHADOW, (True, Stage.WINDOW, Reason.ALLOWED, (BUCKET_SHADOW, WINDOW_SHADOW))),
        (SHADOW, OFF, (True, Stage.IDENTIFY, Reason.ALLOWED, (BUCKET_SHADOW,))),
        (OFF, ENFORCE, (False, Stage.WINDOW, Reason.RATE_LIMITED, ())),
        (OFF, SHADOW, (True, Stage.WINDOW, Reason.ALLOWED, (WINDOW_SHADOW,))),
        (OFF, OFF, (True, Stage.IDENTIFY, Reason.ALLOWED, ())),
    ],
)
def test_each_stage_enforces_shadows_or_is_off(bucket, window, expected):
    stages = pipeline(bucket, window)

    step = stages.begin(exhausted(), START)

    assert expected == verdict(stages.resume(step, REFUSED, START) if isinstance(step, Pending) else step)


@pytest.mark.parametrize(
    ("bucket", "window", "tokens"),
    [(ENFORCE, OFF, 19), (SHADOW, OFF, 19), (OFF, OFF, 20), (OFF, ENFORCE, 20), (ENFORCE, ENFORCE, 19)],
)
def test_a_bucket_that_is_off_takes_no_token(bucket, window, tokens):
    check = fresh()

    pipeline(bucket, window).begin(check, START)

    assert tokens == check.tenant.bucket.tokens


def test_limit_0_in_shadow_lets_pass_and_says_so():
    decision = pipeline(window=SHADOW).begin(fresh(limit=0), START)

    assert (True, Stage.WINDOW, Reason.ALLOWED, (WINDOW_SHADOW,)) == verdict(decision)


# --- Stage 2 ---


def test_a_grant_allows_with_the_windows_numbers_rounded_up():
    stages, check = pipeline(), fresh()

    decision = stages.resume(stages.begin(check, START), GRANTED, START)

    assert Decision(check, True, Stage.WINDOW, Reason.ALLOWED, 100, 60, 6001) == decision
    assert 19 == check.tenant.bucket.tokens


def test_a_refusal_denies_and_gives_the_token_back():
    stages, check = pipeline(), fresh()

    decision = stages.resume(stages.begin(check, START), REFUSED, START)

    assert Decision(check, False, Stage.WINDOW, Reason.RATE_LIMITED, 100, 0, 1501, 1501) == decision
    assert 20 == check.tenant.bucket.tokens


def test_a_refusal_in_shadow_lets_pass_and_keeps_the_token():
    stages, check = pipeline(window=SHADOW), fresh()

    decision = stages.resume(stages.begin(check, START), REFUSED, START)

    assert (True, (WINDOW_SHADOW,)) == (decision.allowed, decision.shadow)
    assert 19 == check.tenant.bucket.tokens


def test_remaining_is_never_below_zero():
    """A limit that was lowered while hits are counted: more is used than allowed."""
    stages = pipeline(window=SHADOW)

    decision = stages.resume(stages.begin(fresh(limit=30), START), GRANTED, START)

    assert 0 == decision.remaining


def test_what_was_not_taken_is_not_given_back():
    """The bucket in shadow refused: the window's refusal must not refund a token that nobody took."""
    stages, check = pipeline(bucket=SHADOW), exhausted()

    decision = stages.resume(stages.begin(check, START), REFUSED, START)

    assert not decision.allowed
    assert 0 == check.tenant.bucket.tokens


def test_cancel_gives_back_once():
    stages, check = pipeline(), fresh(hits=3)
    pending = stages.begin(check, START)
    assert check.tenant.bucket.try_acquire(10, START)

    stages.cancel(pending)
    stages.cancel(pending)

    assert 10 == check.tenant.bucket.tokens
