"""The conditions inside CustomResourceDefinitions (x-kubernetes-validations), which JSON Schema leaves out.

A cluster fills in defaults, then asks each rule with `self` as the part of the object that it stands at.
Rules that compare with an older object (`oldSelf`) have nothing to say of a new one.
"""

from __future__ import annotations

import copy
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

if TYPE_CHECKING:
    from collections.abc import Iterator

# Words of CEL, which a rule writes with underscores when a field is called so.
_RESERVED = frozenset(
    {
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
    }
    | {"namespace", "null", "package", "return", "true", "var", "void", "while"}
)
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}


def broken_rules(schema: dict[str, Any], document: Any) -> list[str]:
    """Tell which rules a document breaks, with their places; also a rule that cannot be evaluated."""
    return list(_broken(schema, defaulted(schema, document), "$"))


def defaulted(schema: dict[str, Any], value: Any) -> Any:
    """Return a copy with the schema's defaults filled in."""
    if isinstance(value, dict):
        below = schema.get("properties", {})
        whole = {
            name: copy.deepcopy(part["default"])
            for name, part in below.items()
            if "default" in part and name not in value
        } | value
        more = schema.get("additionalProperties")
        free = more if isinstance(more, dict) else {}
        return {name: defaulted(below.get(name, free), part) for name, part in whole.items()}
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), item) for item in value]
    return value


def _broken(schema: dict[str, Any], value: Any, place: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if re.search(r"\boldSelf\b", rule["rule"]) is None:
            yield from _asked(rule, _escaped(schema, value), place)
    if isinstance(value, dict):
        more = schema.get("additionalProperties")
        for name, part in value.items():
            below = schema.get("properties", {}).get(name, more if isinstance(more, dict) else {})
            yield from _broken(below, part, f"{place}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _broken(schema.get("items", {}), item, f"{place}[{index}]")


def _asked(rule: dict[str, str], value: Any, place: str) -> Iterator[str]:
    try:
        found = _compiled(rule["rule"]).eval(data={"self": value}).value()
    except Exception as error:  # noqa: BLE001  whatever the library calls it
        found = error
    if found is not True:
        why = "" if found is False else f" (neither yes nor no: {found})"
        yield f"{place}: {rule.get('message', rule['rule'])}{why}"


@cache
def _compiled(rule: str) -> cel.Expression:
    return _environment().compile(rule)


@cache
def _environment() -> cel.Env:
    return cel.NewEnv(variables={"self": cel.Type.DYN}, extensions=[ext_strings.ExtStrings()])


def _escaped(schema: dict[str, Any], value: Any) -> Any:
    """Rename fields (not keys of maps) as rules write them."""
    if isinstance(value, dict):
        fields = schema.get("properties", {})
        more = schema.get("additionalProperties")
        free = more if isinstance(more, dict) else {}
        return {
            (_field(name) if name in fields else name): _escaped(fields.get(name, free), part)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [_escaped(schema.get("items", {}), item) for item in value]
    return value


def _field(name: str) -> str:
    if name in _RESERVED:
        return f"__{name}__"
    for part, instead in _ESCAPES.items():
        name = name.replace(part, instead)
    return name
