"""Label values in bounded number: what came first keeps its name, everything after that is `other`."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"
UNKNOWN: Final = "unknown"

# Routes of a gateway; a series costs Prometheus some 3 KB, and a histogram has one for each bucket.
MAX_ROUTES: Final = 64
MAX_CHARACTERS: Final = 128

# envoy.config.core.v3.RequestMethod by number; METHOD_UNSPECIFIED is any method without a number.
METHODS: Final = (OTHER, "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")

_STATUSES = {status: str(status) for status in (0, *range(100, 600))}


class FirstCome:
    """The first `bound` values are labels of their own.

    Which ones are busiest is known only later, and a series that changed its meaning over time would be worse
    than one that is missing: a name once given is kept.

    Attributes:
        left_out: values that became `other`, each time.
    """

    __slots__ = ("_bound", "_labels", "left_out")

    def __init__(self, bound: int = MAX_ROUTES) -> None:
        """Give out at most `bound` names; `unknown` and `other` come on top of it."""
        self._bound = bound
        self._labels: dict[str, str] = {"": UNKNOWN}
        self.left_out = 0

    def label(self, value: str) -> str:
        """Return the label for `value`; "" is `unknown`."""
        return self._labels.get(value) or self._new(value)

    def _new(self, value: str) -> str:
        is_fit = len(value) <= MAX_CHARACTERS and value.isprintable() and value not in {OTHER, UNKNOWN}
        if not is_fit or len(self._labels) > self._bound:
            self.left_out += 1
            return OTHER
        self._labels[value] = value
        return value


def method_label(number: int) -> str:
    """Name a request method."""
    return METHODS[number] if 0 < number < len(METHODS) else OTHER


def status_label(status: int) -> str:
    """Name an HTTP status; 0 is a client that got none, what is no status of HTTP is `other`."""
    return _STATUSES.get(status, OTHER)
