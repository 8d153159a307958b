"""What never shows in logs and spans: secrets always, and what LOG_REDACT names.

Whatever leaves goes through here: lines in telemetry/logging.py, spans in telemetry/tracing/redacted.py.
Runs in the threads that write logs and export spans, not on the request path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sentinel_ext.telemetry.redaction_text import HIDDEN, TextRedactor

if TYPE_CHECKING:
    from collections.abc import Iterable

# Shorter values are too common to be looked for in the other texts of a line; numbers even more so.
MIN_VALUE: Final = 3
MIN_DIGITS: Final = 4
# What lies deeper is judged by its text.
MAX_DEPTH: Final = 8
# Names that were judged; most lines have the same dozen.
_MAX_JUDGED: Final = 1024
_MAX_KEY: Final = 128
# What is done with the value of a name: it is ours, shown, hidden as LOG_REDACT says, hidden always.
_KEPT, _SHOWN, _NAMED_ONE, _SECRET = -1, 0, 1, 2
_PLAIN: Final = (int, float, type(None))
_BYTES: Final = (bytes, bytearray, memoryview)
_SEVERAL: Final = (list, tuple, set, frozenset)
_SEQUENCES: Final = (list, tuple)
# Written by us, and needed to read a line at all.
_KEPT_KEYS: Final = frozenset({"time", "level", "logger", "worker"})
# Sentinel's words and ids: no value that a client chose takes anything out of them.
_OWN_WORDS: Final = _KEPT_KEYS | {
    "trace_id", "span_id", "decision_id", "reason", "stage", "tier", "verdict", "shadow", "fallback",
    "before", "forced", "mode",
}  # fmt: skip
# Where a list of two is a name and its value; so it is within another list.
_HOLDS_PAIRS = re.compile(
    r"(?:^|_)(?:headers?|metadata|trailers|cookies|pairs?|params|query|environ|env)$"
).search
_WITHIN: Final = "pairs"
_NAME = re.compile(r"[A-Za-z0-9_.-]+").fullmatch
# A header as an object of its own: {"key": "cookie", "value": ...}.
_NAMING: Final = frozenset({"key", "name", "header"})
_NAMED: Final = frozenset({"value", "raw_value"})

_WORDS: Final = r"passwords?|passwd|passphrase|secrets?|token(?!_bucket)|authorization|cookie|credentials?"
_SECRET_KEY = re.compile(
    rf"(?:^|_)(?:{_WORDS}|api_?key|private_key|access_key)(?:_|\d|$)"
    r"|(?:password|passwd|secret|token|api_?key)$"
).search
# Where a secret lies is none.
_PLACE = re.compile(r"_(?:file|path|dir)$").search
# A type's name is dotted, too: envoy.service.auth.v3.Authorization.
_TYPE = re.compile(r"\.v\d\w*\.[A-Z]\w*$").search
# Parts of a dotted name that say nothing: `passwords.0`.
_EMPTY_PARTS = re.compile(r"(?:\.(?:\d+|value)|[.-])+$")
# Attributes of spans that log lines have under another key, which is what LOG_REDACT names.
_AS_LOGGED: Final = {"limit.name": "limits"}
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Redactor:
    """Hides secrets, and the values of `names`.

    A name is a key of log lines, a header or a query parameter; `name=value` hides only that value of it, and
    that word in all texts.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Hide the values of `names`, any case; - and _ are the same in keys."""
        pairs = [name.partition("=") for name in names if "=" in name]
        self._keys = frozenset(_key(name) for name in names if "=" not in name)
        self._judged: dict[str, tuple[int, str]] = {}
        self.text = TextRedactor(self._is_hidden_in_text, [value for _, _, value in pairs]).text

    def line(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """Return a log line as it may be shown."""
        hidden: dict[str, int] = {}
        found: dict[str, Any] = {}
        for key, value in line.items():
            kind = _KEPT if key in _KEPT_KEYS else self._look(key)[0]
            found[key] = value if kind == _KEPT else self._shown(value, hidden, 0, kind, key)
        if hidden:  # the same value may stand in a message
            is_ours = str(line.get("logger", "")).partition(".")[0] == "sentinel"
            for word, kind in _longest_first(hidden):
                message = found.get("message")
                _without(word, found)
                if kind == _NAMED_ONE and is_ours:  # constant words, which are not the client's
                    found["message"] = message
        return found

    def parts(self, *parts: Any, names: Iterable[str] = ()) -> list[Any]:  # noqa: ANN401  texts, and mappings of whatever
        """Return things that belong together: what is hidden in one is hidden in all.

        Args:
            names: constant texts, which come last: LOG_REDACT takes no values of others out of them.
        """
        hidden: dict[str, int] = {}
        found = [self._shown(part, hidden, 0) for part in parts]
        last = [self.text(name) for name in names]
        for word, kind in _longest_first(hidden):
            found = [_without(word, part) for part in found]
            if kind == _SECRET:
                last = [_without(word, name) for name in last]
        return found + last

    def is_hidden(self, name: str) -> bool:
        """Say whether the value of `name` must not show; of dotted names the last parts count, too."""
        return self._look(name)[0] > _SHOWN

    def _is_hidden_in_text(self, name: str) -> bool:
        """Like is_hidden, but a text's dotted names are paths: the last part says whose value follows."""
        name = _EMPTY_PARTS.sub("", name) if name[-1:] in ".-" or "." in name else name
        if "." not in name:
            return self.is_hidden(name)
        return self._is_named(name) or (_TYPE(name) is None and self.is_hidden(name.rpartition(".")[2]))

    def _look(self, name: str) -> tuple[int, str]:
        """Say whether the value of `name` is hidden and why, and how the name itself may be shown."""
        found = self._judged.get(name)
        if found is None:
            kind = self._judge(name)
            if len(name) > _MAX_KEY:
                return kind, self.text(name)
            if len(self._judged) >= _MAX_JUDGED:
                self._judged.clear()
            # Before the text, which asks for names, too.
            self._judged[name] = (kind, name)
            found = self._judged[name] = (kind, self.text(name))
        return found

    def _judge(self, name: str) -> int:
        key = _key(_CAMEL.sub("_", name))
        if _SECRET_KEY(key) is not None and _PLACE(key) is None and _TYPE(name) is None:
            return _SECRET
        return _NAMED_ONE if self._is_named(name) else _SHOWN

    def _is_named(self, name: str) -> bool:
        rest = name
        while rest:
            if _key(rest) in self._keys or _AS_LOGGED.get(rest) in self._keys:
                return True
            rest = rest.partition(".")[2]
        return False

    def _shown(  # noqa: PLR0911
        self,
        value: Any,  # noqa: ANN401
        hidden: dict[str, int],
        depth: int,
        kind: int = 0,
        below: str = "",
    ) -> Any:  # noqa: ANN401
        """Return what stands below a key whose value is hidden if `kind` says so."""
        if kind > _SHOWN:
            if value is None:
                return None
            _collect(value, hidden, depth, kind)
            return HIDDEN
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, _BYTES):
            return self.text(_decoded(value))
        if depth < MAX_DEPTH:
            if isinstance(value, Mapping):
                return self._mapping(value, hidden, depth + 1)
            if isinstance(value, _SEVERAL):
                return self._several(value, hidden, depth + 1, below)
        return self.text(_written(value))

    def _mapping(self, value: Mapping[Any, Any], hidden: dict[str, int], depth: int) -> dict[str, Any]:
        names = {name if type(name) is str else _written(name): each for name, each in value.items()}
        if not _NAMED.isdisjoint(names) or not _NAMED.isdisjoint(map(str.lower, names)):
            names = self._header(names, hidden, depth)
        found: dict[str, Any] = {}
        for name, each in names.items():
            kind, shown = self._look(name)
            found[shown] = self._shown(each, hidden, depth, kind, name)
        return found

    def _header(self, names: dict[str, Any], hidden: dict[str, int], depth: int) -> dict[str, Any]:
        """Hide the value of a header that is a mapping of its own, if its name says so."""
        naming = [each for name, each in names.items() if name.lower() in _NAMING]
        kind = max(
            (self._look(_written(each))[0] for each in naming if isinstance(each, (str, *_BYTES))),
            default=_SHOWN,
        )
        if kind == _SHOWN:
            return names
        for name, each in names.items():
            if name.lower() in _NAMED:
                _collect(each, hidden, depth, kind)
        return {name: HIDDEN if name.lower() in _NAMED else each for name, each in names.items()}

    def _several(self, value: Any, hidden: dict[str, int], depth: int, below: str) -> list[Any]:  # noqa: ANN401  of _SEVERAL
        if len(value) == 2 and isinstance(value, _SEQUENCES) and isinstance(value[0], (str, *_BYTES)):
            name = _written(value[0])
            if _NAME(name) and (below is _WITHIN or _HOLDS_PAIRS(_key(below))):
                kind, shown = self._look(name)
                return [shown, self._shown(value[1], hidden, depth, kind, name)]
        return [self._shown(each, hidden, depth, _SHOWN, _WITHIN) for each in value]


def _key(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _decoded(value: bytes | bytearray | memoryview) -> str:
    return bytes(value).decode("utf-8", "backslashreplace")


def _written(value: Any) -> str:  # noqa: ANN401  whatever somebody logs
    if isinstance(value, str):
        return value
    if isinstance(value, _BYTES):
        return _decoded(value)
    try:
        return str(value)
    except Exception:  # noqa: BLE001  too deep, or a class of its own ideas: a line must not fail of it
        return f"<{type(value).__name__}>"


def _collect(value: Any, hidden: dict[str, int], depth: int, kind: int) -> None:  # noqa: ANN401  as above
    """Note what was hidden: it may stand in another text of the same line."""
    if isinstance(value, (Mapping, *_SEVERAL)):
        for each in value.values() if isinstance(value, Mapping) else value:
            if depth < MAX_DEPTH:
                _collect(each, hidden, depth + 1, kind)
        return
    if isinstance(value, (bool, type(None))):
        return
    text = _written(value)
    # Of `Bearer x` the word itself.
    for word in {text, text.rpartition(" ")[2]}:
        is_number = isinstance(value, (int, float)) or word.isdigit()
        if len(word) >= (MIN_DIGITS if is_number else MIN_VALUE) and word != HIDDEN:
            hidden[word] = max(kind, hidden.get(word, kind))


def _longest_first(words: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(words.items(), key=lambda item: (-len(item[0]), item))


def _without(word: str, value: Any) -> Any:  # noqa: ANN401  as above
    """Hide a word where it stands alone in values; not in keys, and not in what is ours."""
    if isinstance(value, str):
        return _cut_out(word, value) if word in value else value
    if isinstance(value, dict):  # made by us, so that it can be changed
        for name, each in value.items():
            if isinstance(each, _PLAIN) or (isinstance(each, str) and word not in each):
                continue
            if name not in _OWN_WORDS and name.rpartition(".")[2] not in _OWN_WORDS:
                value[name] = _without(word, each)
        return value
    if isinstance(value, list):
        return [_without(word, each) for each in value]
    return value


def _cut_out(word: str, text: str) -> str:
    kept: list[str] = []
    at, copied = text.find(word), 0
    while at >= 0:
        end = at + len(word)
        if _is_apart(text, at) and _is_apart(text, end):
            kept += (text[copied:at], HIDDEN)
            copied = end
        else:
            end = at + 1
        at = text.find(word, end)
    return text if not copied else "".join((*kept, text[copied:]))


def _is_apart(text: str, at: int) -> bool:
    """Say whether no word goes on at this place; `-` and `_` are parts of words."""
    around = text[max(at - 1, 0) : at + 1]
    return at == 0 or len(around) < 2 or not all(mark.isalnum() or mark in "_-" for mark in around)
