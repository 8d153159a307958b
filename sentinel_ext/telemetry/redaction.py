"""What never shows in logs and spans: secrets always, and what LOG_REDACT names.

Runs in the threads that write logs and export spans, not on the request path.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HIDDEN: Final = "***"
# Shorter values are too common to be looked for in the other texts of a line.
MIN_VALUE: Final = 3
_PLAIN: Final = (int, float, type(None))
# Written by us, and needed to read a line at all.
_KEPT_KEYS: Final = frozenset({"time", "level", "logger", "worker"})

_SECRET_KEY = re.compile(
    r"(?:^|_)(?:password|passwd|secret|token|authorization|cookie|api_?key|private_key|credentials?)(?:_|$)"
).search
# `redis://user:password@host`, also where the password has an @ in it.
_USER_INFO = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{0,30}://)[^\s/?#\"'<>]*@")
_SCHEMES = re.compile(r"\b(Bearer|Basic|Digest|Negotiate) +[A-Za-z0-9._~+/=-]{4,}", re.IGNORECASE)
# Whole lines: their values have spaces and semicolons.
_HEADERS = re.compile(
    r"\b((?:set-)?cookie|(?:proxy-)?authorization)([\"']?\s*[:=]\s*[\"']?)[^\r\n\"']+", re.IGNORECASE
)
_WORDS: Final = r"[a-z0-9_.-]*(?:password|passwd|secret|token|api[_-]?key)"
_VALUE: Final = r"([\"']?\s*[:=]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s,;&)}\]\"']+)"


# Without one of these no pattern matches: names and ids, most of what there is.
_SUSPICIOUS = re.compile(r"[:= ]").search


class Redactor:
    """Hides secrets, and the values of `names`.

    A name is a key of log lines, a header or a query parameter; `name=value` hides only that value of it, and
    that word in all texts.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Hide the values of `names`, any case; - and _ are the same in keys."""
        whole = [name.lower() for name in names if "=" not in name]
        pairs = [name.partition("=") for name in names if "=" in name]
        self._keys = frozenset(map(_key, whole))
        words = "|".join([_WORDS, *map(re.escape, whole)])
        self._pairs = re.compile(rf"(?<![A-Za-z0-9_.-])({words}){_VALUE}", re.IGNORECASE)
        values = "|".join(re.escape(value) for _, _, value in pairs)
        self._values = re.compile(rf"(?<![A-Za-z0-9_-])(?:{values})(?![A-Za-z0-9_-])") if values else None

    def line(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """Return a log line as it may be shown."""
        found = {key: value if key in _KEPT_KEYS else self._shown(key, value) for key, value in line.items()}
        hidden = [
            value
            for key, value in line.items()
            if found[key] == HIDDEN and isinstance(value, str) and len(value) >= MIN_VALUE
        ]
        for value in hidden:  # the same value may stand in a message
            for key, text in found.items():
                if isinstance(text, str) and key not in _KEPT_KEYS and value in text:
                    found[key] = text.replace(value, HIDDEN)
        return found

    def hide(self, key: str, value: str) -> str:
        """Return the value of a key as it may be shown."""
        return HIDDEN if self._is_hidden(key) else self.text(value)

    def text(self, text: str) -> str:
        """Return a text without secrets and hidden values."""
        if _SUSPICIOUS(text):
            if "://" in text:
                text = _USER_INFO.sub(rf"\1{HIDDEN}@", text)
            text = _HEADERS.sub(rf"\1\2{HIDDEN}", text)
            text = _SCHEMES.sub(rf"\1 {HIDDEN}", text)
            text = self._pairs.sub(rf"\1\2{HIDDEN}", text)
        return text if self._values is None else self._values.sub(HIDDEN, text)

    def _is_hidden(self, key: str) -> bool:
        name = _key(key)
        return name in self._keys or _SECRET_KEY(name) is not None

    def _shown(self, key: str, value: Any) -> Any:  # noqa: ANN401  whatever a log line holds
        if self._is_hidden(key):
            return value if value is None else HIDDEN
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, dict):
            return {str(name): self._shown(str(name), each) for name, each in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._shown(key, each) for each in value]
        return self.text(str(value))


def _key(name: str) -> str:
    return name.lower().replace("-", "_")
