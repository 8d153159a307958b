"""A policy that would not load is refused, a mapping or a text block; the names of values say where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.helm import containers

from sentinel_ext.policy.schema import PolicyFile

if TYPE_CHECKING:
    from support.helm import Helm

LIMITS = {"domain": "shop"}


def both(content: dict[str, Any]) -> list[Any]:
    return [content, yaml.safe_dump(content)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"default_plan": "gold"}, 'policy.content.default_plan: no plan is called "gold"'),
        ({"plans": {"a": {}}, "tenants": {"x": "b"}}, 'policy.content.tenants.x: no plan is called "b"'),
        ({"tenants": {"x": {"plan": "b", "limit": 1}}}, 'policy.content.tenants.x: no plan is called "b"'),
        ({"ratelimit": LIMITS}, "policy.content.ratelimit: rateLimit has files, too"),
    ],
)
def test_what_one_part_says_of_another(helm: Helm, content: dict[str, Any], told: str) -> None:
    for given in both(content):
        assert told in helm.refusal(
            {"policy": {"content": given}, "rateLimit": {"files": {"a.yaml": LIMITS}}}
        )


def test_a_text_block_has_no_unknown_key(helm: Helm) -> None:
    message = helm.refusal({"policy": {"content": "plan: {}\nplans: {}\n"}})

    known = ", ".join(sorted(PolicyFile.model_fields))
    assert f"policy.content.plan: there is no such key here; allowed: {known}\n" in f"{message}\n"
    assert "policy.content.plans" not in message


@pytest.mark.parametrize(
    "content",
    [
        {
            "plans": {"gold": None},
            "default_plan": "gold",
            "tenants": {"a*": "gold", "b": {"limit": 1}, "c": "default"},
        },
        {"default_plan": "default"},
        {"plans": None, "tenants": None},
    ],
)
def test_what_loads_is_taken(helm: Helm, content: dict[str, Any]) -> None:
    for given in both(content):
        assert (
            "policy.yaml" in helm.render({"policy": {"content": given}}).one("ConfigMap", "-policy")["data"]
        )


def test_two_files_share_a_domain_only_where_it_is_said(helm: Helm) -> None:
    files = {"files": {"a.yaml": LIMITS, "b.yaml": "domain: shop\n"}}

    assert 'rateLimit.files.b.yaml: a.yaml has the domain "shop", too' in helm.refusal({"rateLimit": files})
    helm.render({"rateLimit": {**files, "mergeDomains": True}})


@pytest.mark.parametrize("mode", ["service", "sidecar"])
def test_all_probes_can_be_our_own_command(helm: Helm, mode: str) -> None:
    rendered = helm.render(
        {"mode": mode, "app": {"example": mode == "sidecar"}, "probes": {"handler": "exec"}}
    )
    sentinel = containers(rendered.one("Deployment"))["sentinel"]
    address = "0.0.0.0:50051" if mode == "service" else "unix:///run/sentinel/sentinel.sock"
    asked = ["sentinel-ext", "healthcheck", "--address", address]

    assert asked == sentinel["readinessProbe"]["exec"]["command"]
    for kind in ("startupProbe", "livenessProbe"):
        assert [*asked, "--service", "liveness"] == sentinel[kind]["exec"]["command"]


def test_the_check_runs_where_sentinel_may(helm: Helm) -> None:
    where = {"nodeSelector": {"pool": "a"}, "tolerations": [{"key": "pool", "operator": "Exists"}]}
    files = {"policy": {"content": "plans:\n"}, "checkConfig": {"enabled": True}}
    rendered = helm.render({**where, **files})
    spec = rendered.one("Job")["spec"]["template"]["spec"]

    assert where == {key: spec[key] for key in where}
