"""What the page's test (e2e/test_debugging_page.py) compares: a change of any column, fact or key is seen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support import cli_page
from support.shapes import shape

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCKS = cli_page.blocks()
each_block = pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.command)


def before(cells: list[str]) -> str:
    return "".join(re.escape(each) + " {2,}" for each in cells)


def mutations(answer: str) -> Iterator[tuple[str, str]]:
    """Give every answer in which one column, fact or key has another name, or none, with its old name."""
    for line in shape(answer):
        kind, _, rest = line.partition(" ")
        if kind in {"json", "keys"}:
            names = re.findall(r"'([^']+)':", rest) if kind == "json" else rest.split()
            places = [(name, rf'()"{re.escape(name)}"()(?=:)') for name in names]
        elif kind == "columns":
            cells = rest.split(" | ")
            places = [
                (cell, rf"^({before(cells[:at])}){re.escape(cell)}( |$)") for at, cell in enumerate(cells)
            ]
        elif kind == "fact":
            places = [(rest, rf"^( *){re.escape(rest)}(  )")]
        else:
            places = []
        for name, place in places:
            pattern = re.compile(place, re.MULTILINE)
            assert pattern.search(answer), place
            quote = '"' if kind in {"json", "keys"} else ""
            for renamed in (f"{quote}new-{name}{quote}", f"{quote}{quote}"):
                yield name, pattern.sub(rf"\g<1>{renamed}\g<2>", answer, count=1)


@each_block
def test_a_name_that_changes_in_the_page_is_seen(block: cli_page.Block) -> None:
    for name, mutated in mutations(block.answer):
        assert shape(block.answer) != shape(mutated), name


@each_block
def test_figures_that_change_are_not(block: cli_page.Block) -> None:
    """Counts, times and bars; not digits within names."""
    other = re.sub(r"(?<=[ (])[0-9]+(?=[ ,.%)\n])", "9", block.answer).replace("\u2588\u2591", "\u2588\u2588")

    assert shape(block.answer) == shape(other)


def test_most_answers_have_a_shape_beyond_a_first_word() -> None:
    assert len([block for block in BLOCKS if any(mutations(block.answer))]) > len(BLOCKS) / 2
    assert all(shape(block.answer) for block in BLOCKS if block.answer.strip())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "stage   mode     from\nwindow  enforce  policy\n",
            "stage   mode     source\nwindow  enforce  policy\n",
        ),
        ("upstream  state   why  ok\na  closed  -  1\n", "upstream  state   ok\na  closed  1\n"),
        ('{"status": "SERVING"}\n', '{"health": "SERVING"}\n'),
        ('{"stages": [{"mode": 1}]}\n', '{"stages": [{"mode": 1, "set": 2}]}\n'),
        ("tenant  acme\nplan    gold\n", "tenant  acme\n"),
        ("sentinel-ext: nothing answers\n", "sentinel-ext: no answer\n"),
    ],
)
def test_examples_of_what_is_seen(before: str, after: str) -> None:
    assert shape(before) != shape(after)
