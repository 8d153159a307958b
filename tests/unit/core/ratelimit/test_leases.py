"""Hits taken ahead: how many trips they save, and that they never let more pass."""

from __future__ import annotations

import pytest
from support.limits import MINUTE_US, START_US, Instance, SharedCounters, entry, limit, rules

from sentinel_ext.core.ratelimit.known import LEASE_NS, MAX_LEASE, Known
from sentinel_ext.core.ratelimit.limiter import LEASED_PART, MAX_LEASED
from sentinel_ext.core.ratelimit.pending import Options
from sentinel_ext.core.ratelimit.plan import Part
from sentinel_ext.core.ratelimit.planner import MAX_KNOWN, MAX_PLANS, Planner
from sentinel_ext.core.ratelimit.query import Query
from sentinel_ext.core.ratelimit.rules import Algorithm, Node

USER = entry("user")
STEP_US = 200  # 5,000 requests a second


def hot(requests: int, *, count: int, instance: Instance | None = None, **more) -> tuple[Instance, int]:
    user = instance or Instance(SharedCounters(), rules(Node("user", limits=(limit(requests, **more),))))
    plan = user.plan(USER)
    passed = 0
    for _ in range(count):
        passed += not user.run(plan).over
        user.shared.now_us += STEP_US
        user.limiter.sweep(user.now_ns)
    return user, passed


def test_a_hot_counter_under_its_limit_hardly_asks():
    user, passed = hot(10**9, count=10_000)

    assert 10_000 == passed
    # Two seconds: 100 requests until the rate is known, then a lease for each 0.2 s.
    assert user.shared.calls <= 0.015 * 10_000


def test_a_hot_counter_that_runs_into_its_limit_admits_all_of_it_and_still_hardly_asks():
    user, passed = hot(5_000, count=10_000)

    assert 5_000 == passed
    assert user.shared.calls <= 0.02 * 10_000


@pytest.mark.parametrize("algorithm", [Algorithm.SLIDING_WINDOW, Algorithm.FIXED_WINDOW])
def test_remaining_counts_down_one_by_one_whether_leased_or_not(algorithm):
    user = Instance(
        SharedCounters(-(-START_US // MINUTE_US) * MINUTE_US),
        rules(Node("user", limits=(limit(2_000, algorithm=algorithm),))),
    )
    plan = user.plan(USER)
    seen = []
    for _ in range(1_000):
        seen.append(user.run(plan).statuses[0].remaining)
        user.shared.now_us += STEP_US

    assert list(range(1_999, 999, -1)) == seen
    assert user.shared.calls < 500


def test_gcra_and_leases_switched_off_ask_each_time():
    gcra, _ = hot(10**6, count=500, algorithm=Algorithm.GCRA, count_denied=False)
    off = Instance(SharedCounters(), rules(Node("user", limits=(limit(10**6),))), Options(leases=False))
    hot(10**6, count=500, instance=off)

    assert [500, 500] == [gcra.shared.calls, off.shared.calls]


def test_a_cold_counter_takes_nothing_ahead():
    user = Instance(SharedCounters(), rules(Node("user", limits=(limit(10**6),))))
    for _ in range(50):
        user.send(USER)
        user.shared.now_us += 100_000

    assert not user.limiter.leased
    assert 50 == user.shared.calls


def test_what_is_not_spent_goes_back_after_the_leases_life():
    user, _ = hot(10**6, count=2_000)
    (known,) = user.limiter.leased
    counted = user.shared.counters[known.key].used
    assert counted == 2_000 + known.lease

    user.shared.now_us += LEASE_NS // 1000
    user.limiter.sweep(user.now_ns)

    assert 2_000 == user.shared.counters[known.key].used
    assert not user.limiter.leased


def test_closing_gives_everything_back():
    user, _ = hot(10**6, count=2_000)
    user.limiter.close()

    (counter,) = user.shared.counters.values()
    assert 2_000 == counter.used


def test_what_is_stranded_is_at_most_an_eighth_of_what_is_free_over_all_instances():
    shared = SharedCounters()
    fleet = [Instance(shared, rules(Node("user", limits=(limit(4_000),))), instances=4) for _ in range(4)]
    plans = [instance.plan(USER) for instance in fleet]
    passed = 0
    for _ in range(500):
        for instance, plan in zip(fleet, plans, strict=True):
            passed += not instance.run(plan).over
        shared.now_us += STEP_US

    stranded = sum(known.lease for instance in fleet for known in instance.limiter.leased)
    assert 0 < stranded <= (4_000 - passed) / LEASED_PART + 4 * 4


def test_a_lease_is_not_spent_after_its_window_ended():
    shared = SharedCounters(-(-START_US // MINUTE_US) * MINUTE_US + MINUTE_US - 300_000)
    user = Instance(shared, rules(Node("user", limits=(limit(10**6),))))
    hot(0, count=1_000, instance=user)  # until 0.1 s before the window's end
    (known,) = user.limiter.leased
    assert known.lease > 0

    shared.now_us += 100_000
    asked = shared.calls
    user.send(USER)

    assert asked + 1 == shared.calls


def test_only_one_request_of_a_turn_asks_for_a_lease():
    user, _ = hot(10**6, count=1_000)
    user.limiter.close()
    plan = user.plan(USER)
    user.shared.now_us += 50_000

    steps = [user.limiter.begin(plan, user.now_ns) for _ in range(20)]

    assert 1 == sum(step.asks[0].lease > 0 for step in steps)


def test_no_word_of_a_lease_is_no_reason_to_never_ask_again():
    user, _ = hot(10**6, count=1_000)
    user.limiter.close()
    plan = user.plan(USER)
    user.shared.now_us += 50_000
    user.limiter.cancel(user.limiter.begin(plan, user.now_ns))
    later = []
    for _ in range(50):
        later.append(user.limiter.begin(plan, user.now_ns))
        user.shared.now_us += LEASE_NS // 1000 // 40

    assert 1 == sum(step.asks[0].lease > 0 for step in later)


def test_the_tables_are_bounded():
    planner = Planner(rules(Node("user", limits=(limit(1),))), Options())
    gone: list[Known] = []
    planner.forgotten = gone.append
    for number in range(MAX_KNOWN + 5):
        value = f"{number}"
        planner.plan(value.encode(), Query("shop", (entry("user", value),)), 0)

    assert MAX_KNOWN == len(planner)
    assert 5 == len(gone)
    assert len(planner.plans) <= MAX_PLANS


def test_with_too_many_leases_none_is_asked_for():
    user, _ = hot(10**6, count=1_000)
    user.limiter.close()
    for _ in range(MAX_LEASED):
        known = Known(b"", limit(1), 0)
        known.lease, known.lease_until_ns = 1, user.now_ns + 10**9
        user.limiter.leased[known] = None
    user.shared.now_us += 50_000
    user.limiter.sweep(user.now_ns)

    assert 0 == user.limiter.begin(user.plan(USER), user.now_ns).asks[0].lease


def test_a_lease_has_a_bound_however_hot_the_counter():
    known = Known(b"", limit(2**32 - 1), 0)
    known.seen = 10**12

    assert MAX_LEASE == known.ask(Part(known, 1, 0, 0.8).ask, 8, 10**9).lease


@pytest.mark.parametrize("count_denied", [True, False])
@pytest.mark.parametrize("algorithm", [Algorithm.SLIDING_WINDOW, Algorithm.FIXED_WINDOW])
def test_many_that_travel_together_get_all_of_the_limit(algorithm, count_denied):
    made = limit(20, algorithm=algorithm, count_denied=count_denied)
    user = Instance(SharedCounters(), rules(Node("user", limits=(made,))))
    plan = user.plan(USER)
    before = sum(not user.run(plan).over for _ in range(10))
    user.shared.now_us += 25_000  # the next one measures the rate, and leases

    passed = user.at_once(plan, 60)

    assert plan.only.known.used >= 20
    assert (10, 10) == (before, passed)
    assert 0 == plan.only.known.lease


def test_the_hits_of_a_lease_do_not_carry_a_request_past_another_limit():
    """It would pass without being counted there."""
    user = Instance(
        SharedCounters(), rules(Node("user", limits=(limit(20),)), Node("all", limits=(limit(15),)))
    )
    plan = user.plan(USER, entry("all"))
    before = sum(not user.run(plan).over for _ in range(10))
    user.shared.now_us += 25_000

    passed = user.at_once(plan, 60)

    assert before + passed <= 15
