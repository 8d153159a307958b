"""Secrets inside of a text: a small scanner, since a value ends where its quotes and brackets do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HIDDEN: Final = "***"

# Without one of these nothing stands between a name or a scheme and its value.
_SUSPICIOUS = re.compile(r"[:=,>\s+%\"'\\]").search
# A problem of ours, `FILE:LINE:COLUMN: path: message`: what the path names is no secret's name.
_PROBLEM = re.compile(r"[^:=\"'\r\n]{1,512}:\d{1,9}:\d{1,9}: [^\r\n]*\Z").match
# The line before one of source in a traceback, which names variables, and shows no value but in quotes.
_FRAME = re.compile(r"[\s|+]{0,64}File \"[^\"\n]{1,512}\", line \d").match
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,30}://")
# From behind `://` on; a quote ends it unless it is inside of a word.
_URL_REST = re.compile(r"(?:[^\s\"'<>]{1,512}+|[\"'](?=\w)){0,4}+")
_AUTHORITY = re.compile(r"[^/?#]*")
_BETWEEN: Final = r"(?:[\s:+]|%20|\\+[tnr]|\\*[\"'])+(?:b(?=\\*[\"']))?\\*[\"']?"
_CREDENTIALS: Final = r"[A-Za-z0-9._~+/=-]{4,}"
# Words that follow "basic" have no digit and no capital letter inside.
_BASE64: Final = (
    r"(?=[A-Za-z0-9+/_=-]{8})(?=\d|.[a-z+/_-]*+(?:[A-Z0-9]|={1,2}(?![\w=])))"
    r"[A-Za-z0-9+/_-]{6,}+={0,2}+(?![\w=])"
)


def _scheme(names: str) -> str:
    """Match what stands before credentials, as a group: `Name `, or `('Name', '`."""
    pair = rf"[\[(]\s*[bBuU]?\\*[\"'](?i:{names})\\*[\"']\s*,\s*[bBuU]?\\*[\"']"
    return rf"(\b(?i:{names}){_BETWEEN}|{pair})"


_SCHEMES = re.compile(
    rf"{_scheme('Bearer')}(?:\w+=[^\r\n]*|{_CREDENTIALS})"
    rf"|{_scheme('Basic|Negotiate')}{_BASE64}"
    rf"|{_scheme('Digest')}\w+=[^\r\n]*"
)
_SCHEME_NAMES: Final = ("bearer", "basic", "digest", "negotiate")
# A JSON Web Token, without anything around it.
_JWT = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,}+\.[A-Za-z0-9_-]++\.[A-Za-z0-9_-]*+")
# A name and what stands before its value: `name=`, `"name": `, `('name', 'value')`, `key: "name" value: `,
# `--name value`; quotes may be escaped. A pair has a bracket before it, or is an option.
_NAME = re.compile(
    r"(?<![A-Za-z0-9_.-])(?P<option>--(?=[A-Za-z]))?(?P<name>[A-Za-z0-9_.-]++)(?:"
    r"(?P<colon>\\*[\"']?\]?\s*:\s*)(?!//)"
    r"|\\*[\"']?\]?\s*(?::=|=>|->|==?)\s*"
    r"|(?<=-)>\s*"
    r"|\\*[\"']?(?:[\s,]|\\+[tnr])+\\*[\"']?(?:raw_)?value\\*[\"']?\s*[:=]\s*"
    r"|(?P<comma>\\*[\"']\s*,\s*)(?=[bBuU]?\\*[\"'\[({])"
    r"|(?(option)(?:\s|\\+[tnr])+(?=\S)|(?!))"
    r")"
)
_OPENS_PAIR = re.compile(r"(?:\(|[\[,(]\s*\[)\s*[bBuU]?\\*[\"']\Z").search
_LINES: Final = frozenset({"cookie", "set-cookie", "authorization", "proxy-authorization"})
_OPENED = re.compile(r"[bBuUrRfF]{0,2}(\\*)([\"'])")
_LINE = re.compile(r"[^\r\n]*")
_BRACKETS: Final = {"(": ")", "[": "]", "{": "}"}
_TOKEN = re.compile(r"[\"'()\[\]{}]")
# A value without quotes, until something that is not part of a word; behind a colon it may be several words.
_WORD = re.compile(r"(?:[^\s,;&()\[\]{}\"']|[\"'](?=\w))+")
_PHRASE = re.compile(r"(?:[^\r\n,;()\[\]{}\"']|[\"'](?=\w))+")


class TextRedactor:
    """Hides the values of names that `is_hidden`, credentials that need no name, and `words`."""

    def __init__(self, is_hidden: Callable[[str], bool], words: Iterable[str] = ()) -> None:
        """`words` are hidden wherever they stand alone."""
        self._is_hidden = is_hidden
        either = "|".join(map(re.escape, words))
        self._words = re.compile(rf"(?<![A-Za-z0-9_-])(?:{either})(?![A-Za-z0-9_-])") if either else None

    def text(self, text: str) -> str:
        """Return a text without secrets and hidden words."""
        if self._words is None and text.isalnum():  # most of what there is
            return text
        if _SUSPICIOUS(text):
            if "@" in text:
                text = _without_users(text)
            if _PROBLEM(text) is None:
                text = self._without_values(text)
            lower = text.lower()
            if any(name in lower for name in _SCHEME_NAMES):
                text = _SCHEMES.sub(_without_credentials, text)
        if "eyJ" in text:
            text = _JWT.sub(HIDDEN, text)
        return text if self._words is None else self._words.sub(HIDDEN, text)

    def _without_values(self, text: str) -> str:
        kept: list[str] = []
        at = copied = 0
        while (found := _NAME.search(text, at)) is not None:
            name, start = found["name"], found.end()
            if not self._is_hidden(name) or not _has_value(text, found):
                # The next name may begin at once: `a: password=x`; of a pair the value may be one.
                at = found.end("name")
                continue
            at = start
            end = _end_of_value(text, start, _last(name), is_phrase=found["colon"] is not None)
            if end > start:
                kept += (text[copied:start], HIDDEN)
                at = copied = end
        return text if not copied else "".join((*kept, text[copied:]))


def _without_credentials(found: re.Match[str]) -> str:
    return f"{found[found.lastindex or 0]}{HIDDEN}"


def _has_value(text: str, found: re.Match[str]) -> bool:
    """Say whether what follows a name is its value."""
    if found["comma"] is not None and found["option"] is None:
        at = found.start("name")
        return _OPENS_PAIR(text, max(0, at - 16), at) is not None
    line = text.rfind("\n", 0, found.start())
    if line > 0 and _FRAME(text, text.rfind("\n", 0, line) + 1, line) is not None:
        source = _match(_LINE, text, found.end())
        return '"' in source or "'" in source
    return True


def _last(name: str) -> str:
    return name.rstrip("-.").rpartition(".")[2].lower()


def _without_users(text: str) -> str:
    """`redis://user:password@host`, also where the password has an @ or a / in it."""
    kept: list[str] = []
    at = 0
    while (found := _URL.search(text, at)) is not None:
        start = found.end()
        kept.append(text[at:start])
        at = start
        rest = _match(_URL_REST, text, start)
        authority = _match(_AUTHORITY, rest, 0)
        users = authority.rpartition("@")[0] if "@" in authority else ""
        if not users and ":" in authority:
            users = rest.rpartition("@")[0]
        if users or authority.startswith("@"):
            kept.append(HIDDEN)
            at = start + len(users)
    return "".join((*kept, text[at:]))


def _match(pattern: re.Pattern[str], text: str, start: int) -> str:
    found = pattern.match(text, start)
    return "" if found is None else found[0]


def _end_of_value(text: str, start: int, name: str, *, is_phrase: bool) -> int:
    is_line = name in _LINES
    opened = _OPENED.match(text, start)
    if opened is not None:
        end = _end_of_quoted(text, opened)
        if not is_line or text[end : end + 1] in ("", ",", "}", "]", ")", "\r", "\n"):
            return _end_of_bare(text, end, _WORD) if text[end : end + 1].isalnum() else end
        return end + len(_match(_LINE, text, end))
    if text[start : start + 1] in _BRACKETS:
        return _end_of_brackets(text, start)
    if is_line:
        return start + len(_match(_LINE, text, start))
    return _end_of_bare(text, start, _PHRASE if is_phrase else _WORD)


def _end_of_bare(text: str, start: int, pattern: re.Pattern[str]) -> int:
    end = start
    while (found := pattern.match(text, end)) is not None:
        end = found.end()
        if text[end : end + 1] not in _BRACKETS:
            break
        end = _end_of_brackets(text, end)  # Secret('x')
    return end


def _end_of_quoted(text: str, opened: re.Match[str]) -> int:
    """Return where a quoted value ends; the text's end where it does not. Quotes in it are escaped deeper."""
    depth, quote, at = len(opened[1]), opened[2], opened.end()
    while (at := text.find(quote, at)) >= 0:
        before = at
        while before > opened.end() and text[before - 1] == "\\":
            before -= 1
        slashes = at - before
        at += 1
        if slashes <= depth or (not depth and slashes % 2 == 0):
            return at
    return len(text)


def _end_of_brackets(text: str, start: int) -> int:
    """Return where a bracket closes; the text's end where it does not."""
    open_ones, at = [_BRACKETS[text[start]]], start + 1
    while open_ones:
        found = _TOKEN.search(text, at)
        if found is None:
            return len(text)
        at = found.end()
        mark = found[0]
        if mark in _BRACKETS:
            open_ones.append(_BRACKETS[mark])
        elif mark == open_ones[-1]:
            open_ones.pop()
        elif mark in "\"'":
            quoted = _OPENED.match(text, _before_slashes(text, found.start(), start))
            at = len(text) if quoted is None else _end_of_quoted(text, quoted)
    return at


def _before_slashes(text: str, at: int, least: int) -> int:
    while at - 1 > least and text[at - 1] == "\\":
        at -= 1
    return at
