"""The version stands in pyproject.toml; what else names it is the same, and `make release` changes all."""

from __future__ import annotations

import tomllib
from datetime import date
from importlib.metadata import version

import pytest
from support import scripts
from support.documents import ROOT

import sentinel_ext
from sentinel_ext.telemetry.redaction import Redactor
from sentinel_ext.telemetry.tracing.exporter import make_resource

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
release = scripts.load("deploy/release")
chart = scripts.load("helm/generate")
# Not the real one: nothing stands there as unreleased when a release is tested.
CHANGES = "# Changelog\n\n## [Unreleased]\n\n### Fixed\n- one\n"


def test_the_package_and_its_traces_say_the_projects_version() -> None:
    assert VERSION == version("sentinel-ext") == sentinel_ext.__version__, "install anew: `make lint` does"
    assert VERSION == make_resource(0, 1, Redactor()).attributes["service.version"]


def test_manifests_name_the_image_of_this_version() -> None:
    named = {path.name: set(release.IMAGE.findall(path.read_text())) for path in release.manifests()}

    assert {"sentinel.yaml", "sidecar.yaml", "Dockerfile", "docker-compose.yml"} <= set(named)
    assert {VERSION} == set.union(*named.values())


def test_no_other_file_names_it() -> None:
    """Tests and pages of versions may name others."""
    kinds = {".md", ".yaml", ".yml", ".txt", ".tpl", ".json", ".toml", ".sh", ""}
    found = {
        path
        for path in (ROOT, *(ROOT / name for name in ("deploy", "docs", "envoy", "helm", "sentinel_ext")))
        for path in (path.glob("*") if path == ROOT else path.rglob("*"))
        if path.is_file() and path.suffix in kinds and release.IMAGE.search(path.read_text())
    }

    assert set(release.manifests()) == found


def test_a_release_changes_every_place() -> None:
    made = release.made("99.0.0", date(2199, 1, 1), CHANGES)

    assert {ROOT / "pyproject.toml", ROOT / "CHANGELOG.md", *release.manifests()} == set(made)
    assert "99.0.0" == tomllib.loads(made[ROOT / "pyproject.toml"])["project"]["version"]
    assert all({"99.0.0"} == set(release.IMAGE.findall(made[path])) for path in release.manifests())


def test_the_charts_versions_are_written_from_the_projects() -> None:
    text = (ROOT / "helm/sentinel/Chart.yaml").read_text()

    assert text == chart.versioned(text.replace(VERSION, "0.0.0"))


@pytest.mark.parametrize("wrong", ["", "1", "1.0", "v99.0.0", "99.0.0rc1", "01.0.0", "0.0.0"])
def test_what_is_no_later_version_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"allowed|later"):
        release.made(wrong, date(2199, 1, 1), CHANGES)
