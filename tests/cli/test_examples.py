"""Every `sentinel-ext ...` of a help text or a page is a command line that the parser takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from sentinel_ext.cli import _names, _options
from sentinel_ext.cli.root import app

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = "sentinel-ext"
_SPAN = re.compile(r"`([^`]*)`")
_FENCED = re.compile(r"```.*?```", re.DOTALL)
_LINE = re.compile(rf"^ *(?:\$ )?((?:[A-Z_]+=\S* )*{PROGRAM} .*)$", re.MULTILINE)


def command_lines(text: str) -> Iterator[list[str]]:
    """Give the words after `sentinel-ext` of every pipe and list in a shell's line."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in {"|", ";", "&&", "||", ">", "&"}:
            while words and re.fullmatch(r"[A-Z_]+=.*|env|\.\.\.", words[0]):
                words.pop(0)
            if words and words[0] == PROGRAM:
                yield words[1:]
            words = []
        else:
            words.append(word)


def parse(command: Any, words: list[str], parent: Any = None) -> None:
    """Read a command line as `sentinel-ext` does, and run nothing.

    Raises:
        click.UsageError: it is wrong.
    """
    with command.make_context(PROGRAM, list(words), parent=parent) as ctx:
        if not hasattr(command, "commands"):
            return
        rest = [*ctx._protected_args, *ctx.args]
        if rest:
            _, below, rest = command.resolve_command(ctx, rest)
            parse(below, rest, ctx)
        else:
            assert command.invoke_without_command, words


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    yield name.strip(), command
    for word, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from commands(below, f"{name} {word}")


ALL = dict(commands(typer.main.get_command(app)))


def examples(help_text: str) -> list[list[str]]:
    spans = (" ".join(span.split()) for span in _SPAN.findall(help_text))
    return [words for span in spans if PROGRAM in span for words in command_lines(span)]


@pytest.mark.parametrize("name", [name for name in ALL if name])
def test_examples_of_a_help_text_are_command_lines_of_that_command(name: str) -> None:
    found = examples(ALL[name].help)

    for words in found:
        parse(ALL[""], words)
    if name:
        assert any(words[: len(name.split())] == name.split() for words in found) or name.endswith("show"), (
            found
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_command_lines_of_a_page_are_taken(page: Path) -> None:
    text = page.read_text()
    spans = (" ".join(span.split()) for span in _SPAN.findall(_FENCED.sub("", text)))
    lines = [*_LINE.findall(text), *(span for span in spans if f"{PROGRAM} " in span)]
    # Where the command is a placeholder; a root option ends the program.
    found = [words for line in lines for words in command_lines(line.partition(" #")[0])]

    for words in found:
        # A name alone is the name of the command.
        if len(words) > 1 and words[0] != "COMMAND":
            parse(ALL[""], [_place(word) for word in words])


def _place(word: str) -> str:
    """Put a value for what a page leaves to its reader."""
    return {"HOST:50051": "host:50051", "STAGE": "window"}.get(word, word)


def test_the_examples_are_found_and_a_wrong_one_would_be_seen() -> None:
    assert [["top", "--json"], ["stages"]] == examples(
        "Example: `A=b sentinel-ext top --json | jq .`, `sentinel-ext stages`"
    )
    for words in (
        ["top", "--jason"],
        ["stages", "set", "window", "on"],
        ["healthcheck", "-t", "x"],
        ["tenant"],
        [],
    ):
        with pytest.raises(typer.TyperException):
            parse(ALL[""], words)


def test_figures_of_the_page_are_those_of_the_code() -> None:
    page = (ROOT / "docs/cli.md").read_text()

    assert f"within {_names.COMPLETE_WITHIN_S:g} s" in page
    assert f"how long to wait ({_options.DEFAULT_TIMEOUT_S:g} s" in page
