"""A pipeline, checks of a tenant with and without tokens, and what the window may say of them."""

from __future__ import annotations

from support.build import NS_PER_S, make_check, make_plan, make_policy, make_tenant

from sentinel_ext.core.decision import Decision, Reason, ShadowDenial
from sentinel_ext.core.model import Mode, Stage
from sentinel_ext.core.pipeline import Pipeline
from sentinel_ext.core.window import WindowReply

START = 1000 * NS_PER_S
ENFORCE, SHADOW, OFF = Mode.ENFORCE, Mode.SHADOW, Mode.OFF
BUCKET_SHADOW = ShadowDenial(Stage.BUCKET, Reason.LOCAL_RATE_LIMITED)
WINDOW_SHADOW = ShadowDenial(Stage.WINDOW, Reason.RATE_LIMITED)
GRANTED = WindowReply(True, 40, 6_000_001, 0, 7)
REFUSED = WindowReply(False, 100, 6_000_001, 1_500_001, 7)


def pipeline(bucket=ENFORCE, window=ENFORCE):
    return Pipeline(make_policy(bucket=bucket, window=window))


def fresh(hits=1, **plan):
    return make_check(make_tenant(make_plan(**plan), now_ns=START), hits)


def exhausted(hits=1, **plan):
    """A check of a tenant whose bucket is empty."""
    check = fresh(hits, **plan)
    assert check.tenant.bucket.try_acquire(check.tenant.bucket.tokens, START)
    return check


def verdict(decision):
    assert isinstance(decision, Decision)
    return decision.allowed, decision.stage, decision.reason, decision.shadow
