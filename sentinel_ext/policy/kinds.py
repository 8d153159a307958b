"""Kinds of values in the policy file: each checks one value, says what it allows, and describes itself.

Every message is written for the person who edits the file. The JSON Schema of a kind may allow more than
the kind does (bounds of a duration are beyond a regular expression) and never less.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic_core import core_schema

from sentinel_ext.core.token_bucket import NANO
from sentinel_ext.settings_types import MAX_HEADER_NAME_BYTES, HeaderName
from sentinel_ext.wording import did_you_mean, listed, quoted, shown

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

UNLIMITED = "unlimited"
MAX_LIMIT = 1_000_000_000  # a sub-window's count has 32 bits in Redis
MAX_BURST = 1_000_000
MAX_REFILL_PER_S = 1_000_000
SLOWEST_REFILL_NANO = 1000  # a token in eleven days; slower is more likely a slip of the pen
MAX_NAME_BYTES = 256  # the same bound as for a name in a request (core/identify.py)
MIN_WINDOW_MS = 100
MAX_WINDOW_MS = 31 * 24 * 3_600_000

_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")
_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)/(s|m|h|d)")


class Kind(ABC):
    """One kind of value. `schema` is its JSON Schema."""

    schema: dict[str, Any]

    @abstractmethod
    def parse(self, value: object) -> object:
        """Return the compiled value.

        Raises:
            ValueError: not allowed; the message says what is.
        """

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(self.schema)


class Count(Kind):
    """A whole number from 0, or `unlimited`."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self.schema = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": maximum}, {"const": UNLIMITED}]}

    def parse(self, value: object) -> int | str:
        """Return the number or the word."""
        if value == UNLIMITED:
            return UNLIMITED
        if not isinstance(value, int) or isinstance(value, bool):
            message = f'must be a whole number, or "unlimited" (got {shown(value)})'
            raise ValueError(message)  # noqa: TRY004 - pydantic collects ValueErrors only
        if value < 0:
            raise ValueError(f'must be 0 or more, or "unlimited" (got {value})')
        if value > self._maximum:
            raise ValueError(f'must be at most {self._maximum}, or "unlimited" (got {value})')
        return value


class Window(Kind):
    """A duration; parsed to microseconds."""

    def __init__(self) -> None:
        examples = ["250ms", "60s", "5m", "1h", "1d"]
        self.schema = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "examples": examples}

    def parse(self, value: object) -> int:
        """Return microseconds."""
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        length_ms = int(match[1]) * _UNIT_MS[match[2]] if match else 0
        if not MIN_WINDOW_MS <= length_ms <= MAX_WINDOW_MS:
            raise ValueError(
                "must be a duration from 100ms to 31d with its unit, "
                f"such as 250ms, 60s, 5m, 1h or 1d (got {shown(value)})"
            )
        return length_ms * 1000


class Refill(Kind):
    """A rate; parsed to billionths of a token per second, rounded down: 1/d loses 5 parts in 100,000."""

    def __init__(self) -> None:
        number = {"type": "number", "minimum": 0, "maximum": MAX_REFILL_PER_S}
        examples = ["100/s", "5/m", "1000/h"]
        text = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?/(s|m|h|d)$", "examples": examples}
        self.schema = {"anyOf": [number, text]}

    def parse(self, value: object) -> int:
        """Return billionths of a token per second."""
        tokens, unit_s = self._read(value)
        if not 0 <= tokens <= MAX_REFILL_PER_S * unit_s:
            raise ValueError(f"must be from 0 to {MAX_REFILL_PER_S} tokens per second (got {shown(value)})")
        nano = int(tokens * NANO / unit_s)
        if tokens and nano < SLOWEST_REFILL_NANO:
            raise ValueError(f"must be 0, or at least 0.1/d (got {shown(value)})")
        return nano

    @staticmethod
    def _read(value: object) -> tuple[Decimal, int]:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return Decimal(str(value)), 1
        match = _RATE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(
                "must be tokens per second, minute, hour or day such as 100/s, 5/m or 1000/h, "
                f"or a number per second (got {shown(value)})"
            )
        return Decimal(match[1]), _UNIT_S[match[2]]


class OneOf(Kind):
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self._words = words
        self.schema = {"enum": list(words)}

    def parse(self, value: object) -> str:
        """Return the word."""
        if not isinstance(value, str) or value not in self._words:
            guess = did_you_mean(value, self._words) if isinstance(value, str) else ""
            allowed = listed(map(str, self._words))
            raise ValueError(f"must be {allowed} (got {shown(value)}){guess and '; ' + guess}")
        return value


class Name(Kind):
    """A name that a caller may bear: printable, at most 256 bytes of UTF-8, no spaces around it."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.schema = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_BYTES}

    def parse(self, value: object) -> str:
        """Return the name."""
        if not isinstance(value, str):
            hint = f'; write it in quotes: "{shown(value)}"' if isinstance(value, (int, float)) else ""
            message = f"must be text, {self._what} (got {shown(value)}){hint}"
            raise ValueError(message)  # noqa: TRY004 - pydantic collects ValueErrors only
        if not value:
            raise ValueError(f"{self._what} must not be empty")
        if len(value.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
            raise ValueError(f"{self._what} must be at most {MAX_NAME_BYTES} bytes long")
        if not value.isprintable():
            raise ValueError(f"{self._what} must be printable, without control characters")
        if value != value.strip():
            raise ValueError(f"{self._what} must have no space before or after it (got {quoted(value)})")
        return value


class Header(Kind):
    """The name of a header; parsed to lower case."""

    def __init__(self) -> None:
        self.schema = {"type": "string", "pattern": "^[^:].*$", "maxLength": MAX_HEADER_NAME_BYTES}

    def parse(self, value: object) -> str:
        """Return the name in lower case."""
        kind = HeaderName()
        try:
            return kind.parse(value if isinstance(value, str) else "")
        except ValueError as error:
            why = f"; {error}" if str(error) else ""
            raise ValueError(f"must be {kind.allowed} (got {shown(value)}){why}") from None


class Exactly(Kind):
    """One fixed value."""

    def __init__(self, value: bool | int) -> None:
        self._value = value
        self.schema = {"const": value}

    def parse(self, value: object) -> bool | int:
        """Return the value."""
        if type(value) is not type(self._value) or value != self._value:
            raise ValueError(f"must be {shown(self._value)} (got {shown(value)})")
        return self._value
