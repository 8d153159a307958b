"""What NOTES.txt shows for each mesh: the projects' schemas take it, and it says what docs/install says."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.envoy import validate
from support.helm import CHART, Helm
from support.manifests import RECIPES, documents, problems

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = yaml.safe_load((CHART / "values.schema.json").read_text())
MESHES = [mesh for mesh in SCHEMA["properties"]["mesh"]["enum"] if mesh not in {"envoy", "none"}]
KINDS: dict[str, list[str | None]] = {
    "istio": [None, "AuthorizationPolicy", "DestinationRule", "Telemetry"],
    "envoy-gateway": ["SecurityPolicy", "ReferenceGrant"],
    "contour": ["ExtensionService", "HTTPProxy"],
    "kgateway": ["GatewayExtension", "TrafficPolicy", "BackendConfigPolicy", "ReferenceGrant"],
    "emissary": ["AuthService"],
}
# What decides how a gateway asks: in the snippet and in the recipe.
SAME = {
    "istio": [
        ("mesh-config.yaml", None, "meshConfig.extensionProviders.0.envoyExtAuthzGrpc"),
        ("sentinel.yaml", "DestinationRule", "spec.trafficPolicy.outlierDetection"),
        ("sentinel.yaml", "DestinationRule", "spec.trafficPolicy.connectionPool"),
    ],
    "envoy-gateway": [("route.yaml", "SecurityPolicy", "spec.extAuth")],
    "contour": [
        ("extension-service.yaml", "ExtensionService", "spec"),
        ("route-tls.yaml", "HTTPProxy", "spec.virtualhost.authorization"),
    ],
    "kgateway": [
        ("extensions.yaml", "GatewayExtension", "spec.extAuth"),
        ("backend.yaml", "BackendConfigPolicy", "spec"),
    ],
    "emissary": [("sentinel.yaml", "AuthService", "spec")],
}
# Names and places, which differ by release and by who fills them in.
PLACES = {"name", "namespace", "port", "service", "auth_service", "address", "port_value"}
PLACES |= {"contextExtensions", "context"}

CLOSED: dict[str, Any] = {"config": {"failOpen": False}, "envoy": {"checkTimeoutMs": 75}}
# A decision's, not a health check's.
TIME = re.compile(
    r"(?<!active)(?<!healthCheck)\.(timeout|timeout_ms|requestTimeout|responseTimeout|timeoutPolicy\.response)$"
)


def snippet(helm: Helm, mesh: str, **values: Any) -> str:
    notes = helm.render({"mesh": mesh, **values}).notes
    text = re.search(r"to fill in\):\n(.*?)\n\n(?:With the|Redis:)", notes, re.DOTALL)
    assert text is not None
    return textwrap.dedent(text[1])


def parts(helm: Helm, mesh: str, **values: Any) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(snippet(helm, mesh, **values)))


def below(node: Any, path: str) -> Any:
    for key in path.split("."):
        node = node[int(key)] if isinstance(node, list) else node[key]
    return node


def leaves(node: Any, path: str = "") -> dict[str, Any]:
    """Every value by its path; names and places left out, times in milliseconds."""
    if isinstance(node, dict | list):
        inner = node.items() if isinstance(node, dict) else enumerate(node)
        found = [leaves(value, f"{path}.{key}") for key, value in inner if key not in PLACES]
        return {key: value for one in found for key, value in one.items()}
    time = re.fullmatch(r"([0-9.]+)(m?s)", str(node))
    return {path: float(time[1]) * (1 if time[2] == "ms" else 1000) if time else node}


def recipe(mesh: str, file: str, kind: str | None) -> dict[str, Any]:
    return next(one for one in documents(RECIPES / mesh / file) if one.get("kind") == kind)


def test_every_mesh_is_looked_at() -> None:
    assert set(MESHES) == set(KINDS) == set(SAME)


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("headless", [True, False])
def test_the_projects_schemas_take_the_snippet(helm: Helm, mesh: str, headless: bool) -> None:
    found = parts(helm, mesh, service={"port": 9191, "headless": headless})

    assert KINDS[mesh] == [part.get("kind") for part in found]
    assert [] == [problem for part in found for problem in problems(part)]
    assert "rel-sentinel" in str(found[0])
    assert ("50051" if mesh == "emissary" and headless else "9191") in str(found[0])


@pytest.mark.parametrize("mesh", MESHES)
def test_the_snippet_asks_as_the_recipe_does(helm: Helm, mesh: str) -> None:
    for file, kind, path in SAME[mesh]:
        (part,) = [one for one in parts(helm, mesh) if one.get("kind") == kind]
        told, wanted = leaves(below(part, path)), leaves(below(recipe(mesh, file, kind), path))
        assert wanted == {key: value for key, value in told.items() if key in wanted}
        assert 3 <= len(wanted)


def test_istios_log_comes_from_whom_sentinel_is_asked_for(helm: Helm) -> None:
    """Without a selector every workload of the namespace would send it, and lose the mesh's own log."""
    specs = {part.get("kind"): part.get("spec") for part in parts(helm, "istio")}

    assert specs["AuthorizationPolicy"]["selector"] == specs["Telemetry"]["selector"]


def test_a_field_that_differs_from_the_recipe_is_seen(helm: Helm) -> None:
    (file, kind, path) = SAME["kgateway"][0]
    wanted = leaves(below(recipe("kgateway", file, kind), path))
    told = leaves(below(parts(helm, "kgateway", envoy={"checkTimeoutMs": 300})[0], path))

    assert {".grpcService.requestTimeout"} == {key for key, value in wanted.items() if told.get(key) != value}


@pytest.mark.parametrize("mesh", MESHES)
def test_the_values_decide_time_and_what_happens_on_failure(helm: Helm, mesh: str) -> None:
    """200 ms, open, and 503 where it is closed, as docs/install/README.md says of all recipes."""
    for values, expected in (({}, (200, True)), (CLOSED, (75, False))):
        told = [leaves(part) for part in parts(helm, mesh, **values)]
        given = {key.rpartition(".")[2]: value for one in told for key, value in one.items()}
        times = {value for one in told for key, value in one.items() if TIME.search(key)}
        opened = given.get("failOpen", given.get("failure_mode_allow"))
        assert ({expected[0]}, expected[1]) == (times, opened)
        # Contour has no such field: its closed door is 403.
        status = given.get("statusOnError", given.get("code"))
        assert str(status) == ("None" if mesh == "contour" else "503")


@pytest.mark.e2e
@pytest.mark.parametrize("headless", [True, False])
def test_envoy_takes_its_snippet_which_is_the_recipes(helm: Helm, tmp_path: Path, headless: bool) -> None:
    (given,) = parts(helm, "envoy", service={"headless": headless})
    (plain,) = documents(RECIPES / "envoy" / "envoy.yaml")
    listener, cluster = plain["static_resources"]["listeners"][0], plain["static_resources"]["clusters"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]

    assert leaves(manager["http_filters"][0]) == leaves(given["http_filters"][0])
    assert leaves(cluster) == leaves(given["clusters"][0])
    name = f"rel-sentinel{'-headless' if headless else ''}.shop.svc.cluster.local"
    assert name in str(given["clusters"])
    # Into the recipe's place, for Envoy to judge.
    manager["http_filters"][0] = given["http_filters"][0]
    plain["static_resources"]["clusters"][0] = given["clusters"][0]
    path = tmp_path / "envoy.yaml"
    path.write_text(yaml.safe_dump(plain))
    done = validate(path)
    assert 0 == done.returncode, done.stderr


def test_the_notes_say_what_is_missing(helm: Helm) -> None:
    notes = helm.render({"mesh": "none"}).notes

    assert "To be asked by" not in notes
    assert "no Redis was named" in notes
    assert "No policy" in notes


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"enabled": True}, True),
        ({"enabled": True, "runbookPrefix": "https://git.example.com/"}, False),
        ({"enabled": False}, False),
    ],
)
def test_the_notes_warn_of_alerts_whose_pages_lead_nowhere(
    helm: Helm, rule: dict[str, Any], told: bool
) -> None:
    assert told == (
        "set metrics.prometheusRule.runbookPrefix" in helm.render({"metrics": {"prometheusRule": rule}}).notes
    )


def test_the_notes_say_where_the_dashboards_links_lead(helm: Helm) -> None:
    metrics = {
        "dashboard": {"enabled": True},
        "prometheusRule": {"runbookPrefix": "https://git.example.com/"},
    }

    assert "https://git.example.com/docs/runbooks." in helm.render({"metrics": metrics}).notes
    assert "URL of docs/runbooks" not in helm.render({}).notes


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, ["gateways in another one cannot ask, and let everything pass", "a Prometheus in another one"]),
        ({"config": {"failOpen": False}}, ["and refuse everything", "a Prometheus in another one"]),
        (
            {"mode": "sidecar", "app": {"example": True}},
            ["an ingress in another one", "a Prometheus in another"],
        ),
        ({"metrics": {"enabled": False}}, ["gateways in another one cannot ask"]),
    ],
)
def test_the_notes_warn_of_a_network_policy_that_names_nobody(
    helm: Helm, values: dict[str, Any], told: list[str]
) -> None:
    notes = helm.render({**values, "networkPolicy": {"enabled": True}}).notes
    warnings = [line for line in notes.splitlines() if line.startswith("WARNING: networkPolicy")]

    assert len(told) == len(warnings)
    assert all(words in line for words, line in zip(told, warnings, strict=True))
    peers = [{"podSelector": {"matchLabels": {"a": "b"}}}]
    named = {"enabled": True, "from": peers, "adminFrom": peers}
    assert "WARNING: networkPolicy" not in helm.render({**values, "networkPolicy": named}).notes


@pytest.mark.parametrize(
    ("probe", "told"),
    [
        ({"path": "/ready", "port": 3000}, True),
        ({"port": 3000}, True),
        ({"path": "/healthz?full=1", "port": 3000}, False),
        ({"path": "/ready", "port": 8080}, False),
    ],
    ids=str,
)
def test_the_notes_warn_of_probes_that_use_up_a_limit(helm: Helm, probe: dict[str, Any], told: bool) -> None:
    app = {"example": True, "readinessProbe": {"httpGet": probe}}
    values = {"mode": "sidecar", "app": app, "envoy": {"unprotectedPaths": ["/healthz"]}}

    assert told == ("WARNING: app.readinessProbe asks Envoy for /" in helm.render(values).notes)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, True),
        ({"autoscaling": {"enabled": True}, "replicaCount": 1}, True),
        ({"replicaCount": 1}, False),
        ({"redis": {"url": "redis://redis"}}, False),
    ],
    ids=str,
)
def test_the_notes_warn_of_pods_that_share_no_counters(
    helm: Helm, values: dict[str, Any], told: bool
) -> None:
    assert told == ("each admits every limit" in helm.render({"redis": {"url": "memory://"}, **values}).notes)


def test_the_notes_name_what_works_with_the_values(helm: Helm) -> None:
    """A test only where there is one; in both of Envoy's files the same timeout."""
    library = {"mode": "sidecar", "app": {"enabled": False}}

    assert "helm test" not in helm.render(library).notes
    assert "helm test" in helm.render({}).notes
    assert "--check-timeout-ms 75" in helm.render({"envoy": {"checkTimeoutMs": 75}}).notes
