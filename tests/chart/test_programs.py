"""The real helm and helm-unittest, which `make tools` builds where Go is at hand."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.helm import CHART, NAMESPACE, RELEASE, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from support.helm import Helm

VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
TEXT = "plans: {gold: {limit: -1}}\n"


def program(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    found = ROOT / ".tools" / "bin" / name
    if not found.exists():
        assert shutil.which("go") is None, f"Go is here, so `make tools` must have built {name}"
        pytest.skip(
            f"NO GO, SO NO {name}: the chart is tried by Helm's code alone; install Go, run `make tools`"
        )
    command = [found, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_it_lints_and_renders_what_helms_code_renders(helm: Helm, values: Path) -> None:
    linted = program("helm", "lint", "--strict", "--values", values, CHART)
    shown = program("helm", "template", RELEASE, CHART, "--namespace", NAMESPACE, "--values", values)
    by_code = helm.render(yaml.safe_load(values.read_text()))

    assert 0 == linted.returncode, linted.stdout + linted.stderr
    assert 0 == shown.returncode, shown.stderr
    found = [each for each in yaml.safe_load_all(shown.stdout) if each]
    assert sorted(by_code.objects, key=name_of) == sorted(found, key=name_of)


def name_of(thing: dict[str, Any]) -> tuple[str, str]:
    return thing["kind"], thing["metadata"]["name"]


@pytest.mark.parametrize("what", ["lint", "template"])
def test_a_policy_from_a_file_that_does_not_load_is_refused_by_name(what: str, tmp_path: Path) -> None:
    """`--set-file`, as the page says."""
    (tmp_path / "policy.yaml").write_text(TEXT)
    given = ("--set", "image.registry=r.example", "--set-file", f"policy.content={tmp_path / 'policy.yaml'}")
    done = program("helm", what, *([RELEASE] if what == "template" else []), CHART, *given)

    assert 1 == done.returncode
    assert "policy.content.plans.gold.limit: must be a whole number" in done.stdout + done.stderr


def test_the_plugin_says_of_its_files_what_helms_code_says() -> None:
    done = program("helm-unittest", "--strict", CHART)

    assert 0 == done.returncode, done.stdout
