"""Typed values out of raw YAML nodes, as readers of these files know them (YAML 1.1)."""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from sentinel_ext.policy.nodes import Plain, Problem
from sentinel_ext.policy.texts import MAX_PROBLEMS
from sentinel_ext.wording import did_you_mean, listed, quoted, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sentinel_ext.policy.nodes import KeyPath, Node, Position

MAX_UINT32: Final = 2**32 - 1
_MAX_INT64: Final = 2**63 - 1
# Nothing that fits 64 bits takes more; beyond it Python refuses to read, too, at some length.
_MAX_DIGITS: Final = 80

ROOT: Final = ("domain", "descriptors")
DESCRIPTOR: Final = (
    "key", "value", "rate_limit", "rate_limits", "descriptors", "shadow_mode", "quota_mode",
    "detailed_metric", "value_to_metric", "share_threshold", "metadata",
)  # fmt: skip
LIMIT: Final = (
    "unit", "per", "requests_per_unit", "unlimited", "name", "replaces", "algorithm", "burst", "count_denied",
    "on_store_failure", "tier", "upstream",
)  # fmt: skip
# Where a key has a meaning, for those that stand elsewhere.
_PLACES: Final = (
    (ROOT, "at the top of the file"),
    (DESCRIPTOR, "on the descriptor"),
    (LIMIT, "inside rate_limit"),
)

_TRUE = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"}
_FALSE = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"}
_NULL = {"", "~", "null", "Null", "NULL"}
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_OTHER_BASE = re.compile(r"[-+]?0([xX][0-9a-fA-F]+|[bB][01]+|[oO]?[0-7]+)")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


class Found:
    """Collects what is wrong in one file.

    Attributes:
        problems: mistakes.
        doubts: what envoyproxy/ratelimit silently takes in some way: mistakes unless the reader is lenient.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.problems: list[Problem] = []
        self.doubts: list[Problem] = []

    def wrong(self, position: Position | None, path: KeyPath, message: str) -> None:
        """Note a mistake."""
        self.problems.append(Problem(position, path, message))

    def doubtful(self, position: Position | None, path: KeyPath, message: str) -> None:
        """Note what has no effect, or another one than it seems."""
        self.doubts.append(Problem(position, path, message))


def is_null(node: Node | None) -> bool:
    """Say whether nothing was written."""
    return node is None or node.value is None or (isinstance(node.value, Plain) and node.value in _NULL)


def integer(text: str) -> int | None:
    """Read a whole number in any of YAML's bases; None for anything else, or one too long to be meant."""
    if not text[:1].isdigit() and text[:1] not in {"-", "+"}:
        return None
    plain = text.replace("_", "")
    if len(plain) > _MAX_DIGITS:
        return None
    if _DECIMAL.fullmatch(plain):
        return int(plain)
    if not _OTHER_BASE.fullmatch(plain):
        return None
    sign, digits = (-1, plain[1:]) if plain.startswith("-") else (1, plain.lstrip("+"))
    return sign * int(digits, 0 if digits[1].isalpha() else 8)


class Fields:
    """The keys of one mapping, read one by one."""

    def __init__(self, node: Node, path: KeyPath, known: tuple[str, ...], found: Found) -> None:
        """Take the mapping's children; keys that are not `known` are told at once."""
        self.node, self.path, self.found = node, path, found
        self.has_unknown = False
        self._children: Mapping[str, Node] = node.value if isinstance(node.value, dict) else {}
        for key in self._children:
            if key not in known:
                self._unknown(key, known)

    def _unknown(self, key: str, known: tuple[str, ...]) -> None:
        where, path = self.node.keys.get(key, self.node.position), (*self.path, key)
        for keys, place in _PLACES:
            if key in keys and keys is not known:
                self.found.doubtful(where, path, f"has no effect here; it belongs {place}")
                return
        self.has_unknown = True
        # Guesses take time, and nobody reads that many.
        guess = did_you_mean(key, known) if len(self.found.problems) < MAX_PROBLEMS else ""
        hint = f"{guess} " if guess else ""
        message = f"config error, unknown key {quoted(key)}; {hint}allowed: {listed(known, 'and')}"
        self.found.wrong(where, path, message)

    def __contains__(self, key: str) -> bool:
        return key in self._children

    def get(self, key: str) -> Node | None:
        """Return the value, None where nothing is written."""
        node = self._children.get(key)
        return None if is_null(node) else node

    def place(self, key: str) -> Position:
        """Return where the key's value stands, or the mapping."""
        node = self._children.get(key)
        return self.node.position if node is None else node.position

    def wrong(self, key: str, message: str) -> None:
        """Note a mistake at a key."""
        self.found.wrong(self.place(key), (*self.path, key), message)

    def doubtful(self, key: str, message: str) -> None:
        """Note a doubt at a key."""
        self.found.doubtful(self.place(key), (*self.path, key), message)

    def text(self, key: str) -> str:
        """Return a text, whatever it looks like: 404, yes, 0x10 and dates are what was written."""
        node = self.get(key)
        if node is None:
            return ""
        if not isinstance(node.value, str):
            self.wrong(key, f"must be text (got {shown(node.value)})")
            return ""
        if isinstance(node.value, Plain):
            number = integer(node.value)
            is_fraction = number is None and _FLOAT.fullmatch(node.value) is not None
            if is_fraction or (number is not None and not -_MAX_INT64 - 1 <= number <= _MAX_INT64):
                number_text = shown(str(node.value))
                self.wrong(
                    key,
                    f"error checking config: {number_text} reads as a number that is not whole or does not "
                    "fit 64 bits; write it in quotes",
                )
        return str(node.value)

    def flag(self, key: str) -> bool | None:
        """Return true or false; None where nothing is written."""
        node = self.get(key)
        if node is None:
            return None
        if isinstance(node.value, Plain) and node.value in _TRUE | _FALSE:
            return node.value in _TRUE
        self.wrong(
            key, f"error loading config file: yaml: must be true or false (got {shown(_written(node))})"
        )
        return None

    def number(self, key: str, most: int = MAX_UINT32, least: int = 0) -> int | None:
        """Return a whole number; None where nothing, or something wrong, is written."""
        node = self.get(key)
        if node is None:
            return None
        value = integer(node.value) if isinstance(node.value, Plain) else None
        if value is None or not least <= value <= most:
            kind = (
                "error checking config"
                if isinstance(node.value, Plain) and value is None
                else "error loading config file: yaml"
            )
            self.wrong(
                key, f"{kind}: must be a whole number from {least} to {most} (got {shown(_written(node))})"
            )
            return None
        return value

    def word(self, key: str, words: tuple[str, ...]) -> str | None:
        """Return one of `words`; None where nothing, or something else, is written."""
        if self.get(key) is None:
            return None
        text = self.text(key)
        if text in words:
            return text
        guess = did_you_mean(text, words)
        self.wrong(key, f"must be {listed(words)} (got {quoted(text)})" + (f"; {guess}" if guess else ""))
        return None

    def mappings(self, key: str) -> list[tuple[Node, KeyPath]]:
        """Return the mappings of a list, each with its path; what is no mapping is told."""
        node = self.get(key)
        if node is None:
            return []
        if not isinstance(node.value, list):
            self.wrong(key, f"error loading config file: yaml: must be a list (got {shown(_written(node))})")
            return []
        kept = []
        for at, item in enumerate(node.value):
            path = (*self.path, key, at)
            if isinstance(item.value, dict):
                kept.append((item, path))
            else:
                message = "config error, yaml file contains list of type other than map: "
                self.found.wrong(item.position, path, message + shown(_written(item)))
        return kept


def _written(node: Node) -> object:
    return str(node.value) if isinstance(node.value, str) else node.value


def free_map(node: Node, fail: Callable[[Node, str], None]) -> Any:  # noqa: ANN401  whatever was written
    """Return metadata as plain data that fits a google.protobuf.Struct."""
    value = node.value
    if isinstance(value, dict):
        return {key: free_map(child, fail) for key, child in value.items()}
    if isinstance(value, list):
        return [free_map(child, fail) for child in value]
    return _scalar(node, value, fail) if isinstance(value, Plain) else value


def _scalar(node: Node, value: Plain, fail: Callable[[Node, str], None]) -> str | float | bool | None:
    if value in _NULL:
        return None
    if value in _TRUE | _FALSE:
        return value in _TRUE
    number = integer(value)
    if number is not None and -_MAX_INT64 - 1 <= number <= _MAX_INT64:
        return number
    if _FLOAT.fullmatch(value):
        # A Struct's numbers are doubles, of which JSON knows the finite ones.
        fraction = float(re.sub(r"[_.]*(inf|nan)", r"\1", value.replace("_", "").lower()))
        if isfinite(fraction):
            return fraction
        fail(node, f"error parsing metadata: {shown(str(value))} has no place in a protobuf Struct")
    return str(value)
