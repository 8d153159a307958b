"""The access log service, which must not meet a bug of ours in any test that does not make one."""

from __future__ import annotations

import pytest
from support.log_house import House


@pytest.fixture
def house():
    house = House()
    yield house
    assert [] == house.faults
