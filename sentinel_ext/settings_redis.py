"""Settings of Redis' passwords, a part of Settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic_settings import BaseSettings

from sentinel_ext.settings_types import FilePath, Kind

# What Redis' ACL files can hold.
_USER = re.compile(r"[!-~]{1,128}")


class UserName(Kind):
    """A user of Redis' ACL; or None."""

    allowed = "a user's name: up to 128 printable characters without spaces"

    def parse(self, given: object) -> str | None:
        """Return the name."""
        if given is None:
            return None
        if not _USER.fullmatch(str(given)):
            raise ValueError("")
        return str(given)


class RedisCredentials(BaseSettings):
    """Passwords that stand in files: replaced while Sentinel runs, and in no environment.

    Attributes:
        redis_username: of the ACL user; None is Redis' default user.
        redis_password_file: one line, the password.
        redis_sentinel_password_file: likewise, of the Sentinels that redis+sentinel:// names.
    """

    redis_username: Annotated[str | None, UserName()] = None
    redis_password_file: Annotated[Path | None, FilePath()] = None
    redis_sentinel_password_file: Annotated[Path | None, FilePath()] = None
