"""How messages show what an operator wrote, and what was meant. Pure."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Long enough to recognise a value by, short enough for one line of a terminal.
MAX_SHOWN_CHARACTERS = 60
# Below this ratio a guess is more confusing than none ("windw" against "window" has 0.91).
_CLOSE_ENOUGH = 0.7


def quoted(text: str) -> str:
    """Return `text` in quotes on one line: shortened, control characters escaped."""
    if len(text) > MAX_SHOWN_CHARACTERS:
        text = text[: MAX_SHOWN_CHARACTERS - 1] + "…"
    return json.dumps(text, ensure_ascii=not text.isprintable())


def printable(text: str) -> str:
    """Return `text` on one line; what a terminal would act on or hide is written as Python escapes it."""
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else _escaped(mark) for mark in text)


def _escaped(mark: str) -> str:
    return mark.encode("unicode_escape").decode("ascii")


def shown(value: object) -> str:
    """Return a parsed value as the operator would write it."""
    if isinstance(value, str):
        return quoted(value)
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return quoted(str(value))[1:-1]


def listed(words: Iterable[str], last: str = "or") -> str:
    """Return `a, b or c`."""
    *head, tail = words
    return f"{', '.join(head)} {last} {tail}" if head else tail


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean "gold"?` for the known word closest to `word`, "" if none is close."""
    by_folded = {name.casefold(): name for name in known}
    # The shortened word bounds the work: difflib is quadratic in it.
    folded = word[:MAX_SHOWN_CHARACTERS].casefold()
    close = difflib.get_close_matches(folded, by_folded, n=1, cutoff=_CLOSE_ENOUGH)
    return f"did you mean {quoted(by_folded[close[0]])}?" if close else ""
