"""The files of helm-unittest in helm/sentinel/tests."""

from __future__ import annotations

import pytest
from support.helm import CHART, Helm
from support.helm_unittest import Case, cases, failures

CASES = [case for path in sorted((CHART / "tests").glob("*_test.yaml")) for case in cases(path)]


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
