"""Pieces of recipes are put into a configuration as meshes do it, and what misses its aim is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.envoy import validate
from support.json_patch import apply_patch, selected
from support.manifests import RECIPES
from support.mesh import apply_envoy_filter, istio_gateway, localised, merged

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENT = {"logs": [{"name": "a", "config": {"size": 1}}, {"name": "b", "config": {}}], "deep": {"logs": []}}


def test_a_merge_is_that_of_protobuf() -> None:
    base = {"a": {"x": 1, "y": 2}, "list": [1], "kept": True}

    assert {"a": {"x": 3, "y": 2}, "list": [1, 2], "kept": True, "new": 4} == merged(
        base, {"a": {"x": 3}, "list": [2], "new": 4}
    )
    assert {"a": {"x": 1, "y": 2}, "list": [1], "kept": True} == base


def test_a_path_selects_at_any_depth_and_by_name() -> None:
    assert [{}] == selected(DOCUMENT, '..logs[?(@.name=="b")].config')
    assert [{"size": 1}, {}] == selected(DOCUMENT, ".logs[*].config")
    assert [DOCUMENT["logs"], []] == selected(DOCUMENT, "..logs")


@pytest.mark.parametrize("path", ["$.logs", "..logs[0]", ".logs[?(@.size>1)]"])
def test_a_path_that_is_not_understood_is_refused(path: str) -> None:
    with pytest.raises(AssertionError, match="not understood"):
        selected(DOCUMENT, path)


def test_a_patch_that_finds_nothing_is_refused() -> None:
    operation = {"op": "add", "jsonPath": '..logs[?(@.name=="c")]', "path": "/x", "value": 1}
    with pytest.raises(AssertionError, match="finds nothing"):
        apply_patch(DOCUMENT, operation)

    found = apply_patch(DOCUMENT, {**operation, "jsonPath": '..logs[?(@.name=="b")]'})
    assert {"name": "b", "config": {}, "x": 1} == found["logs"][1]
    assert "x" not in DOCUMENT["logs"][1]


def aimed(apply_to: str, operation: str, match: dict[str, Any]) -> dict[str, Any]:
    return {
        "applyTo": apply_to,
        "match": match,
        "patch": {"operation": operation, "value": {"timeout": "1s"}},
    }


MANAGER = {"name": "envoy.filters.network.http_connection_manager"}
MISSES = [
    aimed("HTTP_ROUTE", "MERGE", {"routeConfiguration": {"vhost": {"route": {"name": "other"}}}}),
    aimed("HTTP_FILTER", "INSERT_BEFORE", {"listener": {"filterChain": {"filter": {"name": "other"}}}}),
    aimed(
        "HTTP_FILTER",
        "INSERT_BEFORE",
        {"listener": {"filterChain": {"filter": {**MANAGER, "subFilter": {"name": "other"}}}}},
    ),
    aimed("CLUSTER", "ADD", {}),
]


@pytest.mark.parametrize("patch", MISSES, ids=lambda patch: patch["applyTo"])
def test_a_patch_of_an_envoyfilter_that_misses_its_aim_is_refused(patch: dict[str, Any]) -> None:
    with pytest.raises((AssertionError, ValueError)):
        apply_envoy_filter(istio_gateway(), patch)


@pytest.mark.parametrize("word", ["buffer_flush_interval", "failure_mode_deny", "context_extensions"])
def test_envoy_finds_a_misspelt_field_of_a_patch(word: str, tmp_path: Path) -> None:
    config = localised(istio_gateway(), port=0, admin_port=0, sentinel_port=1, upstream_port=1)
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(config).replace(f'"{word}"', f'"{word}x"'))
    done = validate(path)

    assert 0 != done.returncode
    assert f"{word}x" in done.stderr


def test_these_files_hold_envoys_configuration() -> None:
    """A new file of this kind has to be given to Envoy: in support/mesh.py, or as in test_mtls_recipe.py."""
    holds = {
        path.relative_to(RECIPES).as_posix()
        for path in RECIPES.glob("*/*.yaml")
        if "type.googleapis.com/envoy.extensions" in path.read_text()
    }

    assert {
        "cilium/envoy-config.yaml",
        "envoy-gateway/patch.yaml",
        "envoy/envoy.yaml",
        "istio/access-log.yaml",
        "istio/rate-limit.yaml",
        "istio/sidecar.yaml",
        "istio/upstream.yaml",
        "mtls/client-cluster.yaml",
        "mtls/front.yaml",
    } == holds
