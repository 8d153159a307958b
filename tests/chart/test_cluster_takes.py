"""What a cluster would refuse, or what would keep it from its work, is refused before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.helm import RefusedError, nested

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
    ],
)  # fmt: skip
def test_the_schema_refuses(helm: Helm, path: str, value: object, why: str) -> None:
    message = helm.refusal(nested(path, value))

    assert why in message
    assert "/" + path.replace(".", "/") in message
    assert any(why in line for line in helm.lint(nested(path, value))), "helm lint says it, too"


def stays(pods: object) -> dict[str, Any]:
    return {"podDisruptionBudget": {"enabled": True, "minAvailable": pods}}


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
