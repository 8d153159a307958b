"""The house rules of DESIGN §6 that no linter holds: sizes, docstrings, nothing left for later."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sentinel_ext"
GENERATED = PACKAGE / "_pb"

MAX_PURE_LINES = 300
MAX_SHELL_LINES = 350
MAX_FUNCTION_LINES = 40
PURE = ("core", "wire")
# Put together here, so that this file does not hold what it looks for.
LEFT_FOR_LATER = tuple(word + rest for word, rest in (("TO", "DO"), ("FIX", "ME")))


def sources(folder: Path) -> list[Path]:
    """Python files written by hand."""
    return sorted(path for path in folder.rglob("*.py") if GENERATED not in path.parents)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


MODULES = sources(PACKAGE)
WRITTEN = [*MODULES, *sources(ROOT / "tests"), *sources(ROOT / "benchmarks")]

each_module = pytest.mark.parametrize("path", MODULES, ids=name_of)
each_file = pytest.mark.parametrize("path", WRITTEN, ids=name_of)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the body with its docstring. The parameters of a command are its options: a table, not code."""
    assert function.end_lineno is not None
    return function.end_lineno - function.body[0].lineno + 1


def limit_of(path: Path) -> int:
    return MAX_PURE_LINES if path.relative_to(PACKAGE).parts[0] in PURE else MAX_SHELL_LINES


def test_the_rules_below_look_at_something():
    """A renamed folder must not switch them off."""
    found = {name_of(path) for path in MODULES}

    assert {
        "sentinel_ext/app.py",
        "sentinel_ext/core/pipeline.py",
        "sentinel_ext/services/answer.py",
    } <= found
    assert not any("_pb" in name for name in found)
    assert [MAX_PURE_LINES] * len(PURE) == [limit_of(PACKAGE / folder / "x.py") for folder in PURE]
    assert all((PACKAGE / folder).is_dir() for folder in PURE)


@each_module
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    count = len(path.read_text().splitlines())

    assert count <= limit_of(path), f"{name_of(path)} has {count} lines"


@each_module
def test_a_function_fits_on_a_screen(path: Path) -> None:
    long = {
        f"{name_of(path)}:{function.lineno} {function.name}": lines_of(function)
        for function in functions(ast.parse(path.read_text()))
        if lines_of(function) > MAX_FUNCTION_LINES
    }

    assert {} == long


@each_file
def test_a_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "no module docstring"


@each_file
def test_nothing_is_left_for_later(path: Path) -> None:
    found = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if any(word in line for word in LEFT_FOR_LATER)
    ]

    assert [] == found


def test_a_function_at_the_bound_is_counted_to_the_line():
    def source(lines: int) -> str:
        return "def f(\n    a,\n    b,\n):\n" + "    a = b\n" * lines

    for lines in (1, MAX_FUNCTION_LINES, MAX_FUNCTION_LINES + 1):
        (function,) = functions(ast.parse(source(lines)))
        assert lines == lines_of(function)
