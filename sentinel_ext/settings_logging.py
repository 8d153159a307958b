"""Settings of logs, a part of Settings."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic_settings import BaseSettings

from sentinel_ext.settings_types import Kind, Number

MAX_NAMES: Final = 64
# Keys of log lines, names of headers and query parameters; with = and a value, only that value is hidden.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}(=[^,=\s]{1,256})?")


class Names(Kind):
    """Names with commas between them."""

    allowed = (
        f"up to {MAX_NAMES} names, or name=value, with commas between them: tenant,x-api-key,tenant=acme"
    )

    def parse(self, given: object) -> tuple[str, ...] | None:
        """Return the names, as they were given."""
        if given is None or isinstance(given, tuple):
            return given
        names = tuple(name.strip() for name in str(given).split(",") if name.strip())
        if len(names) > MAX_NAMES or not all(_NAME.fullmatch(name) for name in names):
            raise ValueError("")
        return names


class LogSettings(BaseSettings):
    """What the environment says of logs, beside LOG_LEVEL.

    Attributes:
        log_allowed_ratio: of allowed requests that are logged at level info.
        log_redact: names whose values never show; None for none but secrets.
    """

    log_allowed_ratio: Annotated[float, Number(0, 1, "part of the allowed requests")] = 0.0
    log_redact: Annotated[tuple[str, ...] | None, Names()] = None
