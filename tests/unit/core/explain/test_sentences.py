"""What an operator reads: one sentence, and what would have to change."""

from __future__ import annotations

import pytest
from support.build import make_check, make_plan, make_policy, make_tenant
from support.overload import RULES, UP, make_controller, opened, see, shed_all, trying
from support.pipeline import START

from sentinel_ext.core.breaker import Force
from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.explain.compose import explain
from sentinel_ext.core.explain.stages import Scene, window_query
from sentinel_ext.core.explain.words import duration, many
from sentinel_ext.core.model import FailureMode, Mode, Stage, Tier
from sentinel_ext.core.report import Shared
from sentinel_ext.core.window import WindowReply


def told(
    *,
    used=0,
    scaled=None,
    fault=None,
    prepare=lambda _controller: None,
    modes=None,
    tokens=None,
    hits=1,
    **plan,
):
    modes = dict.fromkeys(Stage, Mode.ENFORCE) | (modes or {})
    controller = make_controller(make_policy(default_upstream=RULES))
    if prepare is not None:
        prepare(controller)
    tenant = make_tenant(make_plan(**plan), now_ns=START)
    tenant.scaled, tenant.scaled_ns = scaled, START
    if tokens is not None:
        tenant.bucket.try_acquire(tenant.bucket.tokens - tokens, START)
    scene = Scene(make_check(tenant, hits), modes, controller.upstream(UP), 2, START)
    query = window_query(scene)
    said = fault or WindowReply(granted=False, used=used, reset_us=7_000_000, retry_us=12_000_000, slot=0)
    return explain(scene, query, None if query is None else said)


@pytest.mark.parametrize(
    ("case", "sentence", "advice"),
    [
        ({"used": 100}, "100 of 100 requests used in the last 1 min over all", "Wait 12 s, raise `limit`"),
        ({"limit": 0}, "The limit is 0: all requests are refused", "denies all"),
        ({"used": 3, "limit": 4, "hits": 5}, "3 of 4 requests used", "costs 5, more than the limit"),
        ({"tokens": 0}, "0 of 20 tokens left on this instance", "no more than 20 at once and 10 per second"),
        ({"burst": 0}, "0 of 0 tokens left", "can never hold it"),
        (
            {"fault": StoreFault.TIMEOUT, "on_store_failure": FailureMode.CLOSED},
            "The store does not answer (timeout)", "Bring Redis back, or let plan silver do without",
        ),
        (
            {"fault": StoreFault.TIMEOUT, "limit": 1, "hits": 2},
            "0 of 1 request used in the last 1 min on this instance", "each instance enforces its part",
        ),
        ({"prepare": shed_all}, "100% of this tenant's requests are shed", "more capacity"),
        (
            {"prepare": shed_all, "tier": Tier.VITAL},
            "100% of this tenant's requests are shed", "Tier vital is shed last",
        ),
        (
            {"prepare": lambda controller: see(controller, opened())},
            "is open (failure rate): tried again in 4 s", "SetBreaker with mode closed",
        ),
        (
            {"prepare": lambda controller: see(controller, opened(forced=Force.OPEN))},
            "an operator forced it", "SetBreaker with mode auto",
        ),
        (
            {"prepare": lambda controller: see(controller, trying(permits=2))},
            "half-open: 2 of 2 tries are under way; this request is not one", "tried again by itself",
        ),
        (
            {"used": 50, "scaled": 40.0, "prepare": lambda controller: lowered(controller)},  # noqa: PLW0108
            "the plan's 100 are lowered under load", "rises by itself",
        ),
    ],
)  # fmt: skip
def test_a_refusal_says_what_it_saw_and_what_helps(case, sentence, advice):
    explanation = told(**case)

    assert not explanation.decision.allowed
    assert explanation.sentence.startswith("Tenant 'acme' (plan silver, tier ")
    assert sentence in explanation.sentence
    assert advice in explanation.advice


def lowered(controller):
    """The fill lets the tenant have next to nothing, long enough for its limit to have followed."""
    shared = Shared(credit=1.0, peak=10.0, rates={"acme": 0.01}, instances=1)
    controller.upstream(UP).load.adopt(shared)


def test_what_passes_says_how_much_is_left():
    explanation = told(used=3)

    assert explanation.decision.allowed
    assert "would pass. 20 of 20 tokens left" in explanation.sentence
    assert "3 of 100 requests used" in explanation.sentence
    assert "" == explanation.advice


def test_a_stage_in_shadow_is_named():
    explanation = told(used=100, modes={Stage.WINDOW: Mode.SHADOW})

    assert explanation.decision.allowed
    assert "would pass, although window would refuse if enforced" in explanation.sentence


def test_a_stage_that_is_off_says_so():
    explanation = told(modes={Stage.WINDOW: Mode.OFF, Stage.BREAKER: Mode.OFF})

    assert ["The stage is off."] * 2 == [look.text for look in explanation.looks if look.mode is Mode.OFF]


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0 ms"), (999, "999 ms"), (1_000, "1 s"), (1_500, "1.5 s"), (34_200, "34 s"), (60_000, "1 min"),
        (90_000, "90 s"), (400_000, "7 min"), (3_600_000, "1 h"), (9_000_000, "150 min"),
        (8_000_000, "2.2 h"), (86_400_000, "1 d"),
    ],
)  # fmt: skip
def test_lengths_of_time_are_read_at_a_glance(milliseconds, text):
    assert text == duration(milliseconds)


def test_one_is_not_many():
    assert ("1 request", "2 requests", "0 requests") == tuple(many(count, "request") for count in (1, 2, 0))
