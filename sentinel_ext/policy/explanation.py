"""pydantic's errors → problems in an operator's words, one for each mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentinel_ext.policy.document import KeyPath, Node, Problem
from sentinel_ext.policy.schema import (
    BreakerSpec,
    FailuresSpec,
    PlanSpec,
    PolicyFile,
    SourceSpec,
    StagesSpec,
    TenantSpec,
    UpstreamSpec,
)
from sentinel_ext.wording import did_you_mean, listed, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

_MODELS: dict[str, type[BaseModel]] = {
    "plans": PlanSpec,
    "tenants": TenantSpec,
    "identify": SourceSpec,
    "upstreams": UpstreamSpec,
    "stages": StagesSpec,
}
_MODELS_INSIDE: dict[str, type[BaseModel]] = {"breaker": BreakerSpec, "failures": FailuresSpec}
_BY_NAME = {"plans", "tenants", "upstreams"}
_KEY = "[key]"  # how pydantic marks an error in a mapping's key


def explain(error: ErrorDetails, root: Node) -> Problem:
    """Turn one pydantic error into a problem with its place in the document."""
    path: KeyPath = error["loc"]
    unknown = error["type"] == "extra_forbidden"
    in_key = path[-1:] == (_KEY,) and not unknown
    path = existing(path[:-1] if in_key else path, root)
    return Problem(root.locate(path, key=unknown or in_key), path, _message(error, path))


def existing(path: KeyPath, root: Node) -> KeyPath:
    """Cut what the document does not have: `acme: gold` stands at tenants.acme, not at tenants.acme.plan."""
    node: Node | None = root
    for at, step in enumerate(path):
        node = node.child(step) if node else None
        if node is None:
            return path[:at]
    return path


def without(plain: dict[str, Any], errors: Sequence[ErrorDetails]) -> dict[str, Any] | None:
    """Return the document without what is wrong in it, to look for mistakes of another kind in the rest.

    Plans keep their names, so that a plan with a wrong number is not reported as missing, too. None if
    that cannot be done.
    """
    for error in errors:
        path = error["loc"]
        section = plain.get(str(path[0])) if path else None
        if path in {(), ("plans",)}:
            return None
        if path[0] not in _BY_NAME or not isinstance(section, dict) or len(path) < 2:
            plain.pop(str(path[0]), None)
        elif path[-1] == _KEY or (path[0] == "tenants" and len(path) == 2):
            section.pop(path[1], None)
        elif isinstance(entry := section.get(str(path[1])), dict) and len(path) > 2:
            entry.pop(str(path[2]), None)
        elif path[0] != "tenants":
            section[str(path[1])] = None
        else:
            section.pop(str(path[1]), None)
    return plain


def _message(error: ErrorDetails, path: KeyPath) -> str:
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        known = list(_fields_at(path[:-1]))
        guess = did_you_mean(str(path[-1]), known)
        return f"unknown key; {guess + ' ' if guess else ''}allowed: {listed(known, 'and')}"
    if kind in {"model_type", "dict_type", "list_type"}:
        what = "a list" if kind == "list_type" else "a mapping"
        return f"must be {what}{_example(path)} (got {shown(value)})"
    if kind == "too_long":
        return f"holds {len(value)} entries, allowed are at most {context['max_length']}"
    if kind == "too_short":
        return "is empty; leave it out for the default, or name at least one source"
    return f"{error['msg']} (got {shown(value)})"


def _fields_at(path: KeyPath) -> Sequence[str]:
    model = _MODELS.get(str(path[0]), PolicyFile) if path else PolicyFile
    # plans.gold, and upstreams.orders.breaker a level deeper.
    inside = _MODELS_INSIDE.get(str(path[2])) if len(path) == 3 else None
    return list((inside or model).model_fields)


def _example(path: KeyPath) -> str:
    if not path:
        return f" with any of the keys {listed(PolicyFile.model_fields)}"
    if path == ("identify",):
        return " such as [{header: x-tenant-id}]"
    return ""
