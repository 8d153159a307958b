"""What is written from values.yaml is current, copies are copies, versions agree."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import yaml
from support.helm import CHART, ROOT
from support.manifests import RECIPES, documents

import sentinel_ext

if TYPE_CHECKING:
    from support.helm import Helm

COPIES = {"deploy/prometheus/alerts.yaml": "alerts.yaml", "deploy/grafana/sentinel.json": "dashboard.json"}


def test_schema_table_and_copies_are_what_make_chart_writes() -> None:
    """The script itself decides: it says what it would have to write."""
    done = subprocess.run(
        [sys.executable, ROOT / "helm" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stdout + done.stderr), "run `make chart`"


def test_the_table_of_the_readme_has_every_value() -> None:
    readme = (CHART / "README.md").read_text().partition("<!-- values: begin -->")[2]
    told = set(re.findall(r"^\| `([\w.]+)` \|", readme, re.MULTILINE))
    schema = json.loads((CHART / "values.schema.json").read_text())

    def leaves(prefix: str, node: dict[str, object]) -> set[str]:
        inner = node.get("properties")
        if not isinstance(inner, dict):
            return {prefix}
        return {one for key, value in inner.items() for one in leaves(f"{prefix}.{key}".lstrip("."), value)}

    assert told == leaves("", schema)
    assert 150 < len(told)
    assert all(
        row.count(" | ") >= 2 and not row.endswith("|  |") for row in readme.splitlines() if "| `" in row
    )


def test_every_mapping_of_ours_refuses_unknown_keys() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    open_on_purpose = {"global"}

    def walk(name: str, node: dict[str, object]) -> None:
        inner = node.get("properties")
        if isinstance(inner, dict):
            assert (node.get("additionalProperties") is False) != (name in open_on_purpose), name
            for key, value in inner.items():
                walk(key, value)

    walk("", schema)


def test_versions_are_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert sentinel_ext.__version__ == chart["appVersion"] == chart["version"]


def test_files_are_copies_of_deploys() -> None:
    for source, copy in COPIES.items():
        assert (ROOT / source).read_text() == (CHART / "files" / copy).read_text(), "run `make chart`"
    assert yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    assert json.loads((CHART / "files" / "dashboard.json").read_text())["panels"]


def test_what_the_chart_ignores_is_what_nobody_installs() -> None:
    ignored = (CHART / ".helmignore").read_text().split()

    assert {"/ci/", "/tests/"} <= set(ignored)
    assert "tests/" not in ignored, "it would leave out templates/tests"


def test_policies_of_the_recipes_let_the_test_of_the_chart_in(helm: Helm) -> None:
    """Whichever of them stands before the chart's release "sentinel" in the namespace that they are for."""
    test = helm.render(release="sentinel").one("Pod")
    labels = test["metadata"]["labels"].items()

    def admits(selectors: list[dict[str, dict[str, str]]]) -> bool:
        wanted = (one.get("podSelector", one).get("matchLabels") for one in selectors)
        return any(one and one.items() <= labels for one in wanted)

    (plain,) = documents(RECIPES / "sentinel" / "network-policy.yaml")
    (cilium,) = documents(RECIPES / "cilium" / "network-policy.yaml")
    (istio,) = (
        one for one in documents(RECIPES / "istio" / "sentinel.yaml") if one["kind"] == "AuthorizationPolicy"
    )
    assert [50051] == [
        port["port"] for rule in plain["spec"]["ingress"] if admits(rule["from"]) for port in rule["ports"]
    ]
    assert [[{"port": "50051", "protocol": "TCP"}]] == [
        to["ports"]
        for rule in cilium["spec"]["ingress"]
        if admits(rule.get("fromEndpoints", []))
        for to in rule["toPorts"]
    ]
    assert [["50051"]] == [
        to["operation"]["ports"]
        for rule in istio["spec"]["rules"]
        if istio["metadata"]["namespace"] in rule["from"][0]["source"]["namespaces"]
        for to in rule["to"]
    ]
