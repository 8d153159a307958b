"""The files of helm-unittest in helm/sentinel/tests."""

from __future__ import annotations

import subprocess

import pytest
from support.helm import CHART, ROOT, Helm
from support.helm_unittest import Case, cases, failures

CASES = [case for path in sorted((CHART / "tests").glob("*_test.yaml")) for case in cases(path)]
PLUGIN = ROOT / ".tools" / "bin" / "helm-unittest"


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_holds(helm: Helm, case: Case) -> None:
    assert [] == failures(case, helm)


@pytest.mark.parametrize(
    "assertion",
    [
        {"equal": {"path": "spec.replicas", "value": 3}},
        {"notExists": {"path": "spec.replicas"}},
        {"contains": {"path": "spec.template.spec.containers[0].env", "content": {"name": "X"}}},
        {"contains": {"path": "spec.template.spec.containers[7].env", "content": {"name": "X"}}},
        {"matchRegex": {"path": "metadata.name", "pattern": "^x$"}},
        {"isKind": {"of": "Pod"}},
        {"hasDocuments": {"count": 2}},
        {"failedTemplate": {}},
    ],
    ids=str,
)
def test_each_assertion_can_fail(helm: Helm, assertion: dict[str, object]) -> None:
    case = Case("x", "rel", "workload.yaml", {}, [assertion])

    assert 1 == len(failures(case, helm))


def test_the_plugin_says_the_same() -> None:
    """Beside the cases above, which hold by Helm's own code whether or not the plugin was built."""
    if not PLUGIN.exists():
        pytest.skip(
            f"helm-unittest was not built (`make chart-tools`); its {len(CASES)} cases ran without it"
        )
    done = subprocess.run(
        [PLUGIN, "--strict", CHART], capture_output=True, text=True, timeout=60, check=False
    )

    assert 0 == done.returncode, done.stdout
    assert f"Tests:       {len(CASES)} passed" in done.stdout
