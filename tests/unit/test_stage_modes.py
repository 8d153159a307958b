"""Modes on top of the policy's: who wins, who is told, what a lost store changes."""

from __future__ import annotations

import asyncio

import pytest
from support.build import make_policy

from sentinel_ext import stage_modes
from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.model import Mode, Stage
from sentinel_ext.stage_modes import StageModes
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.memory import MemoryStore
from sentinel_ext.store.modes import MemoryModes


class Flaky(MemoryModes):
    is_up = True

    async def read(self):
        if not self.is_up:
            raise StoreError(StoreFault.TIMEOUT, "away")
        return await super().read()


@pytest.fixture
def modes():
    made = StageModes(MemoryStore(lambda: 0), Flaky(), make_policy(breaker=Mode.SHADOW))
    made.applied = []
    made.apply = made.applied.append
    return made


async def test_an_operators_word_wins_until_it_is_taken_back(modes):
    await modes.set(Stage.WINDOW, Mode.OFF)
    await modes.set(Stage.BREAKER, Mode.ENFORCE)
    await modes.set(Stage.BREAKER, None)

    assert [Mode.OFF, Mode.OFF, Mode.OFF] == [policy.mode(Stage.WINDOW) for policy in modes.applied]
    assert [Mode.SHADOW, Mode.ENFORCE, Mode.SHADOW] == [
        policy.mode(Stage.BREAKER) for policy in modes.applied
    ]
    assert {"mode": "off", "policy": "enforce"} == modes.shown()["window"]


async def test_another_policy_keeps_it(modes):
    await modes.set(Stage.WINDOW, Mode.OFF)
    modes.replace(make_policy(bucket=Mode.SHADOW))

    assert (Mode.OFF, Mode.SHADOW) == (
        modes.applied[-1].mode(Stage.WINDOW),
        modes.applied[-1].mode(Stage.BUCKET),
    )


async def test_others_words_are_heard_and_stand_while_the_store_is_away(modes, monkeypatch):
    monkeypatch.setattr(stage_modes, "POLL_S", 0.01)
    await modes.start()
    await modes._modes.write(Stage.WINDOW, Mode.SHADOW)  # another instance does
    async with asyncio.timeout(5):
        while not modes.applied:
            await asyncio.sleep(0.005)
    modes._modes.is_up = False
    await asyncio.sleep(0.05)
    await modes.close()

    assert Mode.SHADOW is modes.mode(Stage.WINDOW)
    assert 1 == len(modes.applied)  # told of changes only
