"""OpenTelemetry's messages as two wheels bring them."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from sentinel_ext.errors import StartError
from sentinel_ext.telemetry.tracing.intact import REPAIR, ensure_intact

MODULE = "opentelemetry.proto.common.v1.common_pb2"


def test_those_of_this_environment_are_intact():
    ensure_intact()


def test_old_ones_of_another_wheel_are_told_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, ModuleType(MODULE))

    with pytest.raises(StartError, match="overwritten") as error:
        ensure_intact()
    assert REPAIR in str(error.value)


def test_none_at_all_are_told_alike(monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, None)

    with pytest.raises(StartError, match="overwritten"):
        ensure_intact()
