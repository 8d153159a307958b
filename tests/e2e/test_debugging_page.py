"""docs/debugging.md holds: its lines run against a running demo, with grpcurl and with reflection alone."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from support.debug_page import Demo, ReflectionClient, by_grpcurl, commands, grpcurl, running_demo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def demo(module_folder: Path) -> Iterator[Demo]:
    with running_demo(module_folder) as demo:
        yield demo


@pytest.fixture(scope="module")
def client(demo: Demo) -> Iterator[ReflectionClient]:
    client = ReflectionClient(demo.debug)
    yield client
    client.close()


def test_the_page_has_every_method() -> None:
    page = " ".join(commands())

    for method in (
        "Explain", "GetTenant", "ListTenants", "GetPressure", "ListBreakers", "WatchDecisions", "ResetTenant",
        "SetBreaker", "SetStageMode",
    ):  # fmt: skip
        assert f"DecisionService/{method}" in page


@pytest.mark.parametrize("command", commands())
def test_a_line_runs_by_reflection(command: str, client: ReflectionClient) -> None:
    (first, *_) = client.run(command)

    assert first


@pytest.mark.parametrize("command", commands())
def test_a_line_runs_by_grpcurl(command: str, demo: Demo) -> None:
    """The real grpcurl where it was installed (`make tools`)."""
    if grpcurl() is None:
        assert shutil.which("go") is None, "Go is here, so `make tools` must have installed grpcurl"
        return
    assert by_grpcurl(command, demo).strip()
