"""The loops beside the request path: ticks, reports that are urgent, and how they end."""

from __future__ import annotations

import asyncio

import pytest
from support.build import make_policy
from support.control import STANDARD, Host
from support.fakes import FakeClock, ScriptedStore, turns
from support.overload import HALF_OPEN, OPEN, UP, make_controller, opened
from support.shared import away
from support.stores import until

from sentinel_ext import control as module
from sentinel_ext.control import Control
from sentinel_ext.core.ended import Outcome
from sentinel_ext.core.policy import UpstreamRules
from sentinel_ext.core.signals import LocalSignals
from sentinel_ext.store.circuits import Result


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_S", 0.002)
    monkeypatch.setattr(module, "REPORT_S", 0.004)


@pytest.mark.usefixtures("_quick")
async def test_the_loops_tick_and_report(house, one):
    one.host.signals = LocalSignals(loop_lag_ms=1_000.0)
    one.control.streams = lambda: 3
    one.start()

    await one.control.start()
    await until(lambda: len(house.loads.exchanged) > 2 and len(one.host.lags) > 2)

    assert (3, 100) == (one.controller.hearing.streams, pytest.approx(one.controller.local))
    assert min(one.host.lags) >= 0


@pytest.mark.usefixtures("_quick")
async def test_a_tick_tells_what_time_did_to_breakers(house, one):
    one.circuit.adopt(opened(1_000), one.clock())
    await one.control.start()
    house.circuits.error = away()
    one.clock.advance(ms=1_000)

    await until(lambda: (UP, HALF_OPEN, False) in one.changes)


@pytest.mark.usefixtures("_quick")
async def test_a_fault_of_our_own_ends_no_loop(house, one):
    one.host.broken = [ZeroDivisionError("tick")]
    house.circuits.error = ZeroDivisionError("report")
    one.start()
    await one.control.start()
    await until(lambda: len(one.faults) > 1)

    house.circuits.error = None
    seen = len(house.loads.exchanged)
    await until(lambda: len(house.loads.exchanged) > seen)

    assert {ZeroDivisionError} == {type(fault) for fault in one.faults}
    assert one.host.lags


async def test_what_would_trip_the_breaker_is_reported_at_once(house, one, monkeypatch):
    monkeypatch.setattr(module, "REPORT_S", 600.0)
    one.sees_up()
    await one.control.start()
    await one.report(loads=False)
    one.clock.advance(ms=100)
    one.control.look(one.up)
    await turns()
    assert 1 == len(house.circuits.calls), "nothing urgent"

    one.end(one.start(5), 5)
    one.control.look(one.up)
    await until(lambda: OPEN is one.circuit.state)

    assert [] == house.loads.exchanged


async def test_urgent_reports_do_not_hold_those_of_the_loads_back(house, one, monkeypatch):
    """A breaker forced closed before a dead upstream has something urgent to say all the time."""
    monkeypatch.setattr(module, "REPORT_S", 0.1)
    one.start()
    await one.control.start()

    async def never_rests() -> None:
        while True:
            one.control._urgent.set()
            await asyncio.sleep(0)

    storm = asyncio.create_task(never_rests())
    await until(lambda: len(house.loads.exchanged) > 1, 5.0)
    storm.cancel()

    assert len(house.circuits.calls) > len(house.loads.exchanged)


def test_looking_at_an_upstream_without_a_breaker_is_nothing():
    controller = make_controller(make_policy(default_upstream=UpstreamRules(breaker=None)))
    control = Control(controller, ScriptedStore(), (None, None), Host(), FakeClock(), 1.0)

    control.look(controller.upstream(UP))

    assert not control._urgent.is_set()


# --- The end ---


async def test_closing_takes_reports_away_and_tells_what_nobody_else_has_heard(house, one):
    one.start()
    await one.control.start()
    await one.report()
    one.end("i2.5.0")

    await one.control.close()

    assert ({UP: {}}, [(5, STANDARD, 1)]) == (house.loads.reports, house.loads.mail[UP, "i2"])


async def test_closing_tells_how_the_last_probe_ended(house, one):
    await one.half_open()
    await one.control.start()
    assert await one.ask("p1")
    one.end(f"{one.start()}.p1", 1, Outcome.OK)

    await one.control.close()

    assert any(isinstance(call[0], Result) and call[0].ok for call in house.circuits.calls)


async def test_a_fault_of_our_own_while_closing_keeps_no_report_here(house, one):
    one.start()
    await one.control.start()
    await one.report()
    house.circuits.error = ZeroDivisionError("a bug of ours")

    await one.control.close()

    assert ({UP: {}}, 1) == (house.loads.reports, len(one.faults))


async def test_closing_without_a_store_ends_all_the_same(house, one):
    one.end("i2.5.0")
    one.controller.upstream("users")
    await one.control.start()
    house.loads.error, one.store.available = away(), False

    await one.control.close()

    assert [] == one.faults


async def test_closing_ends_those_who_still_ask_for_a_permit(house, one):
    await one.half_open()
    await one.control.start()
    house.circuits.gate.clear()
    answers: list[bool] = []
    one.control.acquire(one.up, "p1", answers.append)
    await turns()

    closing = asyncio.create_task(one.control.close())
    await turns()

    assert [False] == answers
    house.circuits.gate.set()
    await closing
