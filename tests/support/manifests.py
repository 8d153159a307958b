"""Manifests against the schemas of their projects, strictly: a field that no schema knows is a problem.

The conditions that a schema states in CEL are asked, too (cel_rules.py).

The schemas lie in tests/deploy/crds (fetch_crds.py says whence); Kubernetes' own are those of
support.kubernetes.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from support import kubernetes
from support.cel_rules import broken_rules

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "docs" / "install"
CRDS = ROOT / "tests" / "deploy" / "crds"
# The folders of recipes; what another part brings beside them is its own to test.
PROJECTS = {
    "cilium",
    "contour",
    "emissary",
    "envoy",
    "envoy-gateway",
    "istio",
    "kgateway",
    "mtls",
    "sentinel",
}
MESH_CONFIG = "istio.mesh.v1alpha1.MeshConfig"
ADVICE = "cut from the test data: run tests/deploy/fetch_crds.py, or write it into crds/ by hand"
_NAME = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", "maxLength": 253}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA = {
    "type": "object",
    "properties": {"name": _NAME, "namespace": _NAME, "labels": _TEXTS, "annotations": _TEXTS},
    "required": ["name"],
    "additionalProperties": False,
}


def documents(path: Path) -> list[dict[str, Any]]:
    """Read a file; what it holds nothing of is left out."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Close a structural schema: what it does not name is not allowed."""
    if schema.get("x-cut"):
        return {"not": {}, **schema}
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {name: strict(below) for name, below in schema["properties"].items()}
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            closed[word] = strict(schema[word])
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
        closed["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    # Beside oneOf and the like there are conditions only: a structural schema has all its fields here.
    elif schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


@cache
def schemas() -> dict[str, jsonschema.Draft202012Validator]:
    """Return `apiVersion/kind` → validator, of all projects."""
    found: dict[str, jsonschema.Draft202012Validator] = {}
    for path in sorted(CRDS.glob("*.json")):
        for name, schema in json.loads(path.read_text())["schemas"].items():
            resource = name != MESH_CONFIG
            own = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": _METADATA}
            closed = strict(schema)
            if resource:
                below = {key: value for key, value in closed["properties"].items() if key != "status"}
                closed = {**closed, "properties": {**below, **own}, "required": ["metadata", "spec"]}
            found[name] = jsonschema.Draft202012Validator(closed)
    return found


def problems(document: dict[str, Any]) -> list[str]:
    """Tell what is wrong with a manifest, or with the values that hold a mesh's configuration."""
    if "kind" not in document:
        assert ["meshConfig"] == list(document), "neither a manifest nor values of istiod"
        return _told(schemas()[MESH_CONFIG], document["meshConfig"])
    name = f"{document['apiVersion']}/{document['kind']}"
    if name in schemas():
        found = _told(schemas()[name], document)
        return found or broken_rules(dict(schemas()[name].schema), document)
    return kubernetes.problems(document, kubernetes.VERSIONS[-1])


def _told(validator: jsonschema.Draft202012Validator, document: Any) -> list[str]:
    return [
        f"{error.json_path}: {ADVICE if _is_cut(error) else error.message}"
        for error in validator.iter_errors(document)
    ]


def _is_cut(error: jsonschema.ValidationError) -> bool:
    return bool(isinstance(error.schema, dict) and error.schema.get("x-cut"))


def patched(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Apply a strategic merge patch of Kubernetes: lists of named things are merged by name, maps by key."""
    merged = dict(base)
    for key, value in patch.items():
        old = base.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = patched(old, value)
        elif isinstance(old, list) and value and isinstance(value[0], dict) and "name" in value[0]:
            named = {item["name"]: item for item in old}
            for item in value:
                named[item["name"]] = patched(named.get(item["name"], {}), item)
            merged[key] = list(named.values())
        else:
            merged[key] = value
    return merged
