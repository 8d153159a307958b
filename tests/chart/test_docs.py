"""The commands and values that documentation shows are taken."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from support.helm import CHART, ROOT, Helm, containers

from sentinel_ext import __version__
from sentinel_ext.settings import Settings

PAGE = ROOT / "docs" / "install" / "helm.md"
PAGES = [PAGE, CHART / "README.md", ROOT / "README.md"]


def installs() -> list[str]:
    """Every `helm install` of the pages, on one line each."""
    text = "\n".join(page.read_text() for page in PAGES).replace("\\\n", " ")
    return sorted({line.strip() for line in re.findall(r"^helm install .*", text, re.MULTILINE)})


def values_of(command: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in re.findall(r"--set(?:-file)? '?([\w./\\\[\]]+)=([^\s']+)", command):
        *above, last = (key.replace("\\.", ".") for key in re.split(r"(?<!\\)\.", name))
        inner = values
        for key in above:
            listed = key.removesuffix("[0]")
            inner = inner.setdefault(listed, {} if listed == key else [{}])
            inner = inner[0] if isinstance(inner, list) else inner
        inner[last] = (
            "plans: {}\n" if "--set-file" in command and last == "content" else yaml.safe_load(value)
        )
    return values


def test_there_is_an_install_for_each_mode() -> None:
    assert 3 <= len(installs())
    assert {None, "sidecar"} == {values_of(command).get("mode") for command in installs()}


@pytest.mark.parametrize("command", installs())
def test_the_command_installs_pods(helm: Helm, command: str) -> None:
    values, release = values_of(command), command.split()[2]
    rendered = helm.render(values, release=release)

    assert f" -n {release} " in command

    image = containers(rendered.one("Deployment"))["sentinel"]["image"]
    assert f"{values['image']['registry']}/sentinel:{__version__}" == image


def test_the_network_policy_of_the_command_lets_gateways_and_prometheus_in(helm: Helm) -> None:
    (command,) = [one for one in installs() if "networkPolicy.enabled" in one]
    rendered = helm.render(values_of(command))

    gateways, prometheus = rendered.one("NetworkPolicy")["spec"]["ingress"]
    label = "kubernetes.io/metadata.name"
    assert {"namespaceSelector": {"matchLabels": {label: "gateways"}}} in gateways["from"]
    assert [{"namespaceSelector": {"matchLabels": {label: "monitoring"}}}] == prometheus["from"]
    assert "networkPolicy" not in rendered.notes


def test_the_values_of_the_page_are_taken(helm: Helm) -> None:
    blocks = re.findall(r"```yaml\n(mode: sidecar\n.*?)```", PAGE.read_text(), re.DOTALL)

    (values,) = (yaml.safe_load(block) for block in blocks)
    assert "registry.example.com/shop/app:7" in str(helm.render(values).one("Deployment"))


def test_names_of_values_and_variables_exist(helm: Helm) -> None:
    """Of what stands in backquotes with a dot in it, or in capitals."""
    known = {name.upper() for name in Settings.model_fields}
    table = set(re.findall(r"^\| `([\w.]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE))
    parts = {name.rsplit(".", count)[0] for name in table for count in range(4)}
    text = PAGE.read_text()

    dotted = set(re.findall(r"`([a-z]\w*(?:\.\w+)+)(?::[^`]*)?`", text)) - {"sentinel.sidecar"}
    assert 10 < len(dotted)
    assert dotted <= parts
    assert set(re.findall(r"`([A-Z]+_[A-Z_]+)`", text)) <= known


def test_what_the_sidecars_ask_for_is_what_the_page_says(helm: Helm) -> None:
    """In millicores and MiB, of Sentinel and Envoy together."""
    both = containers(helm.render({"mode": "sidecar", "app": {"example": True}}).one("Deployment"))
    asked = [both[name]["resources"]["requests"] for name in ("sentinel", "envoy")]
    cpu, memory = (sum(int(one[kind].strip("mMi")) for one in asked) for kind in ("cpu", "memory"))

    assert f"{cpu}m CPU and {memory} MiB more" in PAGE.read_text()
