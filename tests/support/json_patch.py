"""JSON patches as Envoy Gateway applies them: `path`, or a JSONPath that says where, and `path` below it.

Of JSONPath what recipes use: `..name`, `.name`, `[*]` and `[?(@.name=="value")]`. Anything else is refused.
"""

from __future__ import annotations

import copy
import re
from typing import Any

_STEP = re.compile(
    r"""\.\.(?P<deep>\w+)|\.(?P<child>\w+)|(?P<all>\[\*\])|\[\?\(@\.(?P<key>\w+)=="(?P<value>[^"]*)"\)\]"""
)


def apply_patch(document: Any, operation: dict[str, Any]) -> Any:
    """Return the document with an `add` applied; an empty path makes `value` the document."""
    assert operation["op"] == "add", operation
    document = copy.deepcopy(document)
    if "jsonPath" not in operation and not operation.get("path"):
        assert document is None, "there is one already"
        return copy.deepcopy(operation["value"])
    places = selected(document, operation["jsonPath"]) if "jsonPath" in operation else [document]
    assert places, f"{operation['jsonPath']} finds nothing"
    for place in places:
        _add(place, operation["path"], copy.deepcopy(operation["value"]))
    return document


def selected(document: Any, path: str) -> list[Any]:
    """Return what a JSONPath selects."""
    found, end = [document], 0
    for step in _STEP.finditer(path):
        assert step.start() == end, f"{path[end:]} is not understood"
        end = step.end()
        found = [below for node in found for below in _below(node, step)]
    assert end == len(path), f"{path[end:]} is not understood"
    return found


def _below(node: Any, step: re.Match[str]) -> list[Any]:
    if step["deep"]:
        return _deep(node, step["deep"])
    if step["child"]:
        return [node[step["child"]]] if isinstance(node, dict) and step["child"] in node else []
    if not isinstance(node, list):
        return []
    return [item for item in node if step["all"] or item.get(step["key"]) == step["value"]]


def _deep(node: Any, name: str) -> list[Any]:
    own = [node[name]] if isinstance(node, dict) and name in node else []
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return own + [found for part in parts for found in _deep(part, name)]


def _add(holder: Any, pointer: str, value: Any) -> None:
    *parents, last = pointer.removeprefix("/").split("/")
    for part in parents:
        holder = holder[int(part)] if isinstance(holder, list) else holder[part]
    if isinstance(holder, list):
        holder.insert(int(last), value)
    else:
        holder[last] = value
