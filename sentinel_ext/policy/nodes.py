"""Parsed YAML that remembers where each value stands."""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec

from sentinel_ext.wording import quoted

KeyPath: TypeAlias = tuple[str | int, ...]

# A key that needs no quotes in a message, and no shortening.
_PLAIN_STEP = re.compile(r"[\w-]{1,60}")


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


class Plain(str):
    """A scalar that was written without quotes, as it was written; only in a raw document."""

    __slots__ = ()


class Document(msgspec.Struct, frozen=True):
    """A parsed document.

    Attributes:
        problems: what is wrong already: duplicate keys, tags and the like; the rest can still be checked.
        doubts: raw documents only: what other readers of such files silently take in some way.
    """

    root: Node
    problems: tuple[Problem, ...]
    doubts: tuple[Problem, ...] = ()


def path_text(path: KeyPath) -> str:
    """Return `plans.gold.limit`, `identify[0].header`, `tenants."trial-*"`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _PLAIN_STEP.fullmatch(step) else quoted(step))
    return text
