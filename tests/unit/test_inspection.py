"""What an instance shows of a full table: bounded answers, and requests go on meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from support.build import make_plan, make_policy
from support.overload import START_NS, UP, make_controller, opened, see

from sentinel_ext.core.circuit import Transition
from sentinel_ext.core.tenant import MAX_TENANTS, Tenants
from sentinel_ext.core.usage import Order
from sentinel_ext.core.views import MAX_CHANGES
from sentinel_ext.inspection import MAX_LISTED, Inspector, UnknownNameError
from sentinel_ext.store.base import Ask
from sentinel_ext.store.memory import MemoryStore

NOW_NS = START_NS


class House:
    def __init__(self):
        self.policy = make_policy(tenants={"acme": make_plan("gold", limit=7)})
        self.tenants, self.controller = Tenants(self.policy), make_controller(self.policy)
        self.controller.upstream(UP)
        self.store = MemoryStore(lambda: NOW_NS // 1000)
        clocks = (lambda: NOW_NS, lambda: 1_700_000_000.0)
        self.inspector = Inspector("me", self.policy, self.tenants, self.controller, self.store, clocks)


@pytest.fixture
def house():
    return House()


async def test_a_full_table_is_looked_at_in_slices(house):
    for number in range(MAX_TENANTS + 10):
        house.tenants.get(f"tenant-{number}", NOW_NS).rate = float(number % 1_000)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    shown, total = await house.inspector.tenants(10**9)
    beside.cancel()

    assert MAX_TENANTS == total
    assert MAX_LISTED == len(shown)
    assert 999.0 == shown[0].rate
    assert turns >= MAX_TENANTS // 1_024  # requests went on between the slices


async def test_a_tenant_is_shown_with_the_stores_word_and_none_is_made(house):
    tenant = house.tenants.get("acme", NOW_NS)
    await house.store.acquire([Ask(tenant.key, tenant.sub_us, 7, 1, 3)])
    known, unknown = await house.inspector.tenant("acme"), await house.inspector.tenant("stranger")

    assert (3, 7, "tenants.acme", True) == (known.used, known.limit, known.rule, known.is_known)
    assert (0, 100, "default_plan", False) == (unknown.used, unknown.limit, unknown.rule, unknown.is_known)
    assert 1 == len(house.tenants)


async def test_the_store_away_is_no_reason_to_say_nothing(house):
    house.store.is_available = lambda: False
    house.tenants.get("acme", NOW_NS)
    shown, _ = await house.inspector.tenants(5, Order.USED)

    assert [None] == [view.used for view in shown]


async def test_history_is_bounded_and_newest_first(house):
    circuit = see(house.controller, opened())
    before = circuit.state
    for epoch in range(MAX_CHANGES + 5):
        change = Transition(before, before, epoch, None, 0, circuit.view.forced, is_local=epoch % 2 == 0)
        house.inspector.changed(house.controller.upstream(UP), change)
    (breaker,) = house.inspector.breakers(UP)

    assert MAX_CHANGES == len(breaker.history)
    assert (MAX_CHANGES + 4) % 2 == (0 if breaker.history[0].without_store else 1)
    assert ("open", "failure_rate") == (breaker.state, breaker.reason)


async def test_names_that_nobody_knows(house):
    for ask in (house.inspector.pressure, house.inspector.breakers):
        with pytest.raises(UnknownNameError, match="no upstream 'nowhere'"):
            ask("nowhere")


async def test_rates_are_measured_beside_the_requests(house, monkeypatch):
    monkeypatch.setattr("sentinel_ext.inspection.MEASURE_S", 0.01)
    tenant = house.tenants.get("acme", NOW_NS - 10**9)
    tenant.allowed = 50
    await house.inspector.start()
    async with asyncio.timeout(5):
        while not tenant.rate:
            await asyncio.sleep(0.005)
    await house.inspector.close()

    assert 50.0 == tenant.rate
