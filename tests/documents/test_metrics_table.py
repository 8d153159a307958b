"""docs/observability.md names every metric that the code declares, with its labels and its words."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/observability.md").read_text()
ROW = re.compile(r"^\| `(sentinel_\w+)` \| (\w+) \| (.*?) \| (.+) \|$", re.MULTILINE)
SUFFIX = re.compile(r"_(total|info)$")


def told() -> dict[str, tuple[str, set[str]]]:
    return {
        SUFFIX.sub("", name): (words, set(re.findall(r"`(\w+)`", labels)))
        for name, _, labels, words in ROW.findall(PAGE)
    }


def sequences(tree: ast.AST) -> Iterator[list[ast.expr]]:
    """Arguments of calls, tuples, and entries of mappings: a metric's name is the first of them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield [*node.args, *(keyword.value for keyword in node.keywords)]
        elif isinstance(node, ast.Tuple):
            yield node.elts
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if key is not None and isinstance(value, ast.Tuple):
                    yield [key, *value.elts]


def text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def declared() -> dict[str, tuple[str, set[str]]]:
    found: dict[str, tuple[str, set[str]]] = {}
    for path in (ROOT / "sentinel_ext").rglob("*.py"):
        for first, *rest in filter(None, sequences(ast.parse(path.read_text()))):
            if re.fullmatch(r"sentinel_\w+", text(first)) and rest and text(rest[0]).endswith("."):
                lists = [node.elts for node in rest if isinstance(node, ast.List)]
                found[text(first)] = text(rest[0]), {text(label) for label in (lists or [[]])[0]}
    return found


def test_the_table_has_every_metric_with_its_words() -> None:
    words = {name: words for name, (words, _) in declared().items()}

    assert len(words) > 60
    assert words == {name: words for name, (words, _) in told().items()}


def test_the_table_has_the_labels_that_are_declared() -> None:
    """Where a label does not stand in a list beside the name, only that the table is not without it."""
    page = told()

    assert {} == {
        name: (labels, page[name][1])
        for name, (_, labels) in declared().items()
        if labels and labels != page[name][1]
    }
