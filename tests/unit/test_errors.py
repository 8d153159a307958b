"""What each exception means to the shell that started Sentinel, and what the operator reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sentinel_ext import errors
from sentinel_ext.cli import root
from sentinel_ext.core.decision import StoreFault
from sentinel_ext.store.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

CASES = [
    (errors.SentinelError("broken"), 1, ["broken"]),
    (errors.StartError("no folder"), 1, ["no folder"]),
    (errors.AddressInUseError("taken"), 1, ["taken"]),
    (StoreError(StoreFault.TIMEOUT, "slow"), 1, ["slow"]),
    (errors.ConfigError(["a is wrong", "b is wrong"]), 2, ["a is wrong", "b is wrong"]),
    (errors.SettingsError(["PORT is wrong"]), 2, ["PORT is wrong"]),
    (errors.PolicyError(["policy.yaml:3: wrong", "policy.yaml:9: too"]), 2,
     ["policy.yaml:3: wrong", "policy.yaml:9: too"]),
]  # fmt: skip


def raising(error: BaseException) -> Callable[..., None]:
    def app(**_options: object) -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "exit_code", "lines"), CASES, ids=[type(error).__name__ for error, *_ in CASES]
)
def test_the_command_ends_with_the_class_own_code_and_one_line_per_problem(
    monkeypatch, capsys, error, exit_code, lines
):
    monkeypatch.setattr(root, "app", raising(error))

    with pytest.raises(SystemExit) as ended:
        root.main()

    assert exit_code == ended.value.code == error.exit_code
    out, err = capsys.readouterr()
    assert "" == out
    assert [f"sentinel-ext: {line}" for line in lines] == err.splitlines()


def test_a_bug_is_not_dressed_up_as_an_operator_s_mistake(monkeypatch):
    monkeypatch.setattr(root, "app", raising(ZeroDivisionError()))

    with pytest.raises(ZeroDivisionError):
        root.main()


def test_the_cases_above_are_all_classes_of_the_tree():
    classes = {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
    }

    assert classes <= {type(error) for error, _, _ in CASES}


def test_problems_are_kept_apart_in_the_order_of_their_source():
    problems = ["b", "a", "b"]
    error = errors.ConfigError(problems)
    problems.clear()

    assert ("b", "a", "b") == error.problems
    assert "b\na\nb" == str(error)


@pytest.mark.parametrize("kind", [errors.SettingsError, errors.PolicyError])
def test_whoever_catches_wrong_configuration_catches_both_kinds(kind):
    assert issubclass(kind, errors.ConfigError)


def test_an_address_in_use_is_a_start_that_failed():
    assert issubclass(errors.AddressInUseError, errors.StartError)


@pytest.mark.parametrize("fault", list(StoreFault))
def test_a_store_error_keeps_its_fault_beside_its_words(fault):
    error = StoreError(fault, "in words")

    assert (fault, "in words") == (error.fault, str(error))
