"""The fill: whatever the demands, the credit is shared out by contract, tier and max-min, and not more."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_ext.core.fill import TIERS, Demand, fill

SETTINGS = settings(max_examples=300, deadline=None, derandomize=True)
ROUNDING = 1e-6

rates = st.one_of(st.just(0.0), st.floats(1e-3, 1e6))
demands = st.lists(
    st.builds(
        Demand,
        name=st.text("ab", max_size=3),
        tier=st.integers(0, TIERS - 1),
        rate=rates,
        weight=st.sampled_from([1.0, 2.0, 4.0, 1_024.0]),
        guaranteed=st.one_of(st.just(0.0), st.floats(0.1, 1e5)),
    ),
    max_size=12,
)
amounts = st.one_of(st.just(0.0), st.floats(0.0, 2e6))


def by_tier(asked: list[Demand], granted: list[float], tier: int) -> list[tuple[Demand, float]]:
    return [(demand, rate) for demand, rate in zip(asked, granted, strict=True) if demand.tier == tier]


@SETTINGS
@given(amounts, demands)
def test_nobody_gets_more_than_it_asks_for_and_all_no_more_than_the_credit(credit, asked):
    granted = fill(credit, asked)

    assert len(asked) == len(granted)
    assert sum(granted) <= credit * (1 + ROUNDING) + ROUNDING
    for demand, rate in zip(asked, granted, strict=True):
        assert -ROUNDING <= rate <= demand.rate * (1 + ROUNDING)


@SETTINGS
@given(amounts, demands)
def test_nothing_is_left_while_somebody_asks(credit, asked):
    granted = fill(credit, asked)
    wanted = sum(demand.rate for demand in asked)

    assert math.isclose(min(credit, wanted), sum(granted), rel_tol=1e-6, abs_tol=1e-6)


@SETTINGS
@given(amounts, demands)
def test_a_tier_gets_nothing_while_the_one_before_it_lacks_something(credit, asked):
    granted = fill(credit, asked)

    for tier in range(TIERS - 1):
        lacks = any(rate < demand.rate * (1 - ROUNDING) for demand, rate in by_tier(asked, granted, tier))
        below = sum(sum(rate for _, rate in by_tier(asked, granted, t)) for t in range(tier + 1, TIERS))
        assert not lacks or below <= max(1.0, credit) * ROUNDING


@SETTINGS
@given(amounts, demands)
def test_within_a_tier_without_contracts_it_is_max_min_by_weight(credit, asked):
    """Who lacks something has no less per weight than anybody else."""
    plain = [Demand(d.name, d.tier, d.rate, d.weight) for d in asked]
    granted = fill(credit, plain)

    for tier in range(TIERS):
        found = by_tier(plain, granted, tier)
        most = max((rate / demand.weight for demand, rate in found), default=0.0)
        for demand, rate in found:
            if rate < demand.rate * (1 - ROUNDING):
                assert rate / demand.weight >= most * (1 - 1e-4) - ROUNDING


@SETTINGS
@given(amounts, demands)
def test_contracts_are_served_before_anything_else(credit, asked):
    granted = fill(credit, asked)
    owed = [(d, min(d.rate, d.guaranteed)) for d in asked if d.tier == 0]

    if sum(rate for _, rate in owed) <= credit:
        for (demand, rate), got in zip(owed, [rate for _, rate in by_tier(asked, granted, 0)], strict=True):
            assert got >= rate * (1 - ROUNDING) - ROUNDING, demand


@SETTINGS
@given(amounts, amounts, demands)
def test_more_credit_takes_from_nobody(first, second, asked):
    less, more = (fill(credit, asked) for credit in sorted((first, second)))

    for before, after in zip(less, more, strict=True):
        assert after >= before * (1 - 1e-6) - 1e-5


@SETTINGS
@given(amounts, demands)
def test_asking_for_what_was_granted_changes_nothing(credit, asked):
    granted = fill(credit, asked)
    again = fill(
        credit, [Demand(d.name, d.tier, rate, d.weight) for d, rate in zip(asked, granted, strict=True)]
    )

    for before, after in zip(granted, again, strict=True):
        assert math.isclose(before, after, rel_tol=1e-5, abs_tol=1e-5)


@SETTINGS
@given(amounts, demands, st.randoms(use_true_random=False))
def test_the_order_of_demands_does_not_matter(credit, asked, random):
    order = list(range(len(asked)))
    random.shuffle(order)
    granted = fill(credit, asked)
    shuffled = fill(credit, [asked[index] for index in order])

    for place, index in enumerate(order):
        assert math.isclose(granted[index], shuffled[place], rel_tol=1e-6, abs_tol=1e-5)
