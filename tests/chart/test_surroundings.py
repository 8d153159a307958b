"""What stands around the pods: alerts, monitors, network policies."""

from __future__ import annotations

from support.helm import Helm, Rendered, containers


def test_rules_can_be_left_out_and_labelled(helm: Helm) -> None:
    def names(rendered: Rendered) -> list[str]:
        groups = rendered.one("PrometheusRule")["spec"]["groups"]
        return [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]

    every = names(helm.render({"metrics": {"prometheusRule": {"enabled": True}}}))
    rule = {"enabled": True, "disabled": every[:1], "alertLabels": {"team": "edge"}}
    rendered = helm.render({"metrics": {"prometheusRule": rule}})

    assert every[1:] == names(rendered)
    assert "{{ $" in str(rendered.one("PrometheusRule"))
    rules = [rule for group in rendered.one("PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    assert {"edge"} == {rule["labels"]["team"] for rule in rules if "alert" in rule}


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


def test_monitors_find_the_metrics_and_name_the_job(ci: dict[str, Rendered]) -> None:
    monitor, service = ci["service-full"].one("ServiceMonitor"), ci["service-full"].one("Service", "-metrics")
    labels = service["metadata"]["labels"]
    others = [one["metadata"]["labels"] for one in ci["service-full"].objects if one["kind"] == "Service"]

    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert [labels] == [one for one in others if wanted.items() <= one.items()], "or pods are scraped twice"
    assert {monitor["spec"]["endpoints"][0]["port"]} == {port["name"] for port in service["spec"]["ports"]}
    assert "prometheus" == monitor["metadata"]["labels"]["release"]
    pods_monitor = ci["sidecar-full"].one("PodMonitor")["spec"]
    template = ci["sidecar-full"].one("Deployment")["spec"]["template"]
    pod_labels = template["metadata"]["labels"]
    assert pods_monitor["selector"]["matchLabels"].items() <= pod_labels.items()
    assert "sentinel" == pod_labels[pods_monitor["jobLabel"]]
    (port,) = containers(ci["sidecar-full"].one("Deployment"))["sentinel"]["ports"]
    assert pods_monitor["podMetricsEndpoints"][0]["port"] == port["name"]
