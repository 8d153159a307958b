"""`sentinel.sidecar` in a chart of somebody else's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from support.helm import CHART, Helm, Rendered, containers, environment
from support.kubernetes import VERSIONS, problems

PARENT = Path(__file__).parent / "parent"


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with what `helm dependency update` would put into charts/."""
    chart = tmp_path_factory.mktemp("charts") / "shop"
    shutil.copytree(PARENT, chart)
    shutil.copytree(CHART, chart / "charts" / "sentinel")
    return chart


@pytest.fixture(scope="module")
def rendered(helm: Helm, parent: Path) -> Rendered:
    return helm.render(chart=parent)


def test_its_pod_gets_both_sidecars_and_kubernetes_takes_it(rendered: Rendered) -> None:
    spec = rendered.one("Deployment")["spec"]["template"]["spec"]

    assert ["migrate", "sentinel", "envoy"] == [one["name"] for one in spec["initContainers"]]
    assert ["Deployment"] == [one["kind"] for one in rendered.objects if one["kind"] == "Deployment"]
    assert [] == [
        problem for version in VERSIONS for one in rendered.objects for problem in problems(one, version)
    ]


def test_what_the_sidecars_read_is_in_the_release(rendered: Rendered) -> None:
    deployment = rendered.one("Deployment")
    maps = {one["metadata"]["name"] for one in rendered.objects if one["kind"] == "ConfigMap"}
    volumes = deployment["spec"]["template"]["spec"]["volumes"]

    assert {"rel-sentinel-envoy", "rel-sentinel-policy"} == maps
    assert maps == {one["configMap"]["name"] for one in volumes if "configMap" in one}
    given = environment(containers(deployment)["sentinel"])
    assert "/etc/sentinel/policy/policy.yaml" == given["POLICY_FILE"]
    assert "http://127.0.0.1:8080" == given["DOWNSTREAM_URL"]
    assert "checksum/envoy" in deployment["spec"]["template"]["metadata"]["annotations"]


def test_its_service_leads_to_envoy_and_its_app_waits_for_the_service(rendered: Rendered) -> None:
    """On SIGTERM Services still send requests for a while."""
    pod = containers(rendered.one("Deployment"))
    (port,) = rendered.one("Service")["spec"]["ports"]

    assert pod["envoy"]["ports"][0]["containerPort"] == port["targetPort"]
    assert {"preStop": {"sleep": {"seconds": 5}}} == pod["shop"]["lifecycle"]


def test_a_change_of_its_values_reaches_envoys_file(helm: Helm, parent: Path) -> None:
    rendered = helm.render({"sentinel": {"app": {"port": 9999}}}, chart=parent)
    config = yaml.safe_load(rendered.one("ConfigMap", "-envoy")["data"]["envoy.yaml"])

    upstream = config["static_resources"]["clusters"][1]
    assert "9999" in str(upstream["load_assignment"])


def test_what_containers_mount_is_in_the_pod_and_images_can_be_pulled(helm: Helm, parent: Path) -> None:
    """The API refuses a pod whose containers mount a volume that it does not have."""
    roots = [{"name": "roots", "mountPath": "/etc/roots"}]
    given = {
        "extraVolumes": [{"name": "roots", "configMap": {"name": "{{ .Release.Name }}-roots"}}],
        "extraVolumeMounts": roots,
        "envoy": {"extraVolumeMounts": roots},
        "imagePullSecrets": ["mine"],
        "terminationGracePeriodSeconds": 77,
        "podLabels": {"sidecar.istio.io/inject": "false"},
        "podAnnotations": {"a": "b"},
    }
    rendered = helm.render({"sentinel": given}, chart=parent)
    template = rendered.one("Deployment")["spec"]["template"]
    spec, metadata = template["spec"], template["metadata"]

    mounted = {one["name"] for box in spec["initContainers"] for one in box.get("volumeMounts", ())}
    assert "roots" in mounted
    assert sorted(mounted) == sorted(one["name"] for one in spec["volumes"])
    assert {"name": "rel-roots"} in [one.get("configMap") for one in spec["volumes"]]
    assert ([{"name": "mine"}], 77, False) == (
        spec["imagePullSecrets"], spec["terminationGracePeriodSeconds"], spec["enableServiceLinks"]
    )  # fmt: skip
    assert {
        "app": "shop",
        "sentinel-sidecar": "rel-sentinel",
        "sidecar.istio.io/inject": "false",
    } == metadata["labels"]
    assert "b" == metadata["annotations"]["a"]
    assert [] == problems(rendered.one("Deployment"), VERSIONS[0])


def test_its_pods_reach_the_bundled_redis(helm: Helm, parent: Path) -> None:
    """No pod has the chart's own labels there."""
    values = {"redis": {"bundled": {"enabled": True}, "url": ""}, "networkPolicy": {"enabled": True}}
    rendered = helm.render({"sentinel": values}, chart=parent)

    (rule,) = rendered.one("NetworkPolicy")["spec"]["ingress"]
    assert [{"podSelector": {}}] == rule["from"]
    assert "/rel-sentinel-redis" in str(rendered.kinds())


def test_the_docs_show_this_chart() -> None:
    page = (CHART.parents[1] / "docs" / "install" / "helm.md").read_text()

    template = (PARENT / "templates" / "deployment.yaml").read_text()
    assert template in page
