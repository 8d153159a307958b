"""A fleet around one store, closed with the test, and its first instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.control import House

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.control import Instance


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.close()


@pytest.fixture
async def one(house) -> Instance:
    return house.instance()
