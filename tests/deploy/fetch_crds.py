"""How the schemas in tests/deploy/crds were taken from the projects' own Go modules.

    python tests/deploy/fetch_crds.py [PROJECT...]

`go mod download` brings a module; its CustomResourceDefinitions (for Istio's MeshConfig: its .proto file) are
read, and only what a validator needs of the kinds in SOURCES is kept: no descriptions. Defaults and CEL rules
(x-kubernetes-validations) stay: tests/support/cel_rules.py applies them. A part above MAX_UNUSED_BYTES that
no manifest in docs/install uses is cut out and marked; a manifest that begins to use it fails with the advice
to run this again. What is kept stays under the licence of its project (Apache-2.0).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CRDS = HERE / "crds"
RECIPES = HERE.parents[1] / "docs" / "install"
MAX_UNUSED_BYTES = 600

# project: module, version, files, kinds
SOURCES: dict[str, tuple[str, str, tuple[str, ...], frozenset[str]]] = {
    "istio": (
        "istio.io/api",
        "v1.31.4",
        ("kubernetes/customresourcedefinitions.gen.yaml",),
        frozenset(
            [
                "AuthorizationPolicy",
                "DestinationRule",
                "EnvoyFilter",
                "Gateway",
                "PeerAuthentication",
                "ServiceEntry",
                "Telemetry",
                "VirtualService",
            ]
        ),
    ),
    "envoy-gateway": (
        "github.com/envoyproxy/gateway",
        "v1.9.1",
        ("charts/gateway-crds-helm/templates/generated/*.yaml",),
        frozenset(
            [
                "BackendTrafficPolicy",
                "ClientTrafficPolicy",
                "EnvoyPatchPolicy",
                "EnvoyProxy",
                "SecurityPolicy",
            ]
        ),
    ),
    "contour": (
        "github.com/projectcontour/contour",
        "v1.33.8",
        ("examples/contour/01-crds.yaml",),
        frozenset(["ContourConfiguration", "ExtensionService", "HTTPProxy"]),
    ),
    "cilium": (
        "github.com/cilium/cilium",
        "v1.20.2",
        (
            "pkg/k8s/apis/cilium.io/client/crds/v2/ciliumenvoyconfigs.yaml",
            "pkg/k8s/apis/cilium.io/client/crds/v2/ciliumnetworkpolicies.yaml",
        ),
        frozenset(["CiliumEnvoyConfig", "CiliumNetworkPolicy"]),
    ),
    "kgateway": (
        "github.com/kgateway-dev/kgateway/v2",
        "v2.4.0",
        ("install/helm/kgateway-crds/templates/gateway.kgateway.dev_*.yaml",),
        frozenset(["BackendConfigPolicy", "GatewayExtension", "ListenerPolicy", "TrafficPolicy"]),
    ),
    "emissary": (
        "github.com/emissary-ingress/emissary/v3",
        "v3.10.0",
        ("pkg/api/getambassador.io/crds.yaml",),
        frozenset(["AuthService", "LogService", "Mapping", "RateLimitService"]),
    ),
    "gateway-api": (
        "sigs.k8s.io/gateway-api",
        "v1.6.3",
        ("config/crd/standard/*.yaml",),
        frozenset(["BackendTLSPolicy", "Gateway", "GatewayClass", "HTTPRoute", "ReferenceGrant"]),
    ),
}

KEPT = frozenset(
    [
        "type",
        "enum",
        "format",
        "pattern",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "required",
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-int-or-string",
        "x-kubernetes-validations",
        "default",
    ]
)
MESH_MESSAGE = "istio.mesh.v1alpha1.MeshConfig"
MAX_DEPTH = 12


def module_folder(module: str, version: str) -> Path:
    """Download a module, by the ordinary client; return where it lies."""
    done = subprocess.run(
        ["go", "mod", "download", "-json", f"{module}@{version}"], capture_output=True, text=True, check=True
    )
    return Path(json.loads(done.stdout)["Dir"])


def stripped(schema: dict[str, Any]) -> dict[str, Any]:
    """Keep what a validator needs."""
    kept = {key: value for key, value in schema.items() if key in KEPT}
    if "x-kubernetes-validations" in kept:
        kept["x-kubernetes-validations"] = [
            {word: rule[word] for word in ("rule", "message") if word in rule}
            for rule in kept["x-kubernetes-validations"]
        ]
    if "properties" in schema:
        kept["properties"] = {name: stripped(below) for name, below in sorted(schema["properties"].items())}
    for word in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(word), dict):
            kept[word] = stripped(schema[word])
    for word in ("oneOf", "anyOf", "allOf"):
        if word in schema:
            kept[word] = [stripped(below) for below in schema[word]]
    return kept


def used_paths(value: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Return every path of field names in a manifest; items of lists have their list's."""
    found = {path}
    if isinstance(value, dict):
        for name, below in value.items():
            found |= used_paths(below, (*path, name))
    elif isinstance(value, list):
        for item in value:
            found |= used_paths(item, path)
    return found


def cut(schema: dict[str, Any], used: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> None:
    """Cut large parts that no manifest uses."""
    while "items" in schema:
        schema = schema["items"]
    for name, below in schema.get("properties", {}).items():
        if (*path, name) not in used and len(json.dumps(below)) > MAX_UNUSED_BYTES:
            # A default of a part that nobody sets is there all the same, and rules read it.
            default = {"default": below["default"]} if "default" in below else {}
            schema["properties"][name] = {"x-cut": True, **default}
        else:
            cut(below, used, (*path, name))


def custom_resources(folder: Path, files: tuple[str, ...], kinds: frozenset[str]) -> dict[str, Any]:
    """Return `apiVersion/kind` → schema, of the served versions that recipes use; of all if they use none."""
    found: dict[str, Any] = {}
    for path in sorted(path for pattern in files for path in folder.glob(pattern)):
        # Charts wrap their definitions in a condition.
        text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("{{"))
        for document in yaml.safe_load_all(text):
            if (document or {}).get("kind") != "CustomResourceDefinition":
                continue
            spec = document["spec"]
            for version in spec["versions"]:
                if spec["names"]["kind"] in kinds and version["served"]:
                    name = f"{spec['group']}/{version['name']}/{spec['names']['kind']}"
                    found[name] = stripped(version["schema"]["openAPIV3Schema"])
    used = {name.rpartition("/")[2] for name in manifests()}
    return {
        name: schema
        for name, schema in found.items()
        if name in manifests() or name.rpartition("/")[2] not in used
    }


def mesh_config(folder: Path) -> dict[str, Any]:
    """Read MeshConfig, which is no resource but a ConfigMap's text, from its .proto file."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: F401, PLC0415
    from grpc_tools import protoc  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "set"
        include = Path(protoc.__file__).parent / "_proto"
        roots = [f"-I{folder}", f"-I{folder / 'common-protos'}", f"-I{include}"]
        arguments = ["protoc", *roots, "--include_imports", f"--descriptor_set_out={out}"]
        assert protoc.main([*arguments, "mesh/v1alpha1/config.proto"]) == 0
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)  # type: ignore[no-untyped-call]
    return message_schema(pool.FindMessageTypeByName(MESH_MESSAGE), 0)


def message_schema(message: Any, depth: int) -> dict[str, Any]:
    """Write a protobuf message as the schema of its JSON form."""
    special = {
        "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?(h|m|s|ms|us|ns)$"},
        "google.protobuf.BoolValue": {"type": "boolean"},
        "google.protobuf.Int32Value": {"type": "integer"},
        "google.protobuf.UInt32Value": {"type": "integer"},
        "google.protobuf.StringValue": {"type": "string"},
        "google.protobuf.Struct": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    }
    if message.full_name in special:
        return dict(special[message.full_name])
    if depth > MAX_DEPTH:
        return {"x-cut": True}
    return {
        "type": "object",
        "properties": {
            field.json_name: field_schema(field, depth)
            for field in sorted(message.fields, key=lambda f: str(f.json_name))
        },
    }


def field_schema(field: Any, depth: int) -> dict[str, Any]:
    """Write a field; maps and lists, too."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        return {"type": "object", "additionalProperties": field_schema(value, depth)}
    if field.message_type is not None:
        one = message_schema(field.message_type, depth + 1)
    elif field.enum_type is not None:
        one = {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    else:
        kinds = {field.CPPTYPE_STRING: "string", field.CPPTYPE_BOOL: "boolean"}
        number = "number" if field.cpp_type in {field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT} else "integer"
        one = {"type": kinds.get(field.cpp_type, number)}
    return {"type": "array", "items": one} if field.is_repeated else one


def manifests() -> dict[str, list[Any]]:
    """Return what the recipes hold, by `apiVersion/kind`."""
    found: dict[str, list[Any]] = {}
    for path in sorted(RECIPES.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if isinstance(document, dict) and "kind" in document:
                found.setdefault(f"{document['apiVersion']}/{document['kind']}", []).append(document)
            elif isinstance(document, dict):
                found.setdefault(MESH_MESSAGE, []).append(document.get("meshConfig", {}))
    return found


def fetch(project: str) -> None:
    """Write one project's file."""
    module, version, files, kinds = SOURCES[project]
    folder = module_folder(module, version)
    schemas = custom_resources(folder, files, kinds)
    missing = kinds - {name.rpartition("/")[2] for name in schemas}
    assert not missing, missing
    if project == "istio":
        schemas[MESH_MESSAGE] = mesh_config(folder)
    for name, schema in schemas.items():
        used = set().union(*(used_paths(manifest) for manifest in manifests().get(name, [])))
        cut(schema, used)
    source = {"module": module, "version": version, "files": list(files), "licence": "Apache-2.0"}
    text = json.dumps({"source": source, "schemas": schemas}, indent=1, sort_keys=True)
    (CRDS / f"{project}.json").write_text(text + "\n")


if __name__ == "__main__":
    CRDS.mkdir(exist_ok=True)
    for chosen in sys.argv[1:] or SOURCES:
        fetch(chosen)
