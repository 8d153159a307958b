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
_PLAIN: Final = (int, float, type(None))
_BYTES: Final = (bytes, bytearray, memoryview)
_SEVERAL: Final = (list, tuple, set, frozenset)
# Written by us, and needed to read a line at all.
_KEPT_KEYS: Final = frozenset({"time", "level", "logger", "worker"})
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
        self._judged: dict[str, tuple[bool, str]] = {}
        self.text = TextRedactor(self.is_hidden, [value for _, _, value in pairs]).text

    def line(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """Return a log line as it may be shown."""
        hidden: set[str] = set()
        found = {
            key: value if key in _KEPT_KEYS else self._shown(key, value, hidden, 0)
            for key, value in line.items()
        }
        for word in _longest_first(hidden):  # the same value may stand in a message
            for key, value in found.items():
                if key not in _KEPT_KEYS:
                    found[key] = _without(word, value)
        return found

    def parts(self, *parts: Any) -> list[Any]:  # noqa: ANN401  texts, and mappings of whatever
        """Return things that belong together: what is hidden in one is hidden in all."""
        hidden: set[str] = set()
        found = [self._shown(None, part, hidden, 0) for part in parts]
        for word in _longest_first(hidden):
            found = [_without(word, part) for part in found]
        return found

    def is_hidden(self, name: str) -> bool:
        """Say whether the value of `name` must not show; of dotted names the last parts count, too."""
        return self._look(name)[0]

    def _look(self, name: str) -> tuple[bool, str]:
        """Say whether the value of `name` is hidden, and how the name itself may be shown."""
        found = self._judged.get(name)
        if found is None:
            is_hidden = self._judge(name)
            if len(name) > _MAX_KEY:
                return is_hidden, self.text(name)
            if len(self._judged) >= _MAX_JUDGED:
                self._judged.clear()
            # Before the text, which asks for names, too.
            self._judged[name] = (is_hidden, name)
            found = self._judged[name] = (is_hidden, self.text(name))
        return found

    def _judge(self, name: str) -> bool:
        rest = name
        while rest:
            if _key(rest) in self._keys or _AS_LOGGED.get(rest) in self._keys:
                return True
            rest = rest.partition(".")[2]
        key = _key(_CAMEL.sub("_", name))
        return _SECRET_KEY(key) is not None and _PLACE(key) is None

    def _shown(self, key: str | None, value: Any, hidden: set[str], depth: int) -> Any:  # noqa: ANN401, PLR0911
        if key is not None and self.is_hidden(key):
            if value is None:
                return None
            _collect(value, hidden, depth)
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
                return self._several(list(value), hidden, depth + 1)
        return self.text(_written(value))

    def _mapping(self, value: Mapping[Any, Any], hidden: set[str], depth: int) -> dict[str, Any]:
        names = {name if type(name) is str else _written(name): each for name, each in value.items()}
        if not _NAMED.isdisjoint(names) or not _NAMED.isdisjoint(map(str.lower, names)):
            names = self._header(names, hidden, depth)
        found: dict[str, Any] = {}
        for name, each in names.items():
            is_hidden, shown = self._look(name)
            found[shown] = self._shown(name if is_hidden else None, each, hidden, depth)
        return found

    def _header(self, names: dict[str, Any], hidden: set[str], depth: int) -> dict[str, Any]:
        """Hide the value of a header that is a mapping of its own, if its name says so."""
        naming = [each for name, each in names.items() if name.lower() in _NAMING]
        if not any(isinstance(each, (str, *_BYTES)) and self.is_hidden(_written(each)) for each in naming):
            return names
        for name, each in names.items():
            if name.lower() in _NAMED:
                _collect(each, hidden, depth)
        return {name: HIDDEN if name.lower() in _NAMED else each for name, each in names.items()}

    def _several(self, values: list[Any], hidden: set[str], depth: int) -> list[Any]:
        if len(values) == 2 and isinstance(values[0], (str, *_BYTES)):  # (name, value)
            name = _written(values[0])
            return [self.text(name), self._shown(name, values[1], hidden, depth)]
        return [self._shown(None, each, hidden, depth) for each in values]


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


def _collect(value: Any, hidden: set[str], depth: int) -> None:  # noqa: ANN401  as above
    """Note what was hidden: it may stand in another text of the same line."""
    if isinstance(value, (Mapping, *_SEVERAL)):
        for each in value.values() if isinstance(value, Mapping) else value:
            if depth < MAX_DEPTH:
                _collect(each, hidden, depth + 1)
        return
    if isinstance(value, (bool, type(None))):
        return
    text = _written(value)
    # Of `Bearer x` the word itself.
    for word in {text, text.rpartition(" ")[2]}:
        if len(word) >= (MIN_DIGITS if isinstance(value, (int, float)) else MIN_VALUE) and word != HIDDEN:
            hidden.add(word)


def _longest_first(words: set[str]) -> list[str]:
    return sorted(words, key=lambda word: (-len(word), word))


def _without(word: str, value: Any) -> Any:  # noqa: ANN401  as above
    if isinstance(value, str):
        return value.replace(word, HIDDEN) if word in value else value
    if isinstance(value, dict):
        return {_without(word, name): _without(word, each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without(word, each) for each in value]
    return value
