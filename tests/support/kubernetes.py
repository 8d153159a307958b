"""Kubernetes' own schemas, strict: an unknown field is an error, as kubeconform has it.

The schemas are those that the wheel kubernetes-validate carries, made from Kubernetes' OpenAPI documents. Of
the Prometheus operator's resources this file has its own, with the fields that the chart uses (API reference
of monitoring.coreos.com/v1).
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
from referencing import Registry, Resource

# The oldest that the chart takes (Chart.yaml, kubeVersion), and the newest that the wheel has.
VERSIONS = ("1.30", "1.37")

_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
_RELABELLINGS = {
    "type": "array",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "sourceLabels": {"type": "array", "items": {"type": "string"}},
            "separator": {"type": "string"},
            "targetLabel": {"type": "string"},
            "regex": {"type": "string"},
            "modulus": {"type": "integer"},
            "replacement": {"type": "string"},
            "action": {"enum": ["replace", "keep", "drop", "labelmap", "labeldrop", "labelkeep"]},
        },
    },
}
_DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}


def _mapping(required: list[str], **properties: Any) -> dict[str, Any]:
    made = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**made, "required": required}


_ENDPOINTS = {
    "type": "array",
    "minItems": 1,
    "items": _mapping(
        ["port"],
        port={"type": "string"},
        path={"type": "string"},
        interval=_DURATION,
        scrapeTimeout=_DURATION,
        relabelings=_RELABELLINGS,
        metricRelabelings=_RELABELLINGS,
    ),
}
_SELECTED = {
    "jobLabel": {"type": "string"},
    "selector": _mapping(["matchLabels"], matchLabels=_STRINGS),
    "namespaceSelector": _mapping([], matchNames={"type": "array", "items": {"type": "string"}}),
}
_RULE = _mapping(
    ["expr"],
    alert={"type": "string"},
    record={"type": "string"},
    expr={"type": ["string", "integer"]},
    **{"for": _DURATION},
    keep_firing_for=_DURATION,
    labels=_STRINGS,
    annotations=_STRINGS,
)
_GROUP = _mapping(
    ["name", "rules"],
    name={"type": "string"},
    interval=_DURATION,
    limit={"type": "integer"},
    rules={"type": "array", "minItems": 1, "items": _RULE},
)
_OPERATOR = {
    "ServiceMonitor": _mapping(["selector", "endpoints"], **_SELECTED, endpoints=_ENDPOINTS),
    "PodMonitor": _mapping(["selector", "podMetricsEndpoints"], **_SELECTED, podMetricsEndpoints=_ENDPOINTS),
    "PrometheusRule": _mapping(["groups"], groups={"type": "array", "minItems": 1, "items": _GROUP}),
}


def problems(thing: dict[str, Any], version: str) -> list[str]:
    """Return what a Kubernetes of this version would refuse in an object, with the path of each."""
    name = f"{thing['kind']}/{thing['metadata']['name']}"
    validator = _validator(thing["apiVersion"], thing["kind"], version)
    return [f"{name}: {error.json_path}: {error.message}" for error in validator.iter_errors(thing)]


@functools.cache
def _validator(api: str, kind: str, version: str) -> jsonschema.Draft202012Validator:
    if api == "monitoring.coreos.com/v1":
        metadata = _mapping(
            ["name"],
            name={"type": "string"},
            namespace={"type": "string"},
            labels=_STRINGS,
            annotations=_STRINGS,
        )
        schema = _mapping(["spec"], apiVersion={}, kind={}, metadata=metadata, spec=_OPERATOR[kind])
        return jsonschema.Draft202012Validator(schema)
    # apps/v1 is apps-v1, networking.k8s.io/v1 is networking-v1.
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api)
    schema = json.loads((_folder(version) / f"{kind.lower()}-{group}.json").read_text())
    resource = Resource.from_contents(schema)
    return jsonschema.Draft202012Validator(schema, registry=resource @ (_definitions(version) @ Registry()))


@functools.cache
def _definitions(version: str) -> Resource[Any]:
    return Resource.from_contents(json.loads((_folder(version) / "_definitions.json").read_text()))


def _folder(version: str) -> Path:
    found = importlib.util.find_spec("kubernetes_validate")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "kubernetes-json-schema" / f"v{version}.0-local-strict"
