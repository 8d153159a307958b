"""What the recipes have in common, and the names, ports and policies in them."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.helm import Helm
from support.manifests import PROJECTS, RECIPES, documents
from support.mesh import MESHES

from sentinel_ext.cli.check_config import check
from sentinel_ext.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDERS = sorted(PROJECTS)
TIMEOUT_S = 0.2
FLUSH_S = 0.1
CLOSED = 503
HEADERS = ["x-tenant-id", "x-correlation-id", "traceparent"]
# The times that a recipe says in the words of its mesh.
AUTHZ_TIMEOUTS = {
    "contour": ["responseTimeout", "responseTimeout", "response", "response"],
    "emissary": ["timeout_ms", "timeout_ms"],
    "envoy-gateway": ["timeout"],
    "istio": ["timeout", "timeout"],
    "kgateway": ["requestTimeout", "timeout"],
}
STATUSES = {
    "cilium": ["ServiceUnavailable"],
    "contour": [],
    "emissary": [503],
    "envoy": ["ServiceUnavailable"],
    "envoy-gateway": [503],
    "istio": ["503", "503"],
    "kgateway": [503],
}


@cache
def texts(folder: str) -> str:
    return "".join(path.read_text() for path in sorted((RECIPES / folder).glob("*")))


@cache
def everything(folder: str) -> list[Any]:
    return [one for path in sorted((RECIPES / folder).glob("*.yaml")) for one in documents(path)]


def found(value: Any, name: str) -> Iterator[Any]:
    """Yield every value of a field, at any depth, also of texts that are YAML of their own."""
    if isinstance(value, dict):
        if name in value:
            yield value[name]
        for part in value.values():
            yield from found(part, name)
    elif isinstance(value, list):
        for item in value:
            yield from found(item, name)


def seconds(value: Any) -> float:
    """Read a duration: of milliseconds if it is a number."""
    if isinstance(value, int):
        return value / 1000
    number, unit = re.fullmatch(r"([0-9.]+)(ms|s)", value).groups()  # type: ignore[union-attr]
    return float(number) / (1000 if unit == "ms" else 1)


def asking(project: str) -> list[dict[str, Any]]:
    """Return the parts of a recipe that ask Sentinel, in the words of the mesh."""
    parts: list[dict[str, Any]] = []
    for name in ("globalExtAuth", "authorization", "envoyExtAuthzGrpc", "extAuth", "rateLimit"):
        parts += [part for part in found(everything(project), name) if "failOpen" in part]
    parts += [d["spec"]["timeoutPolicy"] for d in everything(project) if d.get("kind") == "ExtensionService"]
    parts += [d["spec"] for d in everything(project) if d.get("kind") in {"AuthService", "RateLimitService"}]
    # How a gateway checks the health of Sentinel has times of its own.
    health = ("backendSettings", "healthCheck")
    return [
        {key: {k: v for k, v in value.items() if k not in health} if key == "grpc" else value}
        for part in parts
        for key, value in part.items()
    ]


@pytest.mark.parametrize("project", AUTHZ_TIMEOUTS)
def test_each_question_has_200_ms(project: str) -> None:
    told = {name: list(found(asking(project), name)) for name in dict.fromkeys(AUTHZ_TIMEOUTS[project])}

    assert sorted(AUTHZ_TIMEOUTS[project]) == sorted(n for n, values in told.items() for _ in values)
    assert {TIMEOUT_S} == {seconds(value) for values in told.values() for value in values}


@pytest.mark.parametrize("mesh", MESHES)
def test_what_is_envoys_configuration_has_200_ms_and_flushes_each_100_ms(mesh: str) -> None:
    filters = [f for part in found(MESHES[mesh](), "http_filters") for f in part]
    timeouts = {
        f["name"].partition("/")[0]: f["typed_config"].get("timeout")
        or f["typed_config"]["grpc_service"]["timeout"]
        for f in filters
        if "router" not in f["name"]
    }
    expected = {"envoy.filters.http.ext_authz", "envoy.filters.http.ratelimit"}

    assert expected - ({"envoy.filters.http.ratelimit"} if mesh == "istio-sidecar" else set()) == set(
        timeouts
    )
    assert {TIMEOUT_S} == {seconds(value) for value in timeouts.values()}
    assert [FLUSH_S] == [seconds(value) for value in found(MESHES[mesh](), "buffer_flush_interval")]


@pytest.mark.parametrize("project", STATUSES)
def test_a_closed_recipe_answers_503_where_the_mesh_can_say_it(project: str) -> None:
    told = [*found(everything(project), "statusOnError")]
    told += [status["code"] for status in found(everything(project), "status_on_error")]

    assert STATUSES[project] == told
    row = next(line for line in index().splitlines() if line.startswith(f"| {TITLES[project]} "))
    assert (str(CLOSED) if told else "403") in row.split("|")[2]


TITLES = {
    "cilium": "Cilium",
    "contour": "Contour",
    "emissary": "Emissary",
    "envoy": "plain Envoy",
    "envoy-gateway": "Envoy Gateway",
    "istio": "Istio",
    "kgateway": "kgateway",
}


def index() -> str:
    return (RECIPES / "README.md").read_text()


@pytest.mark.parametrize("project", TITLES)
def test_a_list_of_headers_has_all_three_and_the_index_says_who_has_one(project: str) -> None:
    lists = [*found(everything(project), "headersToForward"), *found(everything(project), "headersToExtAuth")]
    lists += [
        [p["exact"] for p in part["patterns"]] for part in found(everything(project), "allowed_headers")
    ]
    row = next(line for line in index().splitlines() if line.startswith(f"| {TITLES[project]} "))

    assert [HEADERS] * len(lists) == lists
    assert ("listed" if lists else "all") == row.split("|")[3].strip()


def test_the_configmap_of_contour_says_what_the_contourconfiguration_says() -> None:
    """Only the reference differs: Contour's parser (pkg/config) takes `namespace/name` and no unknown key."""
    (block,) = re.findall(
        r"^```yaml\n(.*?)^```", (RECIPES / "contour.md").read_text(), re.DOTALL | re.MULTILINE
    )
    in_map = yaml.safe_load(block)
    (resource,) = documents(RECIPES / "contour" / "configuration.yaml")
    for part, field in (("globalExtAuth", "extensionRef"), ("rateLimitService", "extensionService")):
        reference = resource["spec"][part].pop(field)
        assert f"{reference['namespace']}/{reference['name']}" == in_map[part].pop("extensionService")

    assert resource["spec"] == in_map


@pytest.fixture(scope="module")
def chart() -> Iterator[dict[str, Any]]:
    """Services of the chart's release `sentinel`, by name."""
    with Helm() as helm:
        objects = helm.render(
            {"image": {"registry": "registry.example.com"}, "redis": {"url": "redis://redis:6379"}},
            release="sentinel",
        ).objects
        yield {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "Service"}


def services(name: str) -> dict[str, Any]:
    return {d["metadata"]["name"]: d["spec"] for d in documents(RECIPES / name) if d["kind"] == "Service"}


def test_names_and_ports_are_the_charts(chart: dict[str, Any]) -> None:
    ours = services("sentinel/sentinel.yaml")

    assert set(services("mtls/service.yaml")) == set(ours)
    for name, spec in ours.items():
        (theirs,), (port,) = chart[name]["ports"], spec["ports"]
        assert [theirs[key] for key in ("name", "port", "appProtocol")] == [
            port[key] for key in ("name", "port", "appProtocol")
        ]
        assert chart[name].get("clusterIP") == spec.get("clusterIP")
        assert spec["selector"].items() <= chart[name]["selector"].items()


@pytest.mark.parametrize("name", ["sentinel/sentinel.yaml", "mtls/service.yaml"])
def test_every_port_is_http2_for_who_goes_by_the_service(name: str) -> None:
    """As ParseAppProtocol of kgateway 2.4 reads it; otherwise gRPC is asked in HTTP/1.1."""
    told = {port.get("appProtocol") for spec in services(name).values() for port in spec["ports"]}

    assert told
    assert told <= {"http2", "grpc", "grpc-web", "kubernetes.io/h2c"}


def test_ports_are_the_settings() -> None:
    settings = Settings.load({}, None)
    grpc, admin, people = (
        address.port
        for address in (settings.grpc_address, settings.admin_address, settings.debug_grpc_address)
    )
    text = "".join(texts(folder) for folder in FOLDERS) + "".join(
        page.read_text() for page in RECIPES.glob("*.md") if page.stem in {"README", *FOLDERS}
    )

    assert {grpc, people, 50443} == {int(number) for number in re.findall(r"\b50[0-9]{3}\b", text)}
    assert {admin} == {int(number) for number in re.findall(r"\b94[0-9]{2}\b", text)}


def test_sentinel_is_asked_under_a_name_and_port_that_there_is() -> None:
    known = {
        (name, port["port"])
        for name, spec in services("sentinel/sentinel.yaml").items()
        for port in spec["ports"]
    }
    tls = {
        (name, port["port"]) for name, spec in services("mtls/service.yaml").items() for port in spec["ports"]
    }
    asked = {
        (name, int(port))
        for folder in FOLDERS
        for name, port in re.findall(
            r"(?:name: |[\W_])(sentinel(?:-headless)?)"
            r"(?:\.sentinel(?:\.svc\.cluster\.local)?|, namespace: sentinel)?"
            r"(?:, port: |, port_value: |:)([0-9]{4,5})\b",
            texts(folder),
        )
    }

    assert {("sentinel", 50051), ("sentinel-headless", 50051), ("sentinel", 50443)} <= asked
    assert set() == asked - known - tls
    names = {n for folder in FOLDERS for n in re.findall(r"\b(sentinel[\w-]*)\.sentinel\b", texts(folder))}
    assert names == {name for name, _ in known}


def test_istios_sidecar_is_found_in_its_namespace_and_not_asked_for_its_own_port() -> None:
    """A hostname in two namespaces needs one before it; Istio refuses all requests where it cannot choose."""
    objects = {d["kind"]: d for d in documents(RECIPES / "istio" / "sidecar.yaml")}
    (mesh,) = documents(RECIPES / "istio" / "mesh-config.yaml")
    providers = {p["name"]: p for p in mesh["meshConfig"]["extensionProviders"]}
    entry, policy = objects["ServiceEntry"], objects["AuthorizationPolicy"]["spec"]
    asked = providers[policy["provider"]["name"]]["envoyExtAuthzGrpc"]
    (sentinel,) = objects["Deployment"]["spec"]["template"]["spec"]["initContainers"]

    assert f"{entry['metadata']['namespace']}/{entry['spec']['hosts'][0]}" == asked["service"]
    assert entry["spec"]["ports"][0]["number"] == asked["port"]
    assert [str(port["containerPort"]) for port in sentinel["ports"]] == list(*found(policy, "notPorts"))


SECRETS = (
    "secretName",
    "caSecret",
    "clientCertificate",
    "clientCertificateRef",
    "secretRef",
    "configMap",
    "caCertificateRefs",
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_secret_is_told_of_or_made(folder: str) -> None:
    wanted = set()
    for field in SECRETS:
        for value in found(everything(folder), field):
            parts = value if isinstance(value, list) else [value]
            wanted |= {part if isinstance(part, str) else part["name"] for part in parts}
    made = {d["metadata"]["name"] for d in everything(folder) if d.get("kind") in {"Secret", "ConfigMap"}}
    own = RECIPES / f"{folder}.md"
    page = own.read_text() if own.exists() else index()

    assert set() == {name for name in wanted - made if f"`{name}`" not in page}


def policies() -> Iterator[tuple[str, str]]:
    """Yield every policy of the recipes, with its place."""
    for folder in FOLDERS:
        for path in sorted((RECIPES / folder).glob("*.yaml")):
            for document in documents(path):
                if document.get("kind") == "ConfigMap":
                    for name, text in document["data"].items():
                        yield f"{folder}/{path.name}: {name}", text
                elif "kind" not in document and "plans" in document:
                    yield f"{folder}/{path.name}", path.read_text()


POLICIES = dict(policies())


@pytest.mark.parametrize("name", POLICIES)
def test_check_config_finds_nothing_in_a_policy(name: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICIES[name])
    report = check([str(path)], Settings.load({}, None), merge=False, lenient=False)

    assert ([], []) == (report.problems, report.warnings)
    (policy,) = report.policies.values()
    assert "orders" in yaml.safe_load(POLICIES[name])["upstreams"]
    assert "vital" == policy.plan_for("acme").tier.name.lower()


def test_the_three_policies_are_found() -> None:
    assert {
        "envoy/policy.yaml",
        "istio/sidecar.yaml: policy.yaml",
        "sentinel/sentinel.yaml: policy.yaml",
    } == set(POLICIES)


def test_rate_limits_have_the_domain_and_keys_that_recipes_send() -> None:
    rules = {
        "envoy": POLICIES["envoy/policy.yaml"],
        "others": POLICIES["sentinel/sentinel.yaml: policy.yaml"],
    }
    sent = {
        "envoy": set(found(MESHES["envoy"](), "descriptor_key")),
        "others": {"x-tenant-id"}
        | {
            key
            for folder in FOLDERS
            for name in ("descriptor_key", "descriptorKey")
            for key in found(everything(folder), name)
        },
    }
    for who, text in rules.items():
        (domain,) = yaml.safe_load(text)["ratelimit"]
        assert "shop" == domain["domain"]
        assert sent[who] == {part["key"] for part in domain["descriptors"]}
    asked = {d for folder in FOLDERS for d in found(everything(folder), "domain") if isinstance(d, str)}
    assert {"shop"} == asked
