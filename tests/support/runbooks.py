"""The commands that docs/runbooks shows, with words put where the pages leave room for them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
WORDS = {
    "TENANT": "acme", "UPSTREAM": "orders", "STAGE": "window", "POD": "sentinel-0",
    "SECRET": "sentinel-redis-auth", "ADDRESS": "10.0.0.7", "NAMESPACE": "shop", "N": "5",
}  # fmt: skip
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PLACEHOLDER = re.compile(rf"\b(?:{'|'.join(WORDS)})\b")


def filled(text: str) -> str:
    return PLACEHOLDER.sub(lambda found: WORDS[found[0]], text)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Every line of the blocks of a language; "" is a shell's."""
    for page in PAGES:
        for name, block in BLOCK.findall(page.read_text()):
            if name == language:
                yield from ((page.stem, line) for line in block.splitlines())


def commands() -> Iterator[tuple[str, str]]:
    """Every line of a shell's block, and what stands in backquotes and is a command of ours."""
    yield from blocks("")
    for page in PAGES:
        text = BLOCK.sub("", page.read_text()).replace("\n", " ")
        yield from ((page.stem, line) for line in re.findall(r"`((?:sentinel-ext|kubectl) [^`]+)`", text))


COMMANDS = sorted(set(commands()))
PROMQL = sorted(set(blocks("promql")))


def split(line: str) -> list[list[str]]:
    """Return the programs of a pipe with their arguments; of `export NAME="$(...)"` those within."""
    inner = re.fullmatch(r'export REDISCLI_AUTH="\$\((.*)\)"', line)
    lexed = shlex.shlex(filled(inner[1] if inner else line), posix=True, punctuation_chars="|")
    lexed.whitespace_split = True
    piped: list[list[str]] = [[]]
    for word in lexed:
        if word == "|":
            piped.append([])
        else:
            piped[-1].append(word)
    return piped


def of(wanted: str) -> list[tuple[str, str]]:
    """Lines that run a program, also under `timeout`."""
    return [(page, line) for page, line in COMMANDS if program(split(line)[0]) == wanted]


def program(arguments: list[str]) -> str:
    """Return the program that a command runs."""
    return arguments[2] if arguments[0] == "timeout" else arguments[0]
