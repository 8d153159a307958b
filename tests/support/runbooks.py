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
    "SECRET": "sentinel-redis-auth",
}  # fmt: skip
PLACEHOLDER = re.compile(rf"\b(?:{'|'.join(WORDS)})\b")


def filled(text: str) -> str:
    return PLACEHOLDER.sub(lambda found: WORDS[found[0]], text)


def commands() -> Iterator[tuple[str, str]]:
    """Every line of a block, and what stands in backquotes and is a command of ours."""
    for page in PAGES:
        text = page.read_text()
        for block in re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            for line in block.splitlines():
                yield page.stem, line
        for line in re.findall(
            r"`(sentinel-ext [^`]+|kubectl [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        ):
            yield page.stem, line


COMMANDS = sorted(set(commands()))


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


def of(program: str) -> list[tuple[str, str]]:
    return [(page, line) for page, line in COMMANDS if split(line)[0][0] == program]
