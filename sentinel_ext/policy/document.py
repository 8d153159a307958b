"""YAML text → plain data that remembers where each value stands.

Built on PyYAML's events and not on its `load` or `compose`: every bound holds before anything is built
(the C composer recurses without one), aliases and keys keep their positions, and scalars follow YAML 1.2,
so that `off`, `yes`, `1:30` and dates are text. Keys are always the text that was written: `007` is a
tenant's name and not the number 7.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

import msgspec
import yaml

from sentinel_ext.wording import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

# A hundred thousand tenants, each with its own numbers, take about 8 MB.
MAX_FILE_BYTES = 16 << 20
# Counted with aliases expanded: a few lines of nested aliases would otherwise make billions of values.
MAX_NODES = 2_000_000
# The format needs five levels; a parser that recurses must know where it ends.
MAX_DEPTH = 16

KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_CONTAINER_TAGS = {None, "!", f"{_TAG}map", f"{_TAG}seq"}
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(
    r"[-+]?([0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18}|[0-9]{1,18}(\.[0-9]{0,18})?[eE][-+]?[0-9]{1,2})"
)
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    written: written.lower() == "true" for written in ("true", "True", "TRUE", "false", "False", "FALSE")
}
# A key that needs no quotes in a message, and no shortening.
_PLAIN_STEP = re.compile(r"[\w-]{1,60}")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Mark(Protocol):
    """PyYAML has two classes of marks, in Python and in C."""

    line: int
    column: int


class Position(msgspec.Struct, frozen=True, order=True):
    """Where something stands in the file, both counted from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong with a document.

    Attributes:
        position: None when it concerns the file as a whole.
        path: keys and list indices down to the value; () for the document.
        message: what is wrong and what is allowed.
    """

    position: Position | None
    path: KeyPath
    message: str

    def line(self, file: str) -> str:
        """Return `FILE:LINE:COLUMN: path.to.value: message`."""
        where = f"{file}:{self.position}" if self.position else file
        path = path_text(self.path)
        return f"{where}: {path}: {self.message}" if path else f"{where}: {self.message}"


class DocumentError(Exception):
    """The text is not a document that can be looked at any further."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class Node(msgspec.Struct, gc=False):
    """One value of the document.

    Attributes:
        value: a scalar, or the children by key or index.
        keys: where each key of a mapping stands.
        size: values in it with aliases expanded, itself included.
    """

    value: dict[str, Node] | list[Node] | str | int | float | bool | None
    position: Position
    keys: dict[str, Position] = {}
    size: int = 1
    depth: int = 1

    def plain(self) -> object:
        """Return the value as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def child(self, step: str | int) -> Node | None:
        """Return the value under a key or index."""
        if isinstance(self.value, dict):
            return self.value.get(str(step))
        if isinstance(self.value, list) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return None

    def locate(self, path: KeyPath, *, key: bool = False) -> Position:
        """Return where `path` stands, or its nearest parent; with `key` where its key stands."""
        node = self
        for at, step in enumerate(path):
            child = node.child(step)
            if child is None:
                break
            if key and at == len(path) - 1:
                return node.keys.get(str(step), child.position)
            node = child
        return node.position


class Document(msgspec.Struct, frozen=True):
    """A parsed document.

    Attributes:
        problems: what is wrong already: duplicate keys, tags and the like; the rest can still be checked.
    """

    root: Node
    problems: tuple[Problem, ...]


def path_text(path: KeyPath) -> str:
    """Return `plans.gold.limit`, `identify[0].header`, `tenants."trial-*"`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _PLAIN_STEP.fullmatch(step) else quoted(step))
    return text


def parse(text: str) -> Document:
    """Parse one YAML document; an empty text is an empty mapping.

    Raises:
        DocumentError: not YAML, or larger or deeper than anything meant seriously.
    """
    try:
        return _Builder(yaml.parse(text, Loader=_LOADER)).build()
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

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
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
                    self._problem(event, (), "a second document starts here; the file holds one")
                    break
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, ())
        return Document(root, tuple(self._problems))

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

    def _open(self, event: yaml.Event, path: KeyPath) -> None:
        if len(path) >= MAX_DEPTH:
            message = f"nested deeper than {MAX_DEPTH} levels"
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
        if len(path) + node.depth > MAX_DEPTH:
            message = f"nested deeper than {MAX_DEPTH} levels"
            raise DocumentError(Problem(_position(event.start_mark), path[:2], message))
        return node

    def _mapping(self, event: yaml.Event, path: KeyPath) -> Node:
        self._open(event, path)
        children: dict[str, Node] = {}
        keys: dict[str, Position] = {}
        while not isinstance(key_event := next(self._events), yaml.MappingEndEvent):
            key = self._key(key_event, path)
            value = self._node(next(self._events), (*path, key or ""))
            if key is None:
                continue
            if key in keys:
                message = f"stands twice, first at line {keys[key].line}, column {keys[key].column}"
                self._problem(key_event, (*path, key), message)
                continue
            children[key] = value
            keys[key] = _position(key_event.start_mark)
        return self._container(children, keys, event)

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
        if event.value == "<<" and event.implicit[0]:
            self._problem(
                event, (*path, "<<"), "YAML 1.2 has no merge keys; a tenant can say `plan:` instead"
            )
            return None
        return str(event.value)

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> str | float | bool | None:
        text = str(event.value)
        if event.implicit[0]:
            return _resolved(text)
        if event.tag in {None, "!", f"{_TAG}str"}:
            return text
        value = _resolved(text)
        if event.tag not in _tags_of(value):
            self._problem(event, path, f"the tag {quoted(_tag_text(event.tag))} does not fit {quoted(text)}")
        return value

    def _problem(self, event: yaml.Event, path: KeyPath, message: str) -> None:
        self._problems.append(Problem(_position(event.start_mark), path, message))


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
