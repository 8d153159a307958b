"""What an instance remembers: the bounded table, and the window of its own while the store is away."""

from __future__ import annotations

import pytest
from support.build import NS_PER_S, make_plan, make_policy, make_tenant

from sentinel_ext.core.policy import Pattern
from sentinel_ext.core.tenant import MAX_TENANTS, Tenants
from sentinel_ext.core.window import SUBWINDOWS, WindowReply

START = 1000 * NS_PER_S
WINDOW_NS = 60 * NS_PER_S
STEP_NS = WINDOW_NS // SUBWINDOWS


def reply(used, *, granted=True):
    return WindowReply(granted, used, 1, 1, 1)


def admit(tenant, instances, now_ns, attempts=500):
    """Ask for single hits until refused; return how many passed."""
    passed = 0
    while passed < attempts and tenant.acquire_locally(1, instances, now_ns)[0].granted:
        passed += 1
    return passed


# --- The table ---


@pytest.mark.parametrize("bound", [1, 2, 100])
def test_the_table_never_holds_more_than_its_bound(bound):
    tenants = Tenants(make_policy(), bound)

    sizes = {min(i + 1, bound) == len(tenants) for i in range(bound + 50) if tenants.get(f"t{i}", 0)}

    assert {True} == sizes
    assert 50 == tenants.evicted


def test_at_the_bound_nobody_is_forgotten_one_more_and_the_oldest_is():
    tenants = Tenants(make_policy(), 2)
    first, second = tenants.get("first", 0), tenants.get("second", 0)
    assert first is tenants.get("first", 0)

    tenants.get("third", 0)

    assert first is tenants.get("first", 0), "used more recently than the second"
    assert second is not tenants.get("second", 0)


def test_ten_thousand_tenants_fit_the_default_bound():
    assert MAX_TENANTS >= 10_000
    tenants = Tenants(make_policy())

    for i in range(10_000):
        tenants.get(f"tenant-{i}", 0)

    assert (10_000, 0) == (len(tenants), tenants.evicted)


def test_the_plan_is_the_tenants_own_the_patterns_or_the_default():
    own, wide, default = make_plan("own"), make_plan("wide"), make_plan("default")
    tenants = Tenants(
        make_policy(default, tenants={"trial-1": own}, patterns=(Pattern("trial-*", wide),)),
    )

    assert own is tenants.get("trial-1", 0).plan
    assert wide is tenants.get("trial-2", 0).plan
    assert default is tenants.get("acme", 0).plan


def test_a_plan_without_burst_has_no_bucket():
    assert make_tenant(make_plan(burst=None)).bucket is None
    assert 0 == make_tenant(make_plan(burst=0)).bucket.tokens


# --- The store's key ---


def test_the_key_is_hash_tagged_by_tenant_and_names_the_window():
    assert b"sentinel:w:{acme}:60000" == make_tenant(name="acme").key


@pytest.mark.parametrize("name", ["a}b", "{a}", "}{", "%7D", "a%", "{}", "ü{"])
def test_braces_in_a_name_neither_move_nor_end_the_tag(name):
    key = make_tenant(name=name).key

    assert (1, 1) == (key.count(b"{"), key.count(b"}"))
    assert key.endswith(b"}:60000")


def test_different_names_have_different_keys():
    names = ["a", "a}", "a{", "a%7D", "a%7B", "a%257D", "a%", "a%25", "a}:1", "a:1"]

    assert len(names) == len({make_tenant(name=name).key for name in names})


# --- The local window ---


@pytest.mark.parametrize(
    ("limit", "instances", "share"),
    [
        (100, 1, 100),
        (100, 2, 50),
        (100, 3, 33),
        (3, 3, 1),
        (2, 3, 1),
        (1, 1000, 1),
        (0, 1, 0),
        (0, 5, 0),
        (100, 0, 100),
    ],
)
def test_an_instance_has_its_share_of_the_limit_at_least_one(limit, instances, share):
    tenant = make_tenant(make_plan(limit=limit))

    assert share == tenant.acquire_locally(1, instances, START)[1]
    assert share == admit(make_tenant(make_plan(limit=limit)), instances, START)


def test_the_local_window_slides():
    tenant = make_tenant(make_plan(limit=10))
    assert 10 == admit(tenant, 1, START)

    assert 0 == admit(tenant, 1, START + 10 * STEP_NS)
    assert 10 == admit(tenant, 1, START + 11 * STEP_NS)


@pytest.mark.parametrize(("used", "left"), [(0, 100), (1, 99), (99, 1), (100, 0)])
def test_what_the_store_last_said_counts_when_it_goes_away(used, left):
    tenant = make_tenant(make_plan(limit=100))
    tenant.remember(reply(used), START)

    assert left == admit(tenant, 1, START + 1)


def test_what_the_store_said_a_window_ago_counts_no_longer():
    tenant = make_tenant(make_plan(limit=100))
    tenant.remember(reply(100), START)

    assert 100 == admit(tenant, 1, START + WINDOW_NS + STEP_NS)


@pytest.mark.parametrize(
    ("limit", "instances"), [(1, 1), (2, 1), (2, 2), (7, 2), (7, 3), (100, 1), (100, 3), (101, 2), (101, 7)]
)
def test_all_instances_together_keep_the_limit_after_the_store_goes_away(limit, instances):
    """Whatever was used, as long as all have heard of it: no sum of shares lifts the limit."""
    for used in range(limit + 1):
        tenants = [make_tenant(make_plan(limit=limit)) for _ in range(instances)]
        for tenant in tenants:
            tenant.remember(reply(used), START)

        passed = sum(admit(tenant, instances, START + 1) for tenant in tenants)

        assert used + passed <= limit


def test_a_store_that_comes_and_goes_does_not_renew_the_share():
    """The store cannot know what passed while it was away, so the instance has to go on counting it."""
    tenant = make_tenant(make_plan(limit=100))

    by_itself = []
    for i in range(10):
        tenant.remember(reply(i + 1), START + i)
        by_itself.append(admit(tenant, 1, START + i))

    assert [99, *[0] * 9] == by_itself


def test_a_reply_of_the_local_window_reads_like_the_stores():
    tenant = make_tenant(make_plan(limit=2))

    first, _ = tenant.acquire_locally(2, 1, START)
    second, _ = tenant.acquire_locally(1, 1, START)

    slot = START // 1000 // tenant.sub_us
    left = (slot + 11) * tenant.sub_us - START // 1000
    assert WindowReply(True, 2, left, 0, slot) == first
    assert WindowReply(False, 2, left, left, slot) == second
