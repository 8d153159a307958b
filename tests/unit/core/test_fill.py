"""The fill, by example: contracts, tiers, weights."""

from __future__ import annotations

import pytest

from sentinel_ext.core.fill import Demand, fill

VITAL, STANDARD, ECONOMY = range(3)


def test_enough_for_all_gives_all_what_they_ask_for():
    assert [10.0, 20.0, 30.0] == fill(60.0, [Demand(n, t, 10.0 * (t + 1)) for t, n in enumerate("abc")])


def test_tiers_are_served_in_order():
    asked = [Demand("e", ECONOMY, 50), Demand("s", STANDARD, 50), Demand("v", VITAL, 50)]

    assert [0.0, 20.0, 50.0] == fill(70.0, asked)


def test_one_at_ten_times_its_demand_leaves_the_others_theirs():
    asked = [Demand("hog", STANDARD, 100), *(Demand(n, STANDARD, 10) for n in "abcd")]

    assert [20.0, 10.0, 10.0, 10.0, 10.0] == pytest.approx(fill(60.0, asked))


def test_weights_share_in_proportion_and_what_one_does_not_need_goes_to_the_others():
    asked = [Demand("a", STANDARD, 100, 1), Demand("b", STANDARD, 100, 2), Demand("c", STANDARD, 100, 4)]

    assert [10.0, 20.0, 40.0] == pytest.approx(fill(70.0, asked))
    asked[2] = Demand("c", STANDARD, 10, 4)
    assert [20.0, 40.0, 10.0] == pytest.approx(fill(70.0, asked))


def test_a_contract_comes_before_the_rest_of_vital():
    asked = [Demand("big", VITAL, 900), Demand("small", VITAL, 100, 1, guaranteed=100)]

    assert [20.0, 100.0] == pytest.approx(fill(120.0, asked))


def test_beyond_its_contract_a_tenant_shares_like_the_others_of_vital():
    asked = [Demand("a", VITAL, 100, 1, guaranteed=30), Demand("b", VITAL, 100)]

    assert [65.0, 35.0] == pytest.approx(fill(100.0, asked))


def test_contracts_that_do_not_fit_shrink_in_proportion():
    asked = [Demand("a", VITAL, 300, 1, guaranteed=300), Demand("b", VITAL, 100, 1, guaranteed=100)]

    assert [75.0, 25.0] == pytest.approx(fill(100.0, asked))


def test_a_contract_below_vital_counts_for_nothing():
    asked = [Demand("s", STANDARD, 50, 1, guaranteed=50), Demand("v", VITAL, 50)]

    assert [10.0, 50.0] == fill(60.0, asked)


def test_those_summed_up_share_by_what_they_stand_for():
    asked = [Demand("a", ECONOMY, 100), Demand("", ECONOMY, 900, weight=9)]

    assert [5.0, 45.0] == pytest.approx(fill(50.0, asked))


@pytest.mark.parametrize("credit", [0.0, -5.0])
def test_without_credit_nobody_gets_anything(credit):
    assert [0.0, 0.0] == fill(credit, [Demand("a", VITAL, 5, 1, guaranteed=5), Demand("b", ECONOMY, 5)])


def test_nobody_asks():
    assert [] == fill(100.0, [])
    assert [0.0] == fill(100.0, [Demand("a", VITAL, 0.0)])
