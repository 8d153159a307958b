"""docs/debugging.md and docs/cli.md hold: their lines run against a running demo.

Those for grpcurl also with reflection alone.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest
from support import cli_page
from support.debug_page import (
    Demo,
    ReflectionClient,
    answers,
    by_grpcurl,
    commands,
    grpcurl,
    running_demo,
    unknown,
)
from support.shapes import shape

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


def test_what_the_page_says_that_is_answered_has_fields_that_there_are(client: ReflectionClient) -> None:
    """Which are there follows the traffic: grpcurl leaves out what is 0, empty or false."""
    tried = 0
    for line, answer in answers().items():
        if not answer.startswith("{"):
            continue
        message = client.output(line.split()[-1])
        assert [] == unknown(answer, message), line
        # Maps have keys of their own.
        fixed = re.sub(r'"(signals|local_signals|tier_share|headers)": \{[^}]*\}', r'"\1": {}', answer)
        for key in re.finditer(r'^ +"([^"]+)": ', fixed, re.MULTILINE):
            tried += 1
            assert [f"{key[1]}x"] == unknown(f"{fixed[: key.end(1)]}x{fixed[key.end(1) :]}", message), line
    assert tried > 150


def test_the_page_shows_stages_in_the_order_in_which_they_run() -> None:
    shown = [re.findall(r'^ {6}"stage": "(\w+)"', answer, re.MULTILINE) for answer in answers().values()]

    assert {("bucket", "pressure", "breaker", "window"), ()} == {tuple(stages) for stages in shown}


@pytest.fixture(scope="module")
def workplace(module_folder: Path) -> Path:
    folder = module_folder / "cli"
    cli_page.furnish(folder)
    return folder


def test_the_page_of_the_command_line_has_every_command() -> None:
    page = cli_page.PAGE.read_text()

    assert [] == [name for name in cli_page.names() if f"`{name}`" not in page and f"## {name}" not in page]


@pytest.mark.parametrize("block", cli_page.blocks(), ids=lambda block: block.command)
def test_a_line_of_the_command_line_does_what_the_page_says(
    block: cli_page.Block, demo: Demo, workplace: Path
) -> None:
    ran = cli_page.run(block.command, demo, workplace)

    assert (block.code, "") == (ran.code, ran.complaint)
    # Numbers and names follow the traffic; columns, facts and keys do not.
    assert shape(block.answer) == shape(cli_page.shown(ran.answer))
