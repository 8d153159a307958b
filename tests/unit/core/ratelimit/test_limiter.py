"""Decisions of rate limit requests over counters of the test's own."""

from __future__ import annotations

import pytest
from support.limits import MINUTE_US, Instance, SharedCounters, entry, limit, rules

from sentinel_ext.core.ratelimit.outcome import UNLIMITED_REMAINING, Cause, Outcome, Problem
from sentinel_ext.core.ratelimit.pending import Options
from sentinel_ext.core.ratelimit.query import Descriptor, Override, Query
from sentinel_ext.core.ratelimit.rules import Algorithm, Node, OnStoreFailure, Rules, Unit

USER, SHADOW, QUOTA_A, QUOTA_B = entry("user"), entry("shadow"), entry("quota_a"), entry("quota_b")


def of(instance: Instance, *descriptors: Descriptor, **more: int) -> Outcome:
    outcome = instance.send(*descriptors, **more)
    assert isinstance(outcome, Outcome)
    return outcome


def codes(outcome: Outcome) -> list[bool]:
    return [status.over for status in outcome.statuses]


def left(outcome: Outcome) -> list[int]:
    return [status.remaining for status in outcome.statuses]


def make(*nodes: Node, options: Options | None = None) -> Instance:
    return Instance(SharedCounters(), rules(*nodes), options)


def test_the_limit_passes_and_the_next_request_does_not():
    user = make(Node("user", limits=(limit(3, name="three"),)))

    outcomes = [of(user, USER) for _ in range(5)]

    assert [False, False, False, True, True] == [outcome.over for outcome in outcomes]
    assert [2, 1, 0, 0, 0] == [left(outcome)[0] for outcome in outcomes]
    assert all("three" == outcome.statuses[0].limit.name for outcome in outcomes)
    assert all(0 < outcome.statuses[0].reset_us <= MINUTE_US for outcome in outcomes)
    assert [None, Cause.RATE_LIMITED] == [outcomes[0].cause, outcomes[4].cause]


def test_what_is_over_is_refused_without_asking_until_the_window_ends():
    user = make(Node("user", limits=(limit(1),)))
    of(user, USER)
    of(user, USER)
    asked = user.shared.calls

    assert all(of(user, USER).over for _ in range(100))
    assert asked == user.shared.calls
    user.shared.now_us += MINUTE_US
    assert not of(user, USER).over


def test_an_oversized_request_is_refused_and_fills_the_window_as_its_files_mean():
    user = make(Node("user", limits=(limit(10),)))

    assert [False, True, True] == [of(user, USER, hits=hits).over for hits in (8, 5, 1)]


def test_a_limit_that_does_not_count_the_denied_lets_smaller_requests_pass():
    user = make(Node("user", limits=(limit(10, count_denied=False),)))

    assert [False, True, False, True] == [of(user, USER, hits=hits).over for hits in (8, 5, 2, 1)]


def test_a_look_at_exactly_the_limit_passes_and_counts_nothing():
    user = make(Node("user", limits=(limit(2),)))
    of(user, USER, hits=2)

    looks = [of(user, entry("user", hits=0)) for _ in range(3)]

    assert [False] * 3 == [outcome.over for outcome in looks]
    assert [0] * 3 == [left(outcome)[0] for outcome in looks]
    of(user, USER)
    assert of(user, entry("user", hits=0)).over


def test_negative_hits_give_back_and_end_what_is_known_to_be_over():
    user = make(Node("user", limits=(limit(2),)))
    for _ in range(3):
        of(user, USER)

    back = of(user, entry("user", hits=-2))

    assert not back.over
    assert not of(user, USER).over
    assert not of(user, entry("user", hits=-1_000)).over
    assert 2 == left(of(user, entry("user", hits=0)))[0]


def test_unmatched_unlimited_and_exempt_descriptors_pass():
    user = make(
        Node("free", limits=(limit(0, unlimited=True),)),
        Node("white", "x"),
        Node("white", limits=(limit(1),)),
    )

    outcome = of(user, entry("free"), entry("white", "x"), entry("nobody"), Descriptor(()))

    assert not outcome.over
    assert [UNLIMITED_REMAINING, 0, 0, 0] == left(outcome)
    assert [None] * 4 == [status.limit for status in outcome.statuses]
    assert [None] * 4 == [status.reset_us for status in outcome.statuses]
    assert 0 == user.shared.calls


def test_shadow_counts_and_lets_pass():
    user = make(Node("shadow", limits=(limit(1),), shadow=True))
    of(user, SHADOW)

    outcome = of(user, SHADOW)

    assert not outcome.over
    assert [False] == codes(outcome)
    assert (0,) == outcome.shadow_over
    assert [0] == left(outcome)
    assert outcome.statuses[0].limit is not None


def test_global_shadow_passes_the_request_and_leaves_the_statuses():
    user = make(Node("user", limits=(limit(1),)), options=Options(shadow=True))
    of(user, USER)

    outcome = of(user, USER)

    assert not outcome.over
    assert outcome.refused
    assert [True] == codes(outcome)


def test_quota_refuses_only_when_all_quota_descriptors_are_over():
    quotas = make(
        Node("quota_a", limits=(limit(1),), quota=True), Node("quota_b", limits=(limit(2),), quota=True)
    )

    outcomes = [of(quotas, QUOTA_A, QUOTA_B) for _ in range(3)]

    assert [False, False, True] == [outcome.over for outcome in outcomes]
    assert [[False, False], [True, False], [True, True]] == [codes(outcome) for outcome in outcomes]
    assert (0, 1) == outcomes[0].quota


def test_an_ordinary_descriptor_refuses_beside_quota_ones():
    both = make(Node("quota_a", limits=(limit(5),), quota=True), Node("user", limits=(limit(1),)))
    of(both, QUOTA_A, USER)

    assert of(both, QUOTA_A, USER).over


def test_with_quota_mode_for_all_an_unmatched_descriptor_passes_the_request():
    user = make(Node("user", limits=(limit(1),)), options=Options(quota=True))
    of(user, USER)

    assert of(user, USER).over
    assert not of(user, USER, entry("nobody")).over


def test_a_refused_request_costs_nothing_where_limits_say_so():
    user = make(
        Node("user", limits=(limit(1),)),
        Node("path", limits=(limit(10, count_denied=False),)),
        Node("host", limits=(limit(10),)),
    )
    of(user, USER, entry("path"), entry("host"))
    for _ in range(4):
        assert of(user, USER, entry("path"), entry("host")).over

    assert [9, 5] == left(of(user, entry("path", hits=0), entry("host", hits=0)))


def test_several_limits_on_one_key_all_hold_and_the_tightest_is_told():
    user = make(Node("user", limits=(limit(2, window_us=1_000_000, name="s"), limit(3, name="m"))))

    outcomes = [of(user, USER) for _ in range(3)]
    user.shared.now_us += 1_000_000
    outcomes.append(of(user, USER))

    assert [False, False, True, True] == [outcome.over for outcome in outcomes]
    assert ["s", "s", "s", "m"] == [outcome.statuses[0].limit.name for outcome in outcomes]


def test_replaces_takes_limits_away_for_the_whole_request():
    user = make(
        Node("user", limits=(limit(0, name="banned"),)), Node("vip", limits=(limit(9, replaces=("banned",)),))
    )

    assert of(user, USER).over
    outcome = of(user, USER, entry("vip"))
    assert not outcome.over
    assert outcome.statuses[0].limit is None


def test_an_override_needs_no_rule_but_its_domain():
    user = make(Node("user", limits=(limit(1),)))
    own = Override(2, Unit.HOUR)

    outcomes = [of(user, entry("any", "1", override=own)) for _ in range(3)]

    assert [False, False, True] == [outcome.over for outcome in outcomes]
    assert (2, Unit.HOUR, "") == (
        outcomes[0].statuses[0].limit.requests,
        outcomes[0].statuses[0].limit.unit,
        outcomes[0].statuses[0].limit.name,
    )
    assert not of(user, entry("any", "1", override=Override(0, Unit.HOUR)), domain="elsewhere").over


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        (Query("", (USER,)), Problem.NO_DOMAIN),
        (Query("shop", ()), Problem.NO_DESCRIPTORS),
        (Query("shop", (entry("user", override=Override(1, Unit.UNKNOWN)),)), Problem.UNKNOWN_UNIT),
    ],
)
def test_a_request_that_cannot_be_decided_says_why(query, problem):
    assert problem == Instance(SharedCounters(), Rules()).planner.plan(b"", query, 0)


def test_without_rules_nothing_is_decided():
    assert Problem.NO_RULES == Instance(SharedCounters(), None).send(USER)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (OnStoreFailure.OPEN, [False] * 6),
        (OnStoreFailure.CLOSED, [True] * 6),
        (OnStoreFailure.LOCAL, [False, False, True, True, True, True]),
    ],
)
def test_without_the_store_a_limit_does_as_it_says(mode, expected):
    user = Instance(
        SharedCounters(), rules(Node("user", limits=(limit(4, on_store_failure=mode),))), instances=2
    )
    user.shared.is_up = False

    assert expected == [of(user, USER).over for _ in range(6)]


def test_closed_says_that_the_store_is_away():
    user = make(Node("user", limits=(limit(4, on_store_failure=OnStoreFailure.CLOSED),)))
    user.shared.is_up = False

    assert Cause.STORE_UNAVAILABLE == of(user, USER).cause


def test_what_decided_in_the_stores_place_is_told_and_of_several_the_strictest():
    modes = ("open", "local", "closed")
    user = make(
        *(Node(mode, limits=(limit(4, on_store_failure=OnStoreFailure(mode)),)) for mode in modes),
        Node("full", limits=(limit(1),)),
    )
    of(user, entry("full"))
    assert of(user, entry("full")).over
    assert None is of(user, entry("open")).fallback
    user.shared.is_up = False

    assert list(modes) == [of(user, entry(mode)).fallback for mode in modes]
    assert "local" == of(user, entry("open"), entry("local")).fallback
    assert "closed" == of(user, entry("local"), entry("closed"), entry("open")).fallback
    # Known to be over: the store was not missed.
    assert (True, None) == (of(user, entry("full"), entry("open")).over, of(user, entry("full")).fallback)


def test_by_default_a_lost_store_fails_the_call():
    user = make(
        Node("user", limits=(limit(4),)),
        Node("open", limits=(limit(4, on_store_failure=OnStoreFailure.OPEN),)),
    )
    user.shared.is_up = False

    assert Problem.STORE == user.send(USER)
    assert Problem.STORE == user.send(entry("open"), USER)
    assert not of(user, entry("open")).over


def test_a_local_share_starts_from_what_the_store_last_said_and_a_flapping_store_does_not_renew_it():
    user = Instance(
        SharedCounters(),
        rules(Node("user", limits=(limit(10, on_store_failure=OnStoreFailure.LOCAL),))),
        instances=2,
    )
    for _ in range(4):
        of(user, USER)
    passed = 0
    for _ in range(5):
        user.shared.is_up = False
        passed += sum(not of(user, USER).over for _ in range(4))
        user.shared.is_up = True
        of(user, entry("user", hits=0))

    assert 3 == passed  # 10 / 2, less its part of the 4


def test_a_reload_keeps_counters_and_follows_the_new_number():
    user = make(Node("user", limits=(limit(2),)))
    for _ in range(3):
        of(user, USER)
    user.planner.replace(rules(Node("user", limits=(limit(5),))))

    outcomes = [of(user, USER) for _ in range(3)]

    assert [False, False, True] == [outcome.over for outcome in outcomes]


def test_metadata_names_the_request_what_rules_say_and_which_fired():
    user = make(
        Node("user", limits=(limit(1),), metadata={"team": {"a": 1}, "x": "first"}),
        Node("path", limits=(limit(5),), metadata={"team": {"b": 2}, "x": "second"}),
        options=Options(metadata=True),
    )

    passed, refused = (of(user, entry("user", "u"), entry("path", "p")) for _ in range(2))

    assert {"team": {"a": 1, "b": 2}, "x": "first"} == passed.metadata["metadata"]
    assert ["user=u"] == passed.metadata["descriptors"][0]["entries"]
    assert "sentinel" not in passed.metadata
    assert {"team": {"b": 2}, "x": "second"} == refused.metadata["metadata"]
    assert ["user"] == refused.metadata["sentinel"]["rules"]


def test_gcra_lets_a_burst_pass_and_then_the_rate():
    user = make(
        Node(
            "user",
            limits=(limit(60, algorithm=Algorithm.GCRA, burst=3, count_denied=False),),
        )
    )

    burst = [of(user, USER).over for _ in range(5)]
    user.shared.now_us += 2_000_000
    later = [of(user, USER).over for _ in range(3)]

    assert [False, False, False, True, True] == burst
    assert [False, False, True] == later
