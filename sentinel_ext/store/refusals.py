"""What Redis refuses until an operator mends it: said once, with what to do, and not at every request."""

from __future__ import annotations

import logging
from typing import Final

logger = logging.getLogger("sentinel.store")

# Heard again after that long a quiet, it is news. Every connection tries again within a second.
QUIET_S: Final = 60.0

# No colon behind the word password: in the log what follows is hidden, for it could be one.
_NOAUTH: Final = "Redis wants a password; name its file in REDIS_PASSWORD_FILE, or write it into REDIS_URL"
_WRONGPASS: Final = (
    "Redis takes neither user nor password; compare REDIS_USERNAME and the file of REDIS_PASSWORD_FILE, or "
    "REDIS_URL, with ACL LIST"
)
_NOPASS: Final = "a password is given, and Redis has none: leave it out, or set requirepass or an ACL user"
_NOPERM: Final = "the Redis user lacks a right: the README lists those that are needed"
# Of the Sentinels themselves, who never hear what the URL and REDIS_PASSWORD_FILE say: that is the master's.
NO_SENTINEL: Final = "no Sentinel names the master"
_OF_SENTINELS: Final = {
    _NOAUTH: "the Sentinels want a password of their own; name its file in REDIS_SENTINEL_PASSWORD_FILE",
    _WRONGPASS: (
        "the Sentinels do not take their password; compare the file of REDIS_SENTINEL_PASSWORD_FILE with "
        "requirepass of the Sentinels"
    ),
    _NOPASS: "leave REDIS_SENTINEL_PASSWORD_FILE out, for the Sentinels have none, or set their requirepass",
    _NOPERM: "the Sentinels' default user lacks the right to SENTINEL GET-MASTER-ADDR-BY-NAME",
}
# Words of Redis 6 and 7, of Valkey, and of redis-py, which leaves the first one out.
_ADVICE: Final = {
    "NOAUTH": _NOAUTH,
    "Authentication required": _NOAUTH,
    "WRONGPASS": _WRONGPASS,
    "invalid username-password pair": _WRONGPASS,
    "invalid password": _WRONGPASS,
    "without any password configured": _NOPASS,
    "no password is set": _NOPASS,
    "NOPERM": _NOPERM,
    "has no permissions": _NOPERM,
    "ACL failure": _NOPERM,
    "The user executing the script": _NOPERM,
}


def advice(words: str) -> str | None:
    """Return what to do about an error reply, if an operator must do something."""
    found = next((then for sign, then in _ADVICE.items() if sign in words), None)
    return found if found is None or NO_SENTINEL not in words else _OF_SENTINELS[found]


class Refusals:
    """Hears every refusal that the connections of a store meet, and logs what is news."""

    def __init__(self) -> None:
        """Start with none heard; there are as many kinds as pieces of advice."""
        self._heard_s: dict[str, float] = {}

    def hear(self, words: str, now_s: float) -> None:
        """Log `words` with what to do about them, if that is news."""
        todo = advice(words)
        if todo is None:
            return
        last_s = self._heard_s.get(todo)
        self._heard_s[todo] = now_s
        if last_s is None or now_s - last_s > QUIET_S:
            logger.error("Redis refuses", extra={"why": words, "todo": todo})
