"""Helm, and every file of ci/ rendered once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.helm import CHART, Helm, Rendered

if TYPE_CHECKING:
    from collections.abc import Iterator

CI = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}


@pytest.fixture(scope="session")
def helm() -> Iterator[Helm]:
    with Helm() as helm:
        yield helm


@pytest.fixture(scope="session")
def ci_values() -> dict[str, dict[str, Any]]:
    """As Helm reads them: YAML 1.1, in which PyYAML agrees."""
    return {name: yaml.safe_load(path.read_text()) for name, path in CI.items()}


@pytest.fixture(scope="session")
def ci(helm: Helm, ci_values: dict[str, dict[str, Any]]) -> dict[str, Rendered]:
    return {name: helm.render(values) for name, values in ci_values.items()}
