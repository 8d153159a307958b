"""Another policy while requests are under way: what goes on, what changes at once, who ends under which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.build import (
    HEADER,
    NS_PER_S,
    counting_hex,
    make_engine,
    make_plan,
    make_policy,
    make_tenant,
)
from support.engine import House
from support.fakes import FakeCaller, FakeClock, Inbox, ScriptedStore

from sentinel_ext.core.decision import Decision
from sentinel_ext.core.identify import Identifier
from sentinel_ext.core.model import FailureMode, Mode, Tier
from sentinel_ext.core.pipeline import Pipeline
from sentinel_ext.core.policy import Policy, Source, SourceKind
from sentinel_ext.core.scaling import scaled_limit
from sentinel_ext.core.tenant import Tenants
from sentinel_ext.core.token_bucket import ATTO, TokenBucket
from sentinel_ext.core.window import WindowReply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sentinel_ext.core.model import Plan

START = 1000 * NS_PER_S
MAX_NANO = 10**12

amounts = st.integers(0, 1_000)
rates = st.integers(0, MAX_NANO)
steps_ns = st.integers(0, 10 * NS_PER_S)


# --- Buckets ---


@given(burst=amounts, rate=rates, taken=amounts, idle_ns=steps_ns, then=amounts, then_rate=rates)
def test_a_bucket_keeps_its_tokens_as_far_as_they_fit(burst, rate, taken, idle_ns, then, then_rate):
    buckets = [TokenBucket(burst, rate, START) for _ in range(2)]
    for bucket in buckets:
        bucket.try_acquire(taken, START)
    as_it_was, changed = buckets

    as_it_was.try_acquire(0, START + idle_ns)
    changed.resize(then, then_rate, START + idle_ns)

    assert min(as_it_was._level, then * ATTO) == changed._level
    changed.try_acquire(0, START + idle_ns + 1)
    assert min(as_it_was._level + then_rate, then * ATTO) == changed._level


@given(
    first=amounts,
    rounds=st.lists(st.tuples(amounts, rates, steps_ns, st.lists(amounts, max_size=4)), max_size=12),
)
def test_no_change_of_plans_makes_tokens(first, rounds):
    """However often numbers change: what was admitted is the first burst and what was refilled, at most."""
    now_ns, admitted, refilled_atto = START, 0, 0
    bucket = TokenBucket(first, 0, START)
    for burst, rate, step_ns, asked in rounds:
        bucket.resize(burst, rate, now_ns)
        now_ns += step_ns
        refilled_atto += rate * step_ns
        for hits in asked:
            if bucket.try_acquire(hits, now_ns):
                admitted += hits
        assert 0 <= bucket._level <= burst * ATTO

    assert admitted * ATTO <= first * ATTO + refilled_atto


def test_what_an_old_request_gives_back_goes_into_the_same_bucket_and_no_higher_than_the_new_burst():
    old = make_tenant(make_plan(burst=20), now_ns=START)
    assert old.bucket.try_acquire(20, START)

    new = old.under(make_plan(burst=5), START)
    old.bucket.refund(20)

    assert (5, 5) == (new.bucket.tokens, old.bucket.tokens)


def test_a_bucket_that_a_plan_takes_away_is_gone_and_one_that_is_new_is_full():
    limited, unlimited = make_plan(burst=20), make_plan(burst=None)
    tenant = make_tenant(limited, now_ns=START)

    without = tenant.under(unlimited, START)
    again = without.under(make_plan(burst=3), START)

    assert (None, 3) == (without.bucket, again.bucket.tokens)
    assert tenant.bucket is not None, "a request under way still gives back"


# --- Tenants ---


class Counted(dict):
    """A table of plans that counts how often it is asked."""

    asked = 0

    def get(self, name: str, default: Plan | None = None) -> Plan | None:
        self.asked += 1
        return super().get(name, default)


def test_a_swap_touches_no_tenant_until_it_is_seen():
    tenants = Tenants(make_policy())
    for number in range(1_000):
        tenants.get(f"t{number}", START)
    plans = Counted(somebody=make_plan())

    tenants.replace(make_policy(make_plan(limit=7), tenants=plans))
    assert 0 == plans.asked
    for _ in range(3):
        assert 7 == tenants.get("t5", START).plan.limit
    assert (1, 1_000) == (plans.asked, len(tenants))


def test_who_has_an_equal_plan_is_not_touched():
    tenants = Tenants(make_policy())
    before = tenants.get("acme", START)

    tenants.replace(make_policy(make_plan()))

    assert before is tenants.get("acme", START)


def test_a_tenant_that_moved_to_another_plan_goes_on_and_the_table_stays_in_its_order():
    tenants = Tenants(make_policy(), 2)
    tenants.get("acme", START).bucket.try_acquire(15, START)
    tenants.get("other", START)
    gold = make_plan("gold", tier=Tier.VITAL, burst=50, limit=900)

    tenants.replace(make_policy(tenants={"acme": gold}))
    moved = tenants.get("acme", START)
    tenants.get("third", START)

    assert (gold, 0, 5) == (moved.plan, moved.tier, moved.bucket.tokens)
    assert moved is tenants.get("acme", START), "seen last, so not the one that was forgotten"


@pytest.mark.parametrize(("window_s", "left"), [(60, 2), (30, 12)])
def test_a_local_window_goes_on_while_it_is_as_long(window_s, left):
    """10 of 10 were admitted while the store was away; the new plan has 12."""
    tenant = make_tenant(make_plan(limit=10, window_us=60_000_000), now_ns=START)
    for _ in range(10):
        assert tenant.acquire_locally(1, 1, START)[0].granted

    new = tenant.under(make_plan(limit=12, window_us=window_s * 1_000_000), START)
    passed = [new.acquire_locally(1, 1, START)[0].granted for _ in range(20)]

    assert left == sum(passed)
    assert (tenant.key == new.key) == (window_s == 60)


def test_what_the_store_last_said_is_remembered_across_a_change():
    tenant = make_tenant(make_plan(limit=100), now_ns=START)
    tenant.remember(WindowReply(True, 90, 1, 1, 1), START)

    new = tenant.under(make_plan(limit=95), START)

    assert 5 == sum(new.acquire_locally(1, 1, START)[0].granted for _ in range(20))


@given(
    limit=st.integers(1, 10_000),
    then=st.integers(1, 10_000),
    held_s=st.integers(0, 60),
    windows=st.sampled_from([(60, 60), (60, 30), (10, 60)]),
)
def test_under_pressure_no_change_lifts_a_limit_above_what_it_had_come_down_to(limit, then, held_s, windows):
    """In requests per second: a window of another length is another number."""
    before = make_plan(limit=limit, window_us=windows[0] * 1_000_000)
    after = make_plan(limit=then, window_us=windows[1] * 1_000_000)
    tenant = make_tenant(before, now_ns=START)
    scaled_limit(tenant, limit, 0.5, START)
    scaled_limit(tenant, limit, 0.5, START + held_s * NS_PER_S)

    new = tenant.under(after, START + held_s * NS_PER_S)

    assert tenant.scaled is not None
    assert new.scaled is not None
    assert new.scaled / windows[1] <= tenant.scaled / windows[0] * 1.000001
    assert new.scaled <= then


# --- Requests ---


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store, clock = ScriptedStore(), FakeClock()
    house = House(make_engine(store, clock, make_policy(make_plan(limit=100))), store, clock)
    await house.engine.batcher.start()
    yield house
    await house.engine.batcher.close()


def swap(house: House, policy: Policy) -> None:
    house.engine.replace(policy, Pipeline(policy), Identifier(policy.sources, counting_hex()))


async def test_requests_under_way_end_under_their_policy_and_the_next_begin_under_the_new(house):
    before, after = Inbox(), Inbox()
    _, held = await house.asked(before)

    swap(house, make_policy(make_plan(limit=7, burst=3)))
    held.grant(used=1)
    assert 100 == (await before.next()).limit

    _, held = await house.asked(after)
    assert 7 == held.asks[0].limit
    held.grant(used=1)
    assert (7, 5) == ((decision := await after.next()).limit, decision.remaining)


async def test_a_stage_that_was_switched_off_meanwhile_still_ends_what_it_began(house):
    inbox = Inbox()
    _, held = await house.asked(inbox)

    swap(house, make_policy(bucket=Mode.OFF, window=Mode.OFF))
    held.grant(0, used=100)

    assert not (await inbox.next()).allowed
    assert 20 == house.tokens, "refused by the window, so the token came back"
    decision = house.decide(Inbox())
    assert (True, None) == (decision.allowed, decision.limit)


async def test_who_gives_up_after_the_change_gives_its_token_back(house):
    ticket, held = await house.asked(Inbox())
    swap(house, make_policy(make_plan(limit=7, burst=30)))
    assert 19 == house.tokens

    ticket.cancel()
    held.grant(used=1)

    assert 20 == house.tokens


async def test_tenants_are_looked_for_where_the_new_policy_says(house):
    swap(house, make_policy(make_plan(limit=0), sources=(Source(SourceKind.HEADER, "x-customer"), HEADER)))

    decision = house.engine.decide(FakeCaller({"x-customer": "a", "x-tenant-id": "b"}), Inbox())

    assert isinstance(decision, Decision)
    assert "a" == decision.check.tenant.name


async def test_without_the_store_a_new_failure_mode_holds_at_once(house):
    house.store.available = False
    verdicts = []
    for mode in (FailureMode.OPEN, FailureMode.CLOSED, FailureMode.OPEN):
        swap(house, make_policy(make_plan(limit=100, on_store_failure=mode)))
        decision = house.decide(Inbox())
        assert isinstance(decision, Decision)
        verdicts.append(decision.allowed)

    assert [True, False, True] == verdicts
