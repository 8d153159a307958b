"""Who uses how much: rates, and the busiest of a table that may be large."""

from __future__ import annotations

from support.build import NS_PER_S, make_plan, make_tenant

from sentinel_ext.core.usage import MIN_SPAN_NS, SLICE, Order, Top, measure, slices
from sentinel_ext.core.window import WindowReply


def tenants(count):
    return [make_tenant(name=f"t-{number}") for number in range(count)]


def test_a_rate_is_taken_over_what_passed_since_the_last_look():
    (tenant,) = tenants(1)
    tenant.allowed, tenant.denied = 30, 10
    measure([tenant], 2 * NS_PER_S)
    first = tenant.rate
    tenant.allowed += 5
    measure([tenant], 2 * NS_PER_S + MIN_SPAN_NS - 1)  # too soon to say
    kept = tenant.rate
    measure([tenant], 3 * NS_PER_S)

    assert (20.0, 20.0, 5.0) == (first, kept, tenant.rate)


def test_slices_hold_every_tenant_once():
    everybody = tenants(2 * SLICE + 1)
    cut = list(slices(everybody))

    assert [SLICE, SLICE, 1] == [len(some) for some in cut]
    assert everybody == [tenant for some in cut for tenant in some]


def test_the_first_of_many_are_kept_in_order_and_ties_by_who_came_first():
    everybody = tenants(500)
    for number, tenant in enumerate(everybody):
        tenant.rate = number % 100
    top = Top(7, Order.RATE, "", 0)
    for some in (everybody[:300], everybody[300:]):
        top.offer(some)

    assert ["t-99", "t-199", "t-299", "t-399", "t-499", "t-98", "t-198"] == [t.name for t in top.ranked()]


def test_used_is_a_part_of_the_limit_and_forgotten_after_a_window():
    small, large, unlimited, old = (
        make_tenant(make_plan(limit=10), "small"),
        make_tenant(make_plan(limit=1000), "large"),
        make_tenant(make_plan(limit=None), "unlimited"),
        make_tenant(make_plan(limit=10, window_us=1_000_000), "old"),
    )
    small.remember(WindowReply(True, 9, 0, 0, 0), NS_PER_S)
    large.remember(WindowReply(True, 100, 0, 0, 0), NS_PER_S)
    old.remember(WindowReply(True, 10, 0, 0, 0), NS_PER_S)
    top = Top(4, Order.USED, "", 3 * NS_PER_S)
    top.offer([unlimited, old, large, small])

    assert ["small", "large", "unlimited", "old"] == [tenant.name for tenant in top.ranked()]


def test_a_prefix_and_a_count_of_nothing():
    everybody = [make_tenant(name=name) for name in ("a-1", "b-1", "a-2")]
    top = Top(10, Order.DENIED, "a-", 0)
    top.offer(everybody)

    assert ["a-1", "a-2"] == [tenant.name for tenant in top.ranked()]
