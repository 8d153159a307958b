"""docs/logs.md names every key that a log line can have, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
ALWAYS = {"time", "level", "logger", "message", "worker", "exception"}
TABLE_ROW = re.compile(r"^\| `([a-z_]+)` \|", re.MULTILINE)


def text_keys(node: ast.AST) -> set[str]:
    assert isinstance(node, ast.Dict), ast.dump(node)
    return {key.value for key in node.keys if isinstance(key, ast.Constant)}


def name_of(node: ast.AST | None) -> str:
    """Return the name of a variable or an attribute, "" for anything else."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def is_named(node: ast.AST | None, names: set[str]) -> bool:
    """An order over admin HTTP stands under a key of its own until it is written (server/audited.py)."""
    return name_of(node) in names or (isinstance(node, ast.Subscript) and name_of(node.slice) == "ORDER")


def keys_of(path: Path) -> set[str]:
    """Keys of `extra={...}`, and of the objects by other names that become an `extra`."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    extras = [node.value for node in nodes if isinstance(node, ast.keyword) and node.arg == "extra"]
    found = set().union(*(text_keys(value) for value in extras if isinstance(value, ast.Dict)))
    names = {name_of(value) for value in extras} - {""}
    # What `with _Audit(...) as entry` adds to.
    names |= {
        name_of(each.optional_vars) for node in nodes if isinstance(node, ast.With) for each in node.items
    } - {""}
    for node in nodes:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            found |= text_keys(node.value) if any(is_named(each, names) for each in targets) else set()
        if isinstance(node, ast.Subscript) and is_named(node.value, names):
            found |= {node.slice.value} if isinstance(node.slice, ast.Constant) else set()
    return found


def test_the_table_in_the_documentation_is_complete_and_true():
    written = set().union(*(keys_of(path) for path in (ROOT / "sentinel_ext").rglob("*.py")))
    rows = TABLE_ROW.findall((ROOT / "docs" / "logs.md").read_text())

    assert {"tenant", "trace_id", "rules", "why"} <= written  # the search above finds what it should
    assert written | ALWAYS == set(rows)
    assert len(rows) == len(set(rows))
