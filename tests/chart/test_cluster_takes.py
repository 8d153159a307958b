"""What a cluster would refuse, or what would keep it from its work, is refused before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.helm import CHART, RefusedError, containers, nested
from support.kubernetes import VERSIONS, problems

if TYPE_CHECKING:
    from support.helm import Helm

SIDECAR: dict[str, Any] = {"mode": "sidecar", "app": {"example": True}}
NAMESPACE = {"namespace": "gateways"}


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("nameOverride", "my shop", "pattern"),
        ("nameOverride", "-a", "pattern"),
        ("fullnameOverride", "My_Shop", "pattern"),
        ("fullnameOverride", "1a", "pattern"),
        ("namespaceOverride", "a.b", "pattern"),
        ("serviceAccount.name", "a_b", "pattern"),
        ("commonLabels", {"team": "edge team"}, "pattern"),
        ("podLabels", {"team": "x" * 64}, "maxLength"),
        ("podDisruptionBudget.minAvailable", "most", "pattern"),
        ("podDisruptionBudget.minAvailable", "", "pattern"),
        ("podDisruptionBudget.maxUnavailable", "101%", "pattern"),
        ("podDisruptionBudget.maxUnavailable", -1, "minimum"),
        ("updateStrategy.type", "OnDelete", "value must be one of"),
        ("updateStrategy", {"maxSurge": 1}, "additional properties 'maxSurge' not allowed"),
        ("updateStrategy.rollingUpdate.maxSurge", "some", "pattern"),
        ("envoy.unprotectedPaths", ["healthz"], "pattern"),
        ("envoy.trustedHops", -1, "minimum"),
        ("app.protocol", "grpc", "value must be one of"),
        ("networkPolicy.from", [NAMESPACE], "additional properties 'namespace' not allowed"),
        ("networkPolicy.adminFrom", [NAMESPACE], "additional properties 'namespace' not allowed"),
        ("networkPolicy.from", [{}], "minProperties"),
        ("networkPolicy.from", [{"podSelector": {"name": "a"}}], "additional properties 'name' not allowed"),
        ("networkPolicy.from", [{"ipBlock": {}}], "missing property 'cidr'"),
        ("extraEnv", [{"name": "A", "value": 1}], "got number, want null or string"),
        ("app.env", [{"name": "A", "value": True}], "got boolean, want null or string"),
        ("image.registry", "https://registry.example.com", "pattern"),
        ("global.imageRegistry", "registry.example.com/", "pattern"),
        ("envoy.image.repository", "Mirror/Envoy", "pattern"),
        ("app.image.repository", "shop/app:7", "pattern"),
        ("image.tag", "v1:2", "pattern"),
        # What Sentinel or Envoy would end with at their start.
        ("config.listenHost", "::", "pattern"),
        ("envoy.listenHost", "[::]", "pattern"),
        ("envoy.listenHost", "localhost", "pattern"),
        ("config.debugAddress", "50052", "pattern"),
        ("config.tenantHeader", "x tenant", "pattern"),
    ],
)  # fmt: skip
def test_the_schema_refuses(helm: Helm, path: str, value: object, why: str) -> None:
    message = helm.refusal(nested(path, value))

    assert why in message
    assert "/" + path.replace(".", "/") in message
    assert any(why in line for line in helm.lint(nested(path, value))), "helm lint says it, too"


def nulls(schema: dict[str, Any], *, needed: bool) -> dict[str, Any]:
    """Return null for every value that must be there, or for every one that need not."""
    made: dict[str, Any] = {}
    for key, one in schema["properties"].items():
        if "required" in one and "properties" in one:
            made[key] = nulls(one, needed=needed)
        elif needed == (key in schema["required"]):
            made[key] = None
    return made


def test_null_is_refused_by_name_where_templates_would_find_nothing(helm: Helm) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = nulls(schema, needed=True)
    message = helm.refusal(values)
    sections = helm.refusal(dict.fromkeys(values))

    assert {"config", "redis", "probes"} <= values.keys()
    assert all(f"'{section}'" in sections for section in values)
    for path in ("config.listenHost", "envoy.image.repository", "redis.bundled.persistence.enabled", "mode"):
        above, _, last = f"/{path}".replace(".", "/").rpartition("/")
        (told,) = (line for line in message.splitlines() if f"at '{above}': missing propert" in line)
        assert f"'{last}'" in told


@pytest.mark.parametrize("mode", [{}, SIDECAR], ids=["service", "sidecar"])
def test_other_nulls_take_away_what_an_object_can_miss(helm: Helm, mode: dict[str, Any]) -> None:
    values = nulls(json.loads((CHART / "values.schema.json").read_text()), needed=False)
    del values["image"]["registry"]
    for section in (values["redis"]["bundled"], values["networkPolicy"], values["networkPolicy"]["egress"]):
        section["enabled"] = True
    for section in ("service" if mode == {} else "podMonitor", "prometheusRule", "dashboard"):
        values["metrics"].setdefault(section, {})["enabled"] = True
    values["app"] |= mode.get("app", {})
    rendered = helm.render(mode | values)

    assert "<nil>" not in str(rendered)
    assert "%!" not in str(rendered)
    assert [] == [problem for one in rendered.objects for problem in problems(one, VERSIONS[0])]


def stays(pods: object) -> dict[str, Any]:
    return {"podDisruptionBudget": {"enabled": True, "minAvailable": pods}}


def goes(pods: object) -> dict[str, Any]:
    return {"podDisruptionBudget": {"enabled": True, "maxUnavailable": pods}}


def sleeps(seconds: int) -> dict[str, Any]:
    return {"lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({**SIDECAR, "app": {"example": True, "preStopSeconds": 60}}, "app.preStopSeconds: 60 s and"),
        ({**SIDECAR, "app": {"example": True, **sleeps(21)}}, "app.lifecycle.preStop: 21 s and"),
        (
            {**SIDECAR, "envoy": {"existingConfigMap": "own", "unprotectedPaths": ["/up"]}},
            "envoy.unprotectedPaths: envoy.existingConfigMap is set",
        ),
        (
            {**SIDECAR, "envoy": {"existingConfigMap": "own", "trustedHops": 1}},
            "envoy.trustedHops: envoy.existingConfigMap is set",
        ),
        (sleeps(21), "lifecycle.preStop: 21 s and Sentinel's drain of 10 s are more than"),
        (stays(2), "podDisruptionBudget.minAvailable: 2 of 2 pods lets none go"),
        # Kubernetes rounds up.
        (stays("51%"), "podDisruptionBudget.minAvailable: 51% of 2 pods lets none go"),
        ({"extraEnv": [{"name": "A"}, {"name": "A"}]}, "extraEnv: A stands there twice"),
        ({"app": {"env": [{"name": "A"}, {"name": "A"}]}}, "app.env: A stands there twice"),
        (goes(0), "podDisruptionBudget.maxUnavailable: 0 lets no pod go"),
        (goes("0%"), "podDisruptionBudget.maxUnavailable: 0% lets no pod go"),
        (
            {**stays("3"), "autoscaling": {"enabled": True, "minReplicas": 3}},
            "podDisruptionBudget.minAvailable: 3 of 3 pods lets none go",
        ),
        (
            {**stays("100%"), "replicaCount": None},
            "podDisruptionBudget.minAvailable: 100% of all pods lets none go",
        ),
        (
            {"updateStrategy": {"rollingUpdate": {"maxSurge": "0%"}}},
            "updateStrategy.rollingUpdate: maxSurge and maxUnavailable are both 0",
        ),
    ],
    ids=str,
)
def test_the_template_refuses(helm: Helm, values: dict[str, Any], told: str) -> None:
    assert told in helm.refusal(values)


@pytest.mark.parametrize("release", ["1a", "a.b"])
def test_a_release_that_no_service_can_be_called_after_is_refused(helm: Helm, release: str) -> None:
    with pytest.raises(RefusedError, match=f'fullnameOverride: "{release}'):
        helm.render({}, release=release)
    helm.render({"fullnameOverride": "shop"}, release=release)


@pytest.mark.parametrize(
    "values",
    [
        stays(1),
        stays("50%"),
        {**stays("66%"), "replicaCount": 3},
        goes("1%"),
        {
            "image": {"registry": "localhost:5000/a/b", "tag": "v1.2_3-a"},
            "global": {"imageRegistry": "[::1]:5000"},
        },
        {**SIDECAR, "app": {"image": {"repository": "registry.example.com:5000/shop/app_a", "tag": "7"}}},
        {"config": {"listenHost": "[::]", "debugAddress": "[::1]:50052"}, "envoy": {"listenHost": "::"}},
        {"podDisruptionBudget": {"minAvailable": 2}},
        sleeps(20),
        {**SIDECAR, "app": {"example": True, "preStopSeconds": 20}},
        {"app": {"preStopSeconds": 60}},
        {"updateStrategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}},
        {"networkPolicy": {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}},
    ],
    ids=str,
)
def test_what_just_fits_is_taken(helm: Helm, values: dict[str, Any]) -> None:
    assert [] == helm.lint(values)


def test_a_budget_of_pods_that_an_autoscaler_of_others_counts_is_taken(helm: Helm) -> None:
    """By rendering: Helm's lint puts the default in the place of null."""
    deployment = helm.render({**stays(2), "replicaCount": None}).one("Deployment")

    assert "replicas" not in deployment["spec"]


@pytest.mark.parametrize("name", ["no", "true", "123", "1e5"])
def test_names_that_yaml_takes_for_something_else_stay_text(helm: Helm, name: str) -> None:
    """A cluster refuses a label that is false, and a namespace that is a number."""
    values: dict[str, Any] = {
        "namespaceOverride": name,
        "nameOverride": name,
        "serviceAccount": {"name": name},
        "priorityClassName": name,
        "policy": {"content": {"plans": {"gold": {"limit": 1}}}, "key": name},
        "checkConfig": {"enabled": True},
        "rateLimit": {"existingConfigMap": name},
        "redis": {
            "auth": {"existingSecret": name, "passwordKey": name, "sentinelPasswordKey": name},
            "bundled": {"enabled": True, "persistence": {"enabled": True, "storageClass": name}},
        },
        "networkPolicy": {"enabled": True},
        "autoscaling": {"enabled": True},
        "metrics": {"serviceMonitor": {"enabled": True}},
    }
    for mode in ({}, SIDECAR | {"autoscaling": {"enabled": False}, "envoy": {"existingConfigMap": name}}):
        rendered = helm.render(values | mode, release="no")

        assert [] == [problem for one in rendered.objects for problem in problems(one, VERSIONS[0])]
        assert {name} == {one["metadata"]["namespace"] for one in rendered.objects}
        assert {name} == {*rendered.one("ConfigMap", "-policy")["data"]}
        assert all(
            isinstance(label, str) for one in rendered.objects for label in one["metadata"]["labels"].values()
        )


def test_no_variable_of_the_app_stands_twice(helm: Helm) -> None:
    """Server-side apply, which is Helm 4's, refuses a list that has a name twice."""
    own = [{"name": "PORT", "value": "9"}]
    for env, told in ((own, ["9"]), ([{"name": "A", "value": "b"}], ["8080", "b"])):
        values = {**SIDECAR, "app": {"example": True, "env": env}}
        app = containers(helm.render(values).one("Deployment"))["app"]

        assert told == [one["value"] for one in app["env"]]
