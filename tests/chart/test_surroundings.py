"""What stands around the pods: alerts, monitors, network policies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.helm import CHART, containers, environment
from support.manifests import RECIPES, documents

if TYPE_CHECKING:
    from support.helm import Helm, Rendered


SHIPPED = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]


def rules(helm: Helm, **values: Any) -> dict[str, dict[str, Any]]:
    """Every rule by the name of its alert, or of its record and tier."""
    rendered = helm.render({"metrics": {"prometheusRule": {"enabled": True, **values}}})
    found = [rule for group in rendered.one("PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    return {
        rule.get("alert") or rule["record"] + rule.get("labels", {}).get("tier", ""): rule for rule in found
    }


def test_the_rules_are_the_shipped_ones(helm: Helm) -> None:
    rendered = helm.render({"metrics": {"prometheusRule": {"enabled": True}}})

    assert rendered.one("PrometheusRule")["spec"]["groups"] == SHIPPED


def test_alerts_can_be_left_out_labelled_and_changed_one_by_one(helm: Helm) -> None:
    shipped = rules(helm)
    changed = {
        "SentinelAbsent": {"for": "1h", "labels": {"severity": "info"}},
        "SentinelBlind": {"expr": "vector(1) > 0"},
    }
    given = rules(
        helm,
        disabled=["SentinelNearLimit"],
        alertLabels={"team": "edge"},
        overrides=changed,
        runbookPrefix="https://x/",
    )

    assert {"SentinelNearLimit"} == set(shipped) - set(given)
    assert {"edge"} == {rule["labels"]["team"] for rule in given.values() if "alert" in rule}
    absent = given["SentinelAbsent"]
    assert ("1h", "info", shipped["SentinelAbsent"]["expr"]) == (
        absent["for"], absent["labels"]["severity"], absent["expr"]
    )  # fmt: skip
    assert "https://x/docs/runbooks/SentinelAbsent.md" == absent["annotations"]["runbook_url"]
    blind = given["SentinelBlind"]
    assert ("vector(1) > 0", "2m", "warning") == (blind["expr"], blind["for"], blind["labels"]["severity"])
    assert "critical" == given["SentinelStoreDown"]["labels"]["severity"]


def test_objectives_are_values(helm: Helm) -> None:
    name = "sentinel:slo_objective:ratio"
    given = rules(helm, objectives={"vital": 0.9995})

    assert ["vector(0.9995)", "vector(0.99)", "vector(0.9)"] == [
        given[name + tier]["expr"] for tier in ("vital", "standard", "economy")
    ]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"disabled": ["SentinelAway"]}, "metrics.prometheusRule.disabled: there is no alert SentinelAway"),
        ({"overrides": {"SentinelAway": {"for": "1m"}}}, "overrides.SentinelAway: there is no such alert"),
        ({"overrides": {"SentinelAbsent": {"four": "1m"}}}, "additional properties 'four' not allowed"),
        (
            {"overrides": {"SentinelAbsent": {"for": "soon"}}},
            "/metrics/prometheusRule/overrides/SentinelAbsent/for",
        ),
        ({"objectives": {"vital": 1}}, "/metrics/prometheusRule/objectives/vital"),
        ({"objectives": {"gold": 0.9}}, "additional properties 'gold' not allowed"),
    ],
)
def test_what_is_no_alert_is_refused(helm: Helm, values: dict[str, Any], told: str) -> None:
    assert told in helm.refusal({"metrics": {"prometheusRule": {"enabled": True, **values}}})


@pytest.mark.parametrize("mode", ["service", "sidecar"])
def test_the_admin_port_has_one_name_and_number(helm: Helm, mode: str) -> None:
    """In the container, its variable, the Service, monitors, the network policy, and the recipes."""
    kind = "serviceMonitor" if mode == "service" else "podMonitor"
    metrics = {kind: {"enabled": True}}
    values = {
        "mode": mode,
        "app": {"example": mode == "sidecar"},
        "ports": {"admin": 9999},
        "metrics": metrics,
    }
    rendered = helm.render({**values, "networkPolicy": {"enabled": True}})
    sentinel = containers(rendered.one("Deployment"))["sentinel"]
    (monitor,) = [one["spec"] for one in rendered.objects if one["kind"].endswith("Monitor")]
    endpoint = (monitor.get("endpoints") or monitor["podMetricsEndpoints"])[0]

    assert ("admin", 9999) in [(one["name"], one["containerPort"]) for one in sentinel["ports"]]
    assert "0.0.0.0:9999" == environment(sentinel)["ADMIN_ADDRESS"]
    assert "admin" == rendered.one("Service", "-metrics")["spec"]["ports"][0]["name"]
    assert "admin" == endpoint["port"]
    assert 9999 in [rule["ports"][0]["port"] for rule in rendered.one("NetworkPolicy")["spec"]["ingress"]]
    (recipe,) = [
        one for one in documents(RECIPES / "sentinel" / "sentinel.yaml") if one["kind"] == "Deployment"
    ]
    assert "admin" in [one["name"] for one in containers(recipe)["sentinel"]["ports"]]


@pytest.mark.parametrize("kind", ["serviceMonitor", "podMonitor"])
def test_envoys_metrics_have_a_port_that_is_named_scraped_and_closed_like_the_admin_port(
    helm: Helm, kind: str
) -> None:
    given = {"enabled": True, "interval": "7s"}
    values: dict[str, Any] = {"mode": "sidecar", "app": {"example": True}, "networkPolicy": {"enabled": True}}
    rendered = helm.render({**values, "metrics": {kind: given, "envoy": {"port": 9999}}})
    (monitor,) = [one["spec"] for one in rendered.objects if one["kind"].endswith("Monitor")]
    endpoints = monitor.get("endpoints") or monitor["podMetricsEndpoints"]
    (_, metrics) = rendered.one("NetworkPolicy")["spec"]["ingress"]

    ports = containers(rendered.one("Deployment"))["envoy"]["ports"]
    assert {"name": "envoy-metrics", "containerPort": 9999, "protocol": "TCP"} in ports
    service = {one["name"]: one["targetPort"] for one in rendered.one("Service", "-metrics")["spec"]["ports"]}
    assert {"admin": 9464, "envoy-metrics": 9999} == service
    assert [("admin", "/metrics", "7s"), ("envoy-metrics", "/stats/prometheus", "7s")] == [
        (one["port"], one["path"], one["interval"]) for one in endpoints
    ]
    assert [9464, 9999] == [one["port"] for one in metrics["ports"]]


@pytest.mark.parametrize(
    "values",
    [
        {"mode": "sidecar", "metrics": {"envoy": {"enabled": False}, "podMonitor": {"enabled": True}}},
        {"mode": "sidecar", "metrics": {"enabled": False}},
        {"mode": "sidecar", "envoy": {"existingConfigMap": "own"}},
        {"mode": "service", "metrics": {"podMonitor": {"enabled": True}}},
    ],
    ids=["off", "no metrics", "a file of one's own", "service"],
)
def test_or_none_of_it_is_there(helm: Helm, values: dict[str, Any]) -> None:
    app = {"example": values["mode"] == "sidecar"}
    rendered = helm.render({**values, "app": app, "networkPolicy": {"enabled": True}})

    assert not re.search("envoy-metrics|stats/prometheus|9903", str(rendered.objects))


def test_network_policies_open_only_what_is_needed(ci: dict[str, Rendered]) -> None:
    spec = ci["service-full"].one("NetworkPolicy")["spec"]

    opened = [(rule["ports"][0]["port"], rule["from"]) for rule in spec["ingress"]]
    assert [9191, 9090] == [port for port, _ in opened]
    assert "gateways" in str(opened[0])
    test = ci["service-full"].one("Pod", "-test")["metadata"]["labels"]
    assert opened[0][1][-1]["podSelector"]["matchLabels"].items() <= test.items()
    assert "monitoring" in str(opened[1])
    reached = [port["port"] for rule in spec["egress"] for port in rule.get("ports", ())]
    assert [53, 53, 6380, 4317] == reached
    assert (
        6379 == ci["service-bundled"].one("NetworkPolicy", "-redis")["spec"]["ingress"][0]["ports"][0]["port"]
    )


@pytest.mark.parametrize(
    ("redis", "more", "ports"),
    [
        ({}, [], [6379]),
        ({"url": "redis://a.svc:6380/0"}, [], [6380]),
        ({"url": "rediss+cluster://a:7000,b,[fd00::1]:7002?protocol=3"}, [], [7000, 6379, 7002]),
        ({"url": "redis+sentinel://a,b:26380/main"}, [], [26379, 26380, 6379]),
        ({"url": "redis+sentinel://a/main"}, [6390], [26379, 6390]),
        ({"urlSecret": {"name": "store"}}, [], [6379, 26379]),
        ({"urlSecret": {"name": "store"}}, [6380], [6380]),
        ({"bundled": {"enabled": True}}, [], [6379]),
        ({"url": "memory://"}, [], None),
    ],
    ids=str,
)
def test_pods_may_leave_for_the_ports_of_redis(
    helm: Helm, redis: dict[str, Any], more: list[int], ports: list[int] | None
) -> None:
    egress = {"enabled": True, "redisPorts": more}
    rendered = helm.render({"redis": redis, "networkPolicy": {"enabled": True, "egress": egress}})
    _, *rules = rendered.one("NetworkPolicy", "rel-sentinel")["spec"]["egress"]

    assert ([ports] if ports else []) == [[port["port"] for port in rule["ports"]] for rule in rules]


def test_monitors_find_the_metrics_and_name_the_job(ci: dict[str, Rendered]) -> None:
    monitor, service = ci["service-full"].one("ServiceMonitor"), ci["service-full"].one("Service", "-metrics")
    labels = service["metadata"]["labels"]
    others = [one["metadata"]["labels"] for one in ci["service-full"].objects if one["kind"] == "Service"]

    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert [labels] == [one for one in others if wanted.items() <= one.items()], "or pods are scraped twice"
    assert {monitor["spec"]["endpoints"][0]["port"]} == {port["name"] for port in service["spec"]["ports"]}
    assert "prometheus" == monitor["metadata"]["labels"]["release"]
    # Alerts look for a job with "sentinel" in it, and this chart is called otherwise (nameOverride).
    assert ("gate", "sentinel") == (labels["app.kubernetes.io/name"], labels[monitor["spec"]["jobLabel"]])
    pods_monitor = ci["sidecar-full"].one("PodMonitor")["spec"]
    template = ci["sidecar-full"].one("Deployment")["spec"]["template"]
    pod_labels = template["metadata"]["labels"]
    assert pods_monitor["selector"]["matchLabels"].items() <= pod_labels.items()
    assert "sentinel" == pod_labels[pods_monitor["jobLabel"]]
    (port,) = containers(ci["sidecar-full"].one("Deployment"))["sentinel"]["ports"]
    assert pods_monitor["podMetricsEndpoints"][0]["port"] == port["name"]


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ({}, "250m"),
        ({"mode": "sidecar", "app": {"example": True}}, "100m"),
        ({"resources": {"requests": {"cpu": "1"}}}, "1"),
        ({"resources": {"limits": {"cpu": "100m"}}}, None),
    ],
    ids=str,
)
def test_the_request_for_cpu_goes_by_the_mode(helm: Helm, values: dict[str, Any], asked: str | None) -> None:
    """An autoscaler aims at a share of it."""
    resources = containers(helm.render(values).one("Deployment"))["sentinel"]["resources"]

    assert asked == resources["requests"].get("cpu")
    assert "128Mi" == resources["requests"]["memory"]


def test_hooks_run_where_the_others_do(helm: Helm) -> None:
    bears = [{"key": "edge", "operator": "Exists"}]
    rendered = helm.render(
        {
            "nodeSelector": {"pool": "edge"},
            "tolerations": bears,
            "checkConfig": {"enabled": True},
            "policy": {"content": {"plans": {}}},
            "redis": {"bundled": {"enabled": True}},
        }
    )
    for kind in ("Deployment", "StatefulSet", "Job", "Pod"):
        spec = rendered.one(kind, "-test" if kind == "Pod" else "")["spec"]
        pod = spec if kind == "Pod" else spec["template"]["spec"]
        assert ({"pool": "edge"}, bears) == (pod["nodeSelector"], pod["tolerations"])
