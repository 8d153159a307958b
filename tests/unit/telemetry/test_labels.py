"""Label values: first come, a named bound, nothing hostile."""

from __future__ import annotations

import pytest
from envoy.config.core.v3 import base_pb2

from sentinel_ext.telemetry.labels import (
    MAX_CHARACTERS,
    MAX_ROUTES,
    METHODS,
    OTHER,
    UNKNOWN,
    FirstCome,
    method_label,
    status_label,
)


def test_the_first_names_are_labels_and_the_rest_is_other():
    labels = FirstCome()
    names = [f"route-{number}" for number in range(MAX_ROUTES + 3)]

    assert [*names[:MAX_ROUTES], OTHER, OTHER, OTHER] == [labels.label(name) for name in names]
    assert 3 == labels.left_out
    assert names[0] == labels.label(names[0])


def test_no_name_is_unknown_and_takes_no_place():
    labels = FirstCome(1)

    assert [UNKNOWN, "a", UNKNOWN, OTHER] == [labels.label(name) for name in ("", "a", "", "b")]
    assert 1 == labels.left_out


@pytest.mark.parametrize("name", [OTHER, UNKNOWN, "a\nb", "\x00", "x" * (MAX_CHARACTERS + 1), "\ud800"])
def test_a_name_that_would_mislead_is_other(name):
    labels = FirstCome()

    assert OTHER == labels.label(name)
    assert 1 == labels.left_out


def test_a_name_at_the_bound_of_length_is_a_label():
    assert "x" * MAX_CHARACTERS == FirstCome().label("x" * MAX_CHARACTERS)


def test_methods_are_envoys():
    numbers = base_pb2.RequestMethod.DESCRIPTOR.values_by_name

    assert len(METHODS) == len(numbers)
    for name in METHODS[1:]:
        assert name == method_label(numbers[name].number)


@pytest.mark.parametrize("number", [0, -1, 10, 2**31 - 1])
def test_any_other_method_is_other(number):
    assert OTHER == method_label(number)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(0, "0"), (100, "100"), (200, "200"), (599, "599"), (99, OTHER), (600, OTHER), (2**32 - 1, OTHER)],
)
def test_statuses_are_https(status, expected):
    assert expected == status_label(status)
