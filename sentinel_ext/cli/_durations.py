"""Times on the command line. Knows no typer: the quick way of `healthcheck` reads them, too."""

from __future__ import annotations

import re
from typing import Final

MAX_S: Final = 3600.0
ALLOWED: Final = "allowed: a time such as 500ms, 2s or 1m, at most an hour"
_DURATION = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{1,9})?)\s*(?P<unit>ms|s|m|)")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}


def duration_s(text: str) -> float:
    """Read `500ms`, `2s`, `1m` or a number of seconds.

    Raises:
        ValueError: it is none of these, 0, or more than an hour.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is not None:
        value = float(match["number"]) * _UNIT_S[match["unit"]]
        if 0 < value <= MAX_S:
            return value
    raise ValueError(ALLOWED)
