"""The chart over every file of ci/: linted, rendered, and held to Kubernetes' strict schemas."""

from __future__ import annotations

import copy
import ipaddress
import re
from typing import TYPE_CHECKING, Any

import pytest
from support.helm import CHART, Helm, Rendered, containers, environment
from support.kubernetes import VERSIONS, problems

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = [path.name.removesuffix("-values.yaml") for path in sorted((CHART / "ci").glob("*-values.yaml"))]
each_file = pytest.mark.parametrize("name", NAMES)


def pods(rendered: Rendered) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every object that has or is a pod, and the pod's spec."""
    for thing in rendered.objects:
        if thing["kind"] == "Pod":
            yield thing, thing["spec"]
        elif "template" in thing.get("spec", {}):
            yield thing, thing["spec"]["template"]["spec"]


def test_there_are_files_for_both_modes() -> None:
    assert {"service", "sidecar-example"} <= set(NAMES)
    assert 6 <= len(NAMES)


@each_file
def test_lint_finds_nothing(helm: Helm, ci_values: dict[str, Any], name: str) -> None:
    assert [] == helm.lint(ci_values[name])


@each_file
def test_kubernetes_takes_every_object(ci: dict[str, Rendered], name: str) -> None:
    assert [] == [
        problem for version in VERSIONS for thing in ci[name].objects for problem in problems(thing, version)
    ]


def test_the_schemas_are_strict(ci: dict[str, Rendered]) -> None:
    """The check above must be able to fail: in an object, in a pod, in an operator's resource."""
    deployment = copy.deepcopy(ci["service"].one("Deployment"))
    deployment["spec"]["template"]["spec"]["containers"][0]["ressources"] = {}
    monitor = copy.deepcopy(ci["service-full"].one("ServiceMonitor"))
    monitor["spec"]["endpoints"][0]["intervall"] = "1s"

    assert "ressources" in str(problems(deployment, VERSIONS[0]))
    assert "intervall" in str(problems(monitor, VERSIONS[0]))


@each_file
def test_names_are_unique_and_short_and_the_namespace_is_said(ci: dict[str, Rendered], name: str) -> None:
    named = [(one["kind"], one["metadata"]["name"]) for one in ci[name].objects]
    own = [one for one in ci[name].objects if "helm.sh/chart" in one["metadata"].get("labels", {})]

    assert len(named) == len(set(named))
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", one) for _, one in named)
    assert {"shop"} == {one["metadata"]["namespace"] for one in own}
    assert len(own) >= len(named) - 2  # all but those of extraObjects


def test_long_names_still_fit(helm: Helm) -> None:
    rendered = helm.render({"redis": {"bundled": {"enabled": True}}}, release="r" * 53)

    assert 63 >= max(len(one["metadata"]["name"]) for one in rendered.objects)
    assert 52 == len(rendered.one("StatefulSet")["metadata"]["name"])
    url = environment(containers(rendered.one("Deployment"))["sentinel"])["REDIS_URL"]
    assert f"redis://{rendered.one('Service', '-redis')['metadata']['name']}:6379" == url


@each_file
def test_pods_are_restricted(ci: dict[str, Rendered], name: str) -> None:
    """The Pod Security Standard `restricted`, a read-only root, no token. Containers of values are theirs."""
    for thing, spec in pods(ci[name]):
        assert spec["securityContext"]["runAsNonRoot"], thing
        assert "RuntimeDefault" == spec["securityContext"]["seccompProfile"]["type"]
        assert not spec["automountServiceAccountToken"]
        assert not spec["enableServiceLinks"]
        for container in containers(thing).values():
            if container["name"] in {"helper", "first", "migrate", "cron"}:
                continue
            context = container["securityContext"]
            assert not context["allowPrivilegeEscalation"]
            assert context["readOnlyRootFilesystem"]
            assert {"drop": ["ALL"]} == context["capabilities"]
            if container["name"] != "app":
                assert (65532, 65532) == (context["runAsUser"], context["runAsGroup"])
                assert "memory" in container["resources"]["limits"]
                assert "cpu" not in container["resources"]["limits"]


@each_file
def test_what_is_mounted_is_there_and_no_single_file(ci: dict[str, Rendered], name: str) -> None:
    """A file that is mounted by subPath is never updated."""
    for thing, spec in pods(ci[name]):
        given = {volume["name"] for volume in spec.get("volumes", ())}
        mounts = [mount for one in containers(thing).values() for mount in one.get("volumeMounts", ())]
        assert {mount["name"] for mount in mounts} <= given
        assert not any("subPath" in mount for mount in mounts)


@each_file
def test_maps_and_secrets_that_pods_name_are_there_or_the_values_name_them(
    ci: dict[str, Rendered], name: str
) -> None:
    own = {one["metadata"]["name"] for one in ci[name].objects if one["kind"] in {"ConfigMap", "Secret"}}
    elsewhere = {"rel-plans", "limits", "store-login", "rel-store", "rel-roots", "roots", "own-envoy"}
    elsewhere |= {"more", "app"}
    named = {one for _, spec in pods(ci[name]) for one in maps_in(spec)}

    assert named <= own | elsewhere
    assert own & named or name in {"service", "service-full", "sidecar-library"}


def maps_in(node: object) -> Iterator[str]:
    """Every name of a ConfigMap or Secret in a pod's spec."""
    if isinstance(node, list):
        for one in node:
            yield from maps_in(one)
    if isinstance(node, dict):
        for key, value in node.items():
            if key in {"configMap", "secret", "configMapRef", "secretRef", "secretKeyRef", "configMapKeyRef"}:
                yield value.get("name") or value["secretName"]
            else:
                yield from maps_in(value)


def test_selectors_find_the_pods(ci: dict[str, Rendered]) -> None:
    for rendered in ci.values():
        labels = [
            one["spec"]["template"]["metadata"]["labels"]
            for one in rendered.objects
            if one["kind"] in {"Deployment", "StatefulSet"}
        ]
        for service in (one for one in rendered.objects if one["kind"] == "Service"):
            assert any(service["spec"]["selector"].items() <= one.items() for one in labels), service


def test_defaults_make_a_service_of_two(helm: Helm) -> None:
    rendered = helm.render()

    assert [
        "Deployment/rel-sentinel",
        "Pod/rel-sentinel-test",
        "Service/rel-sentinel",
        "Service/rel-sentinel-headless",
        "Service/rel-sentinel-metrics",
        "ServiceAccount/rel-sentinel",
    ] == rendered.kinds()
    assert 2 == rendered.one("Deployment")["spec"]["replicas"]
    assert "None" == rendered.one("Service", "-headless")["spec"]["clusterIP"]
    (port,) = rendered.one("Service", "rel-sentinel")["spec"]["ports"]
    assert ("grpc", "kubernetes.io/h2c") == (port["name"], port["appProtocol"])
    sentinel = containers(rendered.one("Deployment"))["sentinel"]
    assert {"port": 50051, "service": ""} == sentinel["readinessProbe"]["grpc"]
    assert {"port": 50051, "service": "liveness"} == sentinel["livenessProbe"]["grpc"]


def test_the_autoscaler_owns_the_number_of_pods(ci: dict[str, Rendered]) -> None:
    rendered = ci["service-full"]
    scaler = rendered.one("HorizontalPodAutoscaler")["spec"]

    assert "replicas" not in rendered.one("Deployment")["spec"]
    assert ["cpu", "memory"] == [one["resource"]["name"] for one in scaler["metrics"][:2]]
    assert 300 == scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"]


def test_an_image_goes_by_digest_and_global_registry(ci: dict[str, Rendered]) -> None:
    spec = ci["service-full"].one("Deployment")["spec"]["template"]["spec"]
    image = next(one["image"] for one in spec["containers"] if one["name"] == "sentinel")

    assert re.fullmatch(r"registry\.example\.com/sentinel@sha256:[0-9a-f]{64}", image)
    assert [{"name": "mirror"}, {"name": "own"}] == spec["imagePullSecrets"]


def test_passwords_are_files_and_stand_in_no_pod(ci: dict[str, Rendered]) -> None:
    rendered = ci["service-bundled"]
    sentinel = containers(rendered.one("Deployment"))["sentinel"]

    assert "/etc/sentinel/redis/password" == environment(sentinel)["REDIS_PASSWORD_FILE"]
    assert ["Secret"] == [one["kind"] for one in rendered.objects if "s3cret" in str(one)]
    assert "s3cret" not in rendered.notes
    full = ci["service-full"].one("Deployment")["spec"]["template"]["spec"]
    (secret,) = [one["secret"] for one in full["volumes"] if one["name"] == "sentinel-redis"]
    assert "store-login" == secret["secretName"]
    assert [("secret", "password"), ("other", "sentinel-password")] == [
        (item["key"], item["path"]) for item in secret["items"]
    ]


def test_the_order_of_sidecars(ci: dict[str, Rendered]) -> None:
    """Sentinel starts before Envoy and ends after it; both start before the app and end after it."""
    spec = ci["sidecar-full"].one("Deployment")["spec"]["template"]["spec"]

    assert [("migrate", None), ("sentinel", "Always"), ("envoy", "Always")] == [
        (one["name"], one.get("restartPolicy")) for one in spec["initContainers"]
    ]
    assert ["app", "cron"] == [one["name"] for one in spec["containers"]]
    probes = {one["name"]: one.get("startupProbe", {}) for one in spec["initContainers"]}
    assert {"tcpSocket": {"port": 8000}}.items() <= probes["envoy"].items()
    assert [
        "sentinel-ext", "healthcheck", "--service", "liveness",
    ] == probes["sentinel"]["exec"]["command"]  # fmt: skip


def test_without_an_open_admin_port_probes_use_the_socket(helm: Helm) -> None:
    rendered = helm.render({"mode": "sidecar", "app": {"example": True}, "metrics": {"enabled": False}})
    sentinel = containers(rendered.one("Deployment"))["sentinel"]

    assert "127.0.0.1:9464" == environment(sentinel)["ADMIN_ADDRESS"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert "unix:///run/sentinel/sentinel.sock" in sentinel[probe]["exec"]["command"]
    assert "ports" not in sentinel


def test_only_what_is_read_once_replaces_pods(helm: Helm, ci_values: dict[str, Any]) -> None:
    """Policy and limits are read live: a change must not touch the pods. Envoy's file is read once."""

    def pod(**changes: Any) -> dict[str, Any]:
        values = {"mode": "sidecar", "app": {"example": True}, **changes}
        template: dict[str, Any] = helm.render(values).one("Deployment")["spec"]["template"]
        return template

    gold = {"policy": {"content": {"plans": {"gold": {"limit": 1}}}}}
    more = {"policy": {"content": {"plans": {"gold": {"limit": 2}}}}}
    assert pod(**gold) == pod(**more)
    assert pod() != pod(envoy={"checkTimeoutMs": 100})


def test_extra_objects_are_templates(ci: dict[str, Rendered]) -> None:
    kinds = ci["service-full"].kinds()

    assert "ConfigMap/rel-more" in kinds
    assert "ConfigMap/rel-gate-text" in kinds
    first = containers(ci["service-full"].one("Deployment"))["first"]
    assert ["shop"] == first["args"]


def test_spread_constraints_get_the_charts_selector(ci: dict[str, Rendered]) -> None:
    spec = ci["service-full"].one("Deployment")["spec"]["template"]["spec"]
    ours, theirs = (one["labelSelector"]["matchLabels"] for one in spec["topologySpreadConstraints"])

    assert ours == ci["service-full"].one("Deployment")["spec"]["selector"]["matchLabels"]
    assert {"x": "y"} == theirs


def test_ipv6_only_pods(helm: Helm) -> None:
    rendered = helm.render({"config": {"listenHost": "[::]"}})
    address = environment(containers(rendered.one("Deployment"))["sentinel"])["GRPC_ADDRESS"]

    assert ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).version == 6


def test_replacing_all_pods_at_once_takes_one_word(helm: Helm) -> None:
    """Helm merges mappings: the default's rollingUpdate would stay behind, and Kubernetes refuse it."""
    rendered = helm.render({"updateStrategy": {"type": "Recreate"}})

    assert {"type": "Recreate"} == rendered.one("Deployment")["spec"]["strategy"]


@pytest.mark.parametrize(
    ("app", "hooks"),
    [
        ({}, {"preStop": {"sleep": {"seconds": 5}}}),
        ({"preStopSeconds": 0}, None),
        (
            {"lifecycle": {"preStop": {"exec": {"command": ["/x"]}}}},
            {"preStop": {"exec": {"command": ["/x"]}}},
        ),
    ],
)
def test_the_apps_hook_is_one_handler(helm: Helm, app: dict[str, Any], hooks: object) -> None:
    rendered = helm.render({"mode": "sidecar", "app": {"example": True, **app}})

    assert hooks == containers(rendered.one("Deployment"))["app"].get("lifecycle")


@pytest.mark.parametrize("mode", ["service", "sidecar"])
def test_nothing_but_the_secret_depends_on_the_password(helm: Helm, mode: str) -> None:
    """Not even a hash of it: a fast one could be guessed at by whoever may read pods."""

    def others(password: str) -> list[dict[str, Any]]:
        redis = {"bundled": {"enabled": True}, "auth": {"password": password}}
        rendered = helm.render({"mode": mode, "app": {"example": mode == "sidecar"}, "redis": redis})
        assert password == rendered.one("Secret")["stringData"]["password"]
        return [one for one in rendered.objects if one["kind"] != "Secret"]

    assert others("s3cret") == others("s4cret")


def test_the_bundled_redis_reads_the_password_from_the_secret_that_sentinel_reads(helm: Helm) -> None:
    auth = {"existingSecret": "{{ .Release.Name }}-login", "passwordKey": "word"}
    rendered = helm.render(
        {"redis": {"bundled": {"enabled": True, "persistence": {"enabled": True}}, "auth": auth}}
    )
    pods = (rendered.one(kind)["spec"]["template"]["spec"] for kind in ("Deployment", "StatefulSet"))
    found = [one["secret"] for pod in pods for one in pod["volumes"] if "secret" in one]

    assert [("rel-login", "word")] * 2 == [(one["secretName"], one["items"][0]["key"]) for one in found]


def test_the_url_of_a_secret_stands_in_no_pod(ci: dict[str, Rendered]) -> None:
    sentinel = containers(ci["service-full"].one("Deployment"))["sentinel"]
    (url,) = [one for one in sentinel["env"] if one["name"] == "REDIS_URL"]

    assert {"secretKeyRef": {"name": "rel-store", "key": "address"}} == url["valueFrom"]


def test_an_autoscaler_of_somebody_elses_keeps_its_number(helm: Helm) -> None:
    rendered = helm.render({"mode": "sidecar", "app": {"example": True}, "replicaCount": None})

    assert "replicas" not in rendered.one("Deployment")["spec"]


def test_an_upgrade_may_change_the_mode(ci: dict[str, Rendered]) -> None:
    """A Deployment's selector cannot change."""
    first, second = (ci[name].one("Deployment") for name in ("service", "sidecar-example"))

    assert first["metadata"]["name"] == second["metadata"]["name"]
    assert first["spec"]["selector"] == second["spec"]["selector"]
