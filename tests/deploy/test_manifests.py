"""The recipes in docs/install: each manifest against the schemas of its project, strictly."""

from __future__ import annotations

import copy
import functools
import operator
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.cel_rules import broken_rules
from support.manifests import (
    ADVICE,
    MESH_CONFIG,
    PROJECTS,
    RECIPES,
    documents,
    patched,
    problems,
    schemas,
    strict,
)

if TYPE_CHECKING:
    from pathlib import Path

# Envoy judges its own configuration (test_mesh_traffic.py, test_mtls_recipe.py), check-config policies.
ENVOY = {"envoy/envoy.yaml", "mtls/front.yaml", "mtls/client-cluster.yaml"}
POLICIES = {"envoy/policy.yaml"}
PATCHES = {
    "mtls/deployment.patch.yaml": "sentinel/sentinel.yaml",
    "envoy-gateway/tls.patch.yaml": "envoy-gateway/gateway.yaml",
    "contour/tls.patch.yaml": "contour/configuration.yaml",
    "kgateway/tls.patch.yaml": "kgateway/backend.yaml",
}


def manifests() -> list[Path]:
    """Return the files of all recipes; what another part brings (a chart's, say) is its own to test."""
    paths = sorted(path for project in PROJECTS for path in (RECIPES / project).glob("*.yaml"))
    return [path for path in paths if path.relative_to(RECIPES).as_posix() not in ENVOY | POLICIES]


def is_of(patch: dict[str, Any], old: dict[str, Any]) -> bool:
    """Tell whether a patch is meant for an object: by kind, name and namespace."""
    return all(old[key] == patch[key] for key in ("apiVersion", "kind")) and all(
        old["metadata"].get(key) == value for key, value in patch["metadata"].items()
    )


def loaded(path: Path) -> list[dict[str, Any]]:
    base = PATCHES.get(path.relative_to(RECIPES).as_posix())
    if base is None:
        return documents(path)
    (patch,) = documents(path)
    return [patched(old, patch) for old in documents(RECIPES / base) if is_of(patch, old)]


each = pytest.mark.parametrize("path", manifests(), ids=lambda path: path.relative_to(RECIPES).as_posix())


@each
def test_the_projects_schemas_accept_a_manifest(path: Path) -> None:
    found = {
        f"{document.get('kind')}: {problem}" for document in loaded(path) for problem in problems(document)
    }

    assert set() == found
    assert loaded(path)


def broken(document: dict[str, Any], path: list[str | int]) -> dict[str, Any]:
    """Misspell the field at `path`."""
    document = copy.deepcopy(document)
    holder: Any = document
    for part in path[:-1]:
        holder = holder[part]
    holder[f"{path[-1]}x"] = holder.pop(path[-1])
    return document


MISSPELT: list[tuple[str, str, list[str | int]]] = [
    ("cilium/envoy-config.yaml", "CiliumEnvoyConfig", ["spec", "backendServices", 0, "number"]),
    ("contour/extension-service.yaml", "ExtensionService", ["spec", "timeoutPolicy", "response"]),
    ("contour/configuration.yaml", "ContourConfiguration", ["spec", "globalExtAuth", "failOpen"]),
    ("contour/route.yaml", "HTTPProxy", ["spec", "routes", 0, "authPolicy", "context"]),
    ("emissary/sentinel.yaml", "AuthService", ["spec", "failure_mode_allow"]),
    ("emissary/sentinel.yaml", "LogService", ["spec", "flush_interval_byte_size"]),
    ("emissary/route.yaml", "Mapping", ["spec", "auth_context_extensions"]),
    ("envoy-gateway/route.yaml", "SecurityPolicy", ["spec", "extAuth", "timeout"]),
    ("envoy-gateway/route.yaml", "HTTPRoute", ["spec", "rules", 0, "timeouts"]),
    (
        "envoy-gateway/gateway.yaml",
        "EnvoyProxy",
        ["spec", "telemetry", "accessLog", "settings", 0, "sinks", 0, "als", "logName"],
    ),
    ("envoy-gateway/gateway.yaml", "ReferenceGrant", ["spec", "from", 0, "namespace"]),
    ("envoy-gateway/patch.yaml", "EnvoyPatchPolicy", ["spec", "jsonPatches", 0, "operation", "jsonPath"]),
    ("istio/authorization.yaml", "AuthorizationPolicy", ["spec", "provider", "name"]),
    ("istio/access-log-telemetry.yaml", "Telemetry", ["spec", "accessLogging"]),
    ("istio/rate-limit.yaml", "EnvoyFilter", ["spec", "configPatches", 0, "match", "context"]),
    ("istio/sidecar.yaml", "ServiceEntry", ["spec", "endpoints", 0, "address"]),
    ("kgateway/extensions.yaml", "GatewayExtension", ["spec", "extAuth", "failOpen"]),
    ("kgateway/route.yaml", "TrafficPolicy", ["spec", "extAuth", "contextExtensions"]),
    ("kgateway/gateway.yaml", "ListenerPolicy", ["spec", "default", "httpSettings", "accessLog"]),
    ("mtls/service.yaml", "Service", ["spec", "ports", 0, "targetPort"]),
    ("sentinel/sentinel.yaml", "Deployment", ["spec", "template", "spec", "containers", 0, "readinessProbe"]),
    ("sentinel/network-policy.yaml", "NetworkPolicy", ["spec", "policyTypes"]),
]


@pytest.mark.parametrize(("name", "kind", "field"), MISSPELT, ids=[f"{kind} {n}" for n, kind, _ in MISSPELT])
def test_a_misspelt_field_is_found(name: str, kind: str, field: list[str | int]) -> None:
    document = next(d for d in documents(RECIPES / name) if d["kind"] == kind)

    assert [] == problems(document)
    assert f"{field[-1]}x" in " ".join(problems(broken(document, field)))


def test_no_folder_of_manifests_is_left_out():
    holds = {
        path.parent.name
        for path in RECIPES.glob("*/*.y*ml")
        if re.search(r"^apiVersion:", path.read_text(), re.MULTILINE)
    }

    assert holds <= PROJECTS
    assert {path.name for path in RECIPES.iterdir() if path.is_dir()} >= PROJECTS


def test_every_project_has_a_misspelt_field():
    assert {name.split("/")[0] for name, _, _ in MISSPELT} | {"envoy"} == PROJECTS


def test_a_misspelt_field_of_the_mesh_is_found():
    (values,) = documents(RECIPES / "istio" / "mesh-config.yaml")
    path = ["meshConfig", "extensionProviders", 0, "envoyExtAuthzGrpc", "failOpen"]

    assert [] == problems(values)
    assert "failOpenx" in " ".join(problems(broken(values, path)))
    assert MESH_CONFIG in schemas()


def test_a_wrong_type_and_a_wrong_word_are_found():
    (policy,) = documents(RECIPES / "istio" / "authorization.yaml")
    service = documents(RECIPES / "emissary" / "sentinel.yaml")[0]

    assert "CUSTOMS" in " ".join(problems({**policy, "spec": {**policy["spec"], "action": "CUSTOMS"}}))
    assert "200ms" in " ".join(problems({**service, "spec": {**service["spec"], "timeout_ms": "200ms"}}))


def test_a_part_that_the_test_data_lacks_is_told_as_such():
    policy = documents(RECIPES / "kgateway" / "route.yaml")[1]
    known = schemas()[f"{policy['apiVersion']}/{policy['kind']}"].schema["properties"]["spec"]["properties"]
    name = next(name for name, part in known.items() if part.get("x-cut"))

    assert [f"$.spec.{name}: {ADVICE}"] == problems({**policy, "spec": {**policy["spec"], name: {}}})


# What JSON Schema does not see, and a cluster would refuse: by the CEL rules of the projects.
REFUSED: list[tuple[str, str, list[str | int], Any, str]] = [
    (
        "kgateway/extensions.yaml",
        "GatewayExtension",
        ["spec", "extAuth", "grpcService", "backendRef"],
        {"name": "sentinel"},
        "Must have port for Service",
    ),
    (
        "kgateway/extensions.yaml",
        "GatewayExtension",
        ["spec", "extAuth", "grpcService", "requestTimeout"],
        "200",
        "invalid timeout value",
    ),
    (
        "envoy-gateway/route.yaml",
        "SecurityPolicy",
        ["spec", "targetRefs", 0, "kind"],
        "Pod",
        "this policy can only have",
    ),
    (
        "envoy-gateway/gateway.yaml",
        "EnvoyProxy",
        ["spec", "telemetry", "accessLog", "settings", 0, "sinks", 0, "als"],
        None,
        "als field needs to be set",
    ),
    (
        "envoy-gateway/route.yaml",
        "HTTPRoute",
        ["spec", "rules", 0, "timeouts", "backendRequest"],
        "5s",
        "cannot be longer than request timeout",
    ),
]


@pytest.mark.parametrize(("name", "kind", "field", "value", "told"), REFUSED, ids=[r[-1] for r in REFUSED])
def test_a_rule_that_only_the_project_knows_is_asked(
    name: str, kind: str, field: list[str | int], value: Any, told: str
) -> None:
    document = copy.deepcopy(next(d for d in documents(RECIPES / name) if d["kind"] == kind))
    holder: Any = document
    for part in field[:-1]:
        holder = holder[part]
    if value is None:
        del holder[field[-1]]
    else:
        holder[field[-1]] = value

    assert told in " ".join(problems(document))


def test_a_rule_that_cannot_be_asked_is_a_problem():
    schema = {"properties": {"a": {"x-kubernetes-validations": [{"rule": "self.missing == 1"}]}}}

    assert "neither yes nor no" in " ".join(broken_rules(schema, {"a": {}}))


def test_rules_read_defaults_and_escaped_names():
    rule = {"rule": "self.__namespace__ == 'x' && self.a__dash__b == 1", "message": "told"}
    fields = {"namespace": {"default": "x"}, "a-b": {"type": "integer"}}
    schema = {"properties": fields, "x-kubernetes-validations": [rule]}

    assert [] == broken_rules(schema, {"a-b": 1})
    assert ["$: told"] == broken_rules(schema, {"a-b": 2})


def test_closing_a_schema_leaves_free_parts_free():
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    closed = strict({"type": "object", "properties": {"a": free, "b": {"x-kubernetes-int-or-string": True}}})

    assert False is closed["additionalProperties"]
    assert free == closed["properties"]["a"]
    assert {"integer", "string"} == {kind["type"] for kind in closed["properties"]["b"]["anyOf"]}


def fields(value: Any, name: str) -> list[Any]:
    """Return every value of a field, at any depth."""
    if isinstance(value, dict):
        own = [value[name]] if name in value else []
        return own + [found for below in value.values() for found in fields(below, name)]
    return [found for item in value for found in fields(item, name)] if isinstance(value, list) else []


def everything(project: str) -> list[Any]:
    return [d for path in (RECIPES / project).glob("*.yaml") for d in yaml.safe_load_all(path.read_text())]


@pytest.mark.parametrize("project", sorted(PROJECTS - {"mtls", "sentinel"}))
def test_a_recipe_opens_on_failure_on_purpose(project: str) -> None:
    """One answer in all recipes: requests pass while Sentinel is away."""
    opened = [fields(everything(project), word) for word in ("failOpen", "failure_mode_allow")]
    denied = fields(everything(project), "failure_mode_deny")

    assert {True} == {value for found in opened for value in found}
    assert {False} >= set(denied)


@pytest.mark.parametrize("project", sorted(PROJECTS - {"mtls", "sentinel"}))
def test_a_recipe_names_the_upstream(project: str) -> None:
    named = fields(everything(project), "upstream")
    listed = (
        [
            entry["value"]
            for entry in functools.reduce(operator.iadd, fields(everything(project), "contextExtensions"), [])
            if isinstance(entry, dict) and entry["name"] == "upstream"
        ]
        if project == "envoy-gateway"
        else []
    )

    assert "orders" in [*named, *listed]


@pytest.mark.parametrize(
    ("project", "cluster"), [("envoy", "sentinel"), ("envoy-gateway", "sentinel-rate-limit")]
)
def test_a_cluster_that_checks_health_asks_no_instance_that_failed(project: str, cluster: str) -> None:
    """Above Envoy's own panic threshold of 50 % it would ask frozen ones again, and wait for each."""
    wholes = [
        whole
        for name in ("value", "clusters")
        for one in fields(everything(project), name)
        for whole in (one if isinstance(one, list) else [one])
        if isinstance(whole, dict)
    ]
    (found,) = [whole for whole in wholes if whole.get("name") == cluster]

    assert found["health_checks"]
    assert {"value": 0} == found["common_lb_config"]["healthy_panic_threshold"]
