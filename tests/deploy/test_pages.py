"""The pages of docs/install: their links, their commands, and that no manifest lies beside them untold."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest
import typer
from support.manifests import PROJECTS, RECIPES

from sentinel_ext import __version__
from sentinel_ext.cli.root import app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = sorted(RECIPES.glob("*.md"))
FOLDERS = sorted(path for path in RECIPES.iterdir() if path.is_dir())
# In a block to the end of the line or what the shell does next, in the text to the end of the quotation.
_IN_BLOCK = re.compile(r"\b(sentinel-ext \w[^#|&;>\n]*)")
_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_QUOTED = re.compile(r"`([^`\n]*\bsentinel-ext [^`\n]*)`")


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)#:]+?)(?:#[\w-]+)?\)", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert [] == [link for link in links(page) if not (page.parent / link).exists()]


def page_of(folder: Path) -> Path:
    """Return the page that a folder belongs to; what all recipes share is the index'."""
    own = folder.with_suffix(".md")
    return own if own.exists() else RECIPES / "README.md"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_file_of_a_folder_is_linked_from_its_page(folder: Path) -> None:
    files = {path.relative_to(RECIPES).as_posix() for path in folder.rglob("*") if path.is_file()}

    assert files
    assert set() == files - set(links(page_of(folder)))


def test_the_index_names_every_page():
    assert set() == {page.name for page in PAGES} - {"README.md", *links(RECIPES / "README.md")}


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words behind `sentinel-ext` of every command that a page shows or mentions."""
    text = page.read_text()
    found = [line for block in _BLOCK.findall(text) for line in _IN_BLOCK.findall(block)]
    found += [quoted[quoted.index("sentinel-ext ") :] for quoted in _QUOTED.findall(_BLOCK.sub("", text))]
    for line in found:
        yield shlex.split(line)[1:]


def parse(words: list[str]) -> None:
    """Let the real parser read a command; a name alone is a mention of it."""
    command = typer.main.get_command(app)
    context = command.make_context("sentinel-ext", [*words])
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(context, words)  # type: ignore[attr-defined]
        if not words and not hasattr(command, "commands"):
            return
        context = command.make_context(name, [*words], parent=context)


ALL = [(page.name, words) for page in PAGES for words in commands(page)]


@pytest.mark.parametrize(("page", "words"), ALL, ids=[f"{name} {' '.join(words)}" for name, words in ALL])
def test_a_command_of_a_page_is_one_that_there_is(page: str, words: list[str]) -> None:
    parse(words)


@pytest.mark.parametrize(
    "words", [["explane", "acme"], ["explain", "acme", "--upsteam", "x"], ["pressure", "a", "b"]]
)
def test_a_command_that_there_is_not_is_found(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"[Nn]o such|unexpected"):
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_mention_of_a_command_is_read(page: Path) -> None:
    text = page.read_text()

    assert len(re.findall(r"\bsentinel-ext \w", text)) == len(list(commands(page)))


def test_the_image_is_of_this_version_and_built_as_the_index_says():
    used = {
        name
        for project in PROJECTS
        for path in (RECIPES / project).glob("*.yaml")
        for name in re.findall(r"image: (\S*sentinel:\S+)", path.read_text())
    }
    built = re.findall(r"docker build -t (\S+) \.", (RECIPES / "README.md").read_text())

    assert {f"registry.example.com/sentinel:{__version__}"} == used == set(built)
