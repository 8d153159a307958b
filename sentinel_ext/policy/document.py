"""YAML text → plain data that remembers where each value stands.

Built on PyYAML's events and not on its `load` or `compose`: every bound holds before anything is built
(the C composer recurses without one), aliases and keys keep their positions, and scalars follow YAML 1.2,
so that `off`, `yes`, `1:30` and dates are text. Keys are always the text that was written: `007` is a
tenant's name and not the number 7.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

import yaml

from sentinel_ext.policy.nodes import (
    Document,
    DocumentError,
    KeyPath,
    Node,
    Plain,
    Position,
    Problem,
    path_text,
)
from sentinel_ext.wording import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

# A hundred thousand tenants, each with its own numbers, take about 8 MB.
MAX_FILE_BYTES = 16 << 20
# Counted with aliases expanded: a few lines of nested aliases would otherwise make billions of values.
MAX_NODES = 2_000_000
# The format needs five levels; a parser that recurses must know where it ends.
MAX_DEPTH = 16
# Rate limit files nest two levels for each descriptor: 39 of them.
MAX_RAW_DEPTH = 80
# The section of the policy file that holds the same.
RATELIMIT = "ratelimit"

__all__ = [
    "Document",
    "DocumentError",
    "KeyPath",
    "Node",
    "Plain",
    "Position",
    "Problem",
    "parse",
    "path_text",
]

_TAG = "tag:yaml.org,2002:"
_CONTAINER_TAGS = {None, "!", f"{_TAG}map", f"{_TAG}seq"}
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(
    r"[-+]?([0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18}|[0-9]{1,18}(\.[0-9]{0,18})?[eE][-+]?[0-9]{1,2})"
)
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    written: written.lower() == "true" for written in ("true", "True", "TRUE", "false", "False", "FALSE")
}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Mark(Protocol):
    """PyYAML has two classes of marks, in Python and in C."""

    line: int
    column: int


def parse(text: str, *, raw: bool = False) -> Document:
    """Parse one YAML document; an empty text is an empty mapping.

    Args:
        raw: scalars stay the text that was written (`Plain` without quotes), `<<` merges, more depth: what
            readers of rate limit files (policy/ratelimit) go by.

    Raises:
        DocumentError: not YAML, or larger or deeper than anything meant seriously.
    """
    try:
        return _Builder(yaml.parse(text, Loader=_LOADER), raw=raw).build()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DocumentError(Problem(_position(mark), (), _syntax_message(error, text))) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        position = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise DocumentError(
            Problem(position, (), "not valid YAML: control characters are not allowed")
        ) from None
    except yaml.YAMLError as error:
        raise DocumentError(Problem(None, (), f"not valid YAML: {quoted(str(error))[1:-1]}")) from None


def _position(mark: _Mark | None) -> Position:
    return Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)


def _syntax_message(error: yaml.MarkedYAMLError, text: str) -> str:
    said = ", ".join(part for part in (error.context, error.problem) if part)
    mark = error.problem_mark
    lines = text.split("\n")
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    hint = ""
    if "alias" in said:
        hint = '; text that starts with * needs quotes: "*-trial"'
    elif "\t" in line[: len(line) - len(line.lstrip())]:
        hint = "; indent with spaces, not with tabs"
    return f"not valid YAML: {said}{hint}"


class _Builder:
    """Builds the nodes of one document from its events."""

    def __init__(self, events: Iterator[yaml.Event], *, raw: bool = False) -> None:
        self._events = events
        self._raw = raw
        self._doubts: list[Problem] = []
        self._anchors: dict[str, Node] = {}
        self._problems: list[Problem] = []
        self._size = 0

    def build(self) -> Document:
        root = Node({}, Position(1, 1))
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._doubtful(event, (), "a second document starts here; the file holds one")
                    break
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, ())
        return Document(root, tuple(self._problems), tuple(self._doubts))

    def _node(self, event: yaml.Event, path: KeyPath) -> Node:
        if isinstance(event, yaml.AliasEvent):
            node = self._alias(event, path)
        elif isinstance(event, yaml.ScalarEvent):
            node = Node(self._scalar(event, path), _position(event.start_mark))
        elif isinstance(event, yaml.MappingStartEvent):
            node = self._mapping(event, path)
        else:
            node = self._sequence(event, path)
        self._count(event, node if isinstance(event, yaml.AliasEvent) else None, path)
        anchor = getattr(event, "anchor", None)
        if anchor is not None and not isinstance(event, yaml.AliasEvent):
            self._anchors[anchor] = node
        return node

    def _count(self, event: yaml.Event, expanded: Node | None, path: KeyPath) -> None:
        self._size += expanded.size if expanded else 1
        if self._size > MAX_NODES:
            message = f"more than {MAX_NODES} values, aliases expanded"
            raise DocumentError(Problem(_position(event.start_mark), path[:2], message))

    def _depth(self, path: KeyPath) -> int:
        return MAX_RAW_DEPTH if self._raw or path[:1] == (RATELIMIT,) else MAX_DEPTH

    def _open(self, event: yaml.Event, path: KeyPath) -> None:
        depth = self._depth(path)
        if len(path) >= depth:
            message = f"nested deeper than {depth} levels"
            raise DocumentError(Problem(_position(event.start_mark), path[:2], message))
        tag = getattr(event, "tag", None)
        if tag not in _CONTAINER_TAGS:
            self._problem(event, path, f"the tag {quoted(_tag_text(tag))} has no meaning here")

    def _alias(self, event: yaml.AliasEvent, path: KeyPath) -> Node:
        anchor = str(event.anchor)
        node = self._anchors.get(anchor)
        if node is None:
            hint = f'; text that starts with * needs quotes: "*{anchor}"'
            self._problem(event, path, f"nothing before this is named &{anchor}{hint}")
            return Node(None, _position(event.start_mark))
        depth = self._depth(path)
        if len(path) + node.depth > depth:
            message = f"nested deeper than {depth} levels"
            raise DocumentError(Problem(_position(event.start_mark), path[:2], message))
        return node

    def _mapping(self, event: yaml.Event, path: KeyPath) -> Node:
        self._open(event, path)
        children: dict[str, Node] = {}
        keys: dict[str, Position] = {}
        merged: list[Node] = []
        while not isinstance(key_event := next(self._events), yaml.MappingEndEvent):
            key = self._key(key_event, path)
            value = self._node(next(self._events), (*path, key or ""))
            if key is None:
                continue
            if self._raw and _is_merge(key_event):
                merged += value.value if isinstance(value.value, list) else [value]
                continue
            if key in keys:
                message = f"stands twice, first at line {keys[key].line}, column {keys[key].column}"
                self._doubtful(key_event, (*path, key), message)
                if not self._raw:
                    continue
            children[key] = value
            keys[key] = _position(key_event.start_mark)
        for node in merged:
            self._merge(event, path, node, children, keys)
        return self._container(children, keys, event)

    def _merge(
        self,
        event: yaml.Event,
        path: KeyPath,
        node: Node,
        children: dict[str, Node],
        keys: dict[str, Position],
    ) -> None:
        """Add what a merge key brings and the mapping does not say itself; of several the first wins."""
        if not isinstance(node.value, dict):
            self._problem(event, (*path, "<<"), "a merge key takes a mapping, or a list of them")
            return
        for key, child in node.value.items():
            if key not in children:
                children[key], keys[key] = child, node.keys.get(key, child.position)

    def _sequence(self, event: yaml.Event, path: KeyPath) -> Node:
        self._open(event, path)
        children: list[Node] = []
        while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
            children.append(self._node(item, (*path, len(children))))
        return self._container(children, {}, event)

    @staticmethod
    def _container(
        children: dict[str, Node] | list[Node], keys: dict[str, Position], event: yaml.Event
    ) -> Node:
        nodes = list(children.values()) if isinstance(children, dict) else children
        size = 1 + sum(node.size for node in nodes)
        depth = 1 + max((node.depth for node in nodes), default=0)
        return Node(children, _position(event.start_mark), keys, size, depth)

    def _key(self, event: yaml.Event, path: KeyPath) -> str | None:
        """Return the text of a key; None after a key that cannot be used."""
        if not isinstance(event, yaml.ScalarEvent):
            if not isinstance(event, yaml.AliasEvent):
                self._node(event, (*path, ""))
            self._problem(
                event, path, "a key must be plain text; text that starts with * [ or { needs quotes"
            )
            return None
        self._count(event, None, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = Node(event.value, _position(event.start_mark))
        if self._raw:
            if event.implicit[0] and not isinstance(_resolved(event.value), str):
                self._problem(event, path, f"config error, key is not of type string: {quoted(event.value)}")
        elif _is_merge(event):
            self._problem(
                event, (*path, "<<"), "YAML 1.2 has no merge keys; a tenant can say `plan:` instead"
            )
            return None
        return str(event.value)

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> str | float | bool | None:
        text = str(event.value)
        if self._raw and event.implicit[0]:
            return Plain(text)
        if event.implicit[0]:
            return _resolved(text)
        if event.tag in {None, "!", f"{_TAG}str"}:
            return text
        value = _resolved(text)
        if event.tag not in _tags_of(value):
            self._problem(event, path, f"the tag {quoted(_tag_text(event.tag))} does not fit {quoted(text)}")
        return value

    def _doubtful(self, event: yaml.Event, path: KeyPath, message: str) -> None:
        """Note what is a mistake here and passes elsewhere."""
        problems = self._doubts if self._raw else self._problems
        problems.append(Problem(_position(event.start_mark), path, message))

    def _problem(self, event: yaml.Event, path: KeyPath, message: str) -> None:
        self._problems.append(Problem(_position(event.start_mark), path, message))


def _is_merge(event: yaml.Event) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.value == "<<" and bool(event.implicit[0])


def _resolved(text: str) -> str | float | bool | None:
    """Return the value of a plain scalar: the core schema of YAML 1.2, decimals only."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _tags_of(value: object) -> set[str]:
    names = {bool: {"bool"}, int: {"int", "float"}, float: {"float"}, type(None): {"null"}}.get(
        type(value), set()
    )
    return {_TAG + name for name in names}


def _tag_text(tag: object) -> str:
    return str(tag).replace(_TAG, "!!")
