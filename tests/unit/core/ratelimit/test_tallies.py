"""Hits over, near and within a limit: the splits that users of envoyproxy/ratelimit know."""

from __future__ import annotations

import pytest

from sentinel_ext.core.ratelimit.tallies import MAX_TALLIES, OTHER, Tallies, Tally


@pytest.mark.parametrize(
    ("limit", "hits", "used", "over", "near", "within"),
    [
        (15, 1, 11, 0, 0, 1),
        (15, 1, 13, 0, 1, 1),
        (15, 1, 16, 1, 0, 0),
        (8, 2, 7, 0, 1, 2),
        (20, 3, 19, 0, 3, 3),
        (20, 3, 22, 2, 1, 0),
        (20, 7, 22, 2, 4, 0),
        (10, 3, 30, 3, 0, 0),
        (15, 1, 12, 0, 0, 1),
        (15, 1, 15, 0, 1, 1),
        (10, 0, 10, 0, 0, 0),
        (0, 1, 1, 1, 0, 0),
        (1000, 400, 1200, 200, 200, 0),
    ],
)
def test_hits_that_straddle_a_threshold_are_split(limit, hits, used, over, near, within):
    tally = Tally("shop", "user")

    tally.count(limit, int(limit * 0.8), hits, used, over=used > limit)

    assert (hits, over, near, within) == (tally.total, tally.over, tally.near, tally.within)


def test_hits_that_were_refused_uncounted_are_all_over():
    tally = Tally("shop", "user")

    tally.count(10, 8, 3, 9, over=True)

    assert (3, 3, 0, 0) == (tally.total, tally.over, tally.near, tally.within)


def test_rules_beyond_the_bound_share_one_tally():
    tallies = Tallies()
    for number in range(MAX_TALLIES + 10):
        tallies.get("shop", f"user_{number}").total += 1

    assert MAX_TALLIES + 1 == len(tallies)
    assert 10 == tallies.left_out
    assert 10 == tallies.get(OTHER, OTHER).total
    assert 1 == tallies.get("shop", "user_0").total


@pytest.mark.parametrize("rule", ["x" * 257, "a\nb", "a\x00"])
def test_a_label_that_nobody_could_read_is_other(rule):
    assert OTHER == Tallies().get("shop", rule).rule
