"""Write values.schema.json and the README's table from helm/sentinel/values.yaml, and the package's version.

Files of `deploy/` are copied; files/*.schema.json are what the templates hold text to.

`--check` writes nothing, and fails when something is not current.

In values.yaml a comment `# -- ...` describes the key below it, and `# @schema {...}` (flow YAML) adds to the
schema that follows from its default. `make chart` runs this; tests compare.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import yaml

sys.path.insert(0, str(Path(__file__).parent))
from ratelimit_schema import definitions as ratelimit_definitions
from ratelimit_schema import ratelimit_schema

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "sentinel"
BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"
COPIES = {"deploy/prometheus/alerts.yaml": "alerts.yaml", "deploy/grafana/sentinel.json": "dashboard.json"}
TIERS = ("vital", "standard", "economy")
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


class Value(NamedTuple):
    """One value of values.yaml.

    Attributes:
        inner: the values below it, where each has a line of its own.
        text: what the table says; "" where only the inner ones are told.
        schema: what the comment adds.
    """

    default: Any
    inner: dict[str, Value]
    text: str
    schema: dict[str, Any]


def read(lines: list[str], node: yaml.MappingNode) -> dict[str, Value]:
    """Return the values of a mapping by key, with what stands above each."""
    found = {}
    for key, value in node.value:
        text, schema = _comment(lines, key.start_mark.line)
        told = text != "" or not isinstance(value, yaml.MappingNode)
        inner = {} if told else read(lines, value)
        found[key.value] = Value(yaml.safe_load(yaml.serialize(value)), inner, text, schema)
    return found


def _comment(lines: list[str], line: int) -> tuple[str, dict[str, Any]]:
    above: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("# "):
        line -= 1
        above.insert(0, lines[line].strip()[2:])
    starts = [index for index, text in enumerate(above) if text.startswith(("-- ", "@schema "))]
    text, schema = "", {}
    for start, end in zip(starts, [*starts[1:], None], strict=False):
        block = " ".join(above[start:end])
        if block.startswith("-- "):
            text = block.removeprefix("-- ")
        else:
            schema = yaml.safe_load(block.removeprefix("@schema "))
    return text, schema


def schema_of(value: Value) -> dict[str, Any]:
    """Return the JSON Schema of one value: its comment's, over what its default says."""
    described = {"description": value.text} if value.text else {}
    if value.inner:
        inner = {key: schema_of(one) for key, one in value.inner.items()}
        made = {"type": "object", "additionalProperties": False, "required": needed(value.inner)}
        made["properties"] = inner
        return described | made | value.schema
    if any(word in value.schema for word in ("type", "$ref", "anyOf", "enum")):
        return described | value.schema
    return described | {"type": _TYPES[type(value.default)]} | value.schema


def needed(values: dict[str, Value]) -> list[str]:
    """Return the keys that null may not take away: a template would find nothing in their place.

    Helm leaves out what is null before it asks the schema. What is empty by default may go, and a mapping of
    Kubernetes', such as a security context.
    """
    free = {"$ref": "#/definitions/object"}
    nullable = [
        key for key, one in values.items() if "null" in one.schema.get("type", ()) or one.schema == free
    ]
    return [
        key for key, one in values.items() if one.default not in (None, "", [], {}) and key not in nullable
    ]


def definitions() -> dict[str, Any]:
    """Return what `# @schema` comments refer to; the policy's are those of docs/policy.schema.json."""
    policy = _draft7(json.loads((ROOT / "docs" / "policy.schema.json").read_text()))
    inner = policy.pop("definitions")
    del policy["$schema"]
    mapping = {"type": "object", "required": ["domain"]}
    return {
        "object": {"type": "object"},
        "objects": {"type": "array", "items": {"type": "object"}},
        "strings": {"type": "object", "additionalProperties": {"type": "string"}},
        **_kubernetes(),
        **_images(),
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "duration": {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))*$"},
        "rateLimitFiles": {
            "type": "object",
            # Names of files are judged by the template, whose message says what is allowed.
            "additionalProperties": {"anyOf": [mapping, {"type": "string", "minLength": 1}]},
        },
        "alertOverrides": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "minProperties": 1,
                "properties": {
                    "expr": {"type": "string", "minLength": 1},
                    "for": {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
        },
        "objectives": {
            "type": "object",
            "additionalProperties": False,
            "required": list(TIERS),
            "properties": {
                tier: {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1} for tier in TIERS
            },
        },
        "policy": policy,
        **inner,
    }


def _images() -> dict[str, Any]:
    """Return what stands in an image's reference; of anything else nodes say InvalidImageName."""
    part = "[a-z0-9]+([._-]+[a-z0-9]+)*"
    host = r"([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?"
    patterns = {
        "registry": f"^({host}(/{part})*)?$",
        "repository": f"^({host}/)?{part}(/{part})*$",
        "repositoryOrNone": f"^(({host}/)?{part}(/{part})*)?$",
        "tag": "^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$",
    }
    return {name: {"type": "string", "pattern": pattern} for name, pattern in patterns.items()}


def _kubernetes() -> dict[str, Any]:
    """Return what a cluster takes: labels, variables, pods by number or share, their replacement, peers."""

    def only(**properties: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON
        return {"type": "object", "additionalProperties": False, "properties": properties}

    name, value = {"type": "string", "minLength": 1}, {"type": ["string", "null"]}
    variable = {"type": "object", "required": ["name"], "properties": {"name": name, "value": value}}
    text = {"type": "string", "maxLength": 63, "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"}
    selector = {"$ref": "#/definitions/labelSelector"}
    block = only(cidr={"type": "string", "minLength": 1}, **{"except": {"type": "array"}})
    peer = only(podSelector=selector, namespaceSelector=selector, ipBlock={**block, "required": ["cidr"]})
    return {
        "labels": {"type": "object", "additionalProperties": text},
        "labelSelector": only(
            matchLabels={"$ref": "#/definitions/labels"}, matchExpressions={"$ref": "#/definitions/objects"}
        ),
        "env": {"type": "array", "items": variable},
        "peers": {"type": "array", "items": {**peer, "minProperties": 1}},
        "pods": {
            "type": ["integer", "string", "null"],
            "minimum": 0,
            "pattern": "^([0-9]+|[0-9]{1,2}%|100%)$",
        },
        "updateStrategy": only(
            type={"enum": ["RollingUpdate", "Recreate"]},
            rollingUpdate=only(
                maxSurge={"$ref": "#/definitions/pods"}, maxUnavailable={"$ref": "#/definitions/pods"}
            ),
        ),
    }


def text_schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas that text is held to, by file: without descriptions, `off` as text alone."""
    policy = _bare(_draft7(json.loads((ROOT / "docs" / "policy.schema.json").read_text()), yaml11=False))
    domain = {"$ref": "#/definitions/Domain"}
    # A domain, or a list of them, as rate limit files have it.
    policy["properties"]["ratelimit"] = {
        "anyOf": [domain, {"type": "array", "items": domain}, {"type": "null"}]
    }
    policy["definitions"] |= ratelimit_definitions()
    return {"policy.schema.json": policy, "ratelimit.schema.json": ratelimit_schema()}


def _bare(node: Any) -> Any:  # noqa: ANN401  any JSON
    if isinstance(node, list):
        return [_bare(one) for one in node]
    if not isinstance(node, dict):
        return node
    told = ("description", "title", "$schema")
    return {key: _bare(one) for key, one in node.items() if key not in told or not isinstance(one, str)}


def _draft7(node: Any, *, yaml11: bool = True) -> Any:  # noqa: ANN401  any JSON
    """Say it in draft 7, which every Helm 3 and 4 reads; and let `off` be false, as Helm's YAML reads it."""
    if isinstance(node, list):
        return [_draft7(one, yaml11=yaml11) for one in node]
    if not isinstance(node, dict):
        return node
    words = {"$defs": "definitions", "dependentRequired": "dependencies"}
    made = {words.get(key, key): _draft7(value, yaml11=yaml11) for key, value in node.items()}
    if "$ref" in made:
        made = {"$ref": made["$ref"].replace("#/$defs/", "#/definitions/")}
    if not yaml11:
        return made
    if made.get("const") == "off":
        made = {"enum": ["off", False]}
    if "off" in made.get("enum", ()) and False not in made["enum"]:
        made["enum"] = [*made["enum"], False]
    return made


def schema(values: dict[str, Value]) -> str:
    """Return values.schema.json."""
    made = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart sentinel",
        "type": "object",
        "additionalProperties": False,
        "required": needed(values),
        "properties": {key: schema_of(value) for key, value in values.items()},
        "definitions": definitions(),
    }
    return json.dumps(made, indent=1) + "\n"


def table(values: dict[str, Value]) -> str:
    """Return the table of all values with defaults."""
    rows = ["| value | default | meaning |", "|---|---|---|", *_rows("", values)]
    return "\n".join(rows) + "\n"


def _rows(prefix: str, values: dict[str, Value]) -> list[str]:
    rows = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if value.inner:
            rows += _rows(f"{name}.", value.inner)
            continue
        default = json.dumps(value.default).replace("|", "\\|")
        rows.append(f"| `{name}` | `{default}` | {value.text.replace('|', chr(92) + '|')} |")
    return rows


def versioned(chart: str) -> str:
    """Return Chart.yaml with the package's version for both of its own."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = re.sub(r"(?m)^version: .*$", f"version: {version}", chart)
    return re.sub(r"(?m)^appVersion: .*$", f'appVersion: "{version}"', chart)


def load() -> dict[str, Value]:
    """Read values.yaml."""
    text = (CHART / "values.yaml").read_text()
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        raise TypeError("values.yaml is no mapping")
    return read(text.splitlines(), root)


def made() -> dict[Path, str]:
    """Return every file that this script writes, with its text."""
    values = load()
    readme = CHART / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    files = {
        CHART / "Chart.yaml": versioned((CHART / "Chart.yaml").read_text()),
        CHART / "values.schema.json": schema(values),
        readme: before + BEGIN + table(values) + END + rest.partition(END)[2],
    }
    for source, copy in COPIES.items():
        files[CHART / "files" / copy] = (ROOT / source).read_text()
    for name, text_schema in text_schemas().items():
        files[CHART / "files" / name] = json.dumps(text_schema, separators=(",", ":")) + "\n"
    return files


if __name__ == "__main__":
    stale = {path: text for path, text in made().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
    sys.exit(1 if stale and "--check" in sys.argv[1:] else 0)
