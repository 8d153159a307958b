"""Numbers as people read them."""

from __future__ import annotations

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_DAY_MS = 24 * _HOUR_MS


def duration(milliseconds: int) -> str:
    """Return a length of time with its unit: `250 ms`, `1.5 s`, `34 s`, `2 min`, `1 h`."""
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    for unit_ms, name in ((_DAY_MS, "d"), (_HOUR_MS, "h"), (_MINUTE_MS, "min")):
        if milliseconds >= unit_ms and milliseconds % unit_ms == 0:
            return f"{milliseconds // unit_ms} {name}"
    if milliseconds >= 2 * _HOUR_MS:
        return f"{milliseconds / _HOUR_MS:.1f} h"
    if milliseconds >= 5 * _MINUTE_MS:
        return f"{milliseconds / _MINUTE_MS:.0f} min"
    return f"{milliseconds / 1000:.{0 if milliseconds >= 10_000 or milliseconds % 1000 == 0 else 1}f} s"


def many(count: int, word: str) -> str:
    """Return `1 request`, `3 requests`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
