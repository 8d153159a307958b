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
from sentinel_ext.settings_types import MAX_HEADER_NAME_BYTES, MICRO, HeaderName
from sentinel_ext.wording import did_you_mean, listed, quoted, shown

if TYPE_CHECKING:
    from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler

UNLIMITED = "unlimited"
OFF = "off"
MAX_LIMIT = 1_000_000_000  # a sub-window's count has 32 bits in Redis
MAX_BURST = 1_000_000
MAX_RATE_PER_S = 1_000_000
SLOWEST_NANO = 1000  # one in eleven days; slower is more likely a slip of the pen
MAX_NAME_BYTES = 256  # the same bound as for a name in a request (core/identify.py)

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


class Whole(Kind):
    """A whole number from `low` to `high`."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high
        self.schema = {"type": "integer", "minimum": low, "maximum": high}

    def parse(self, value: object) -> int:
        """Return the number."""
        if not isinstance(value, int) or isinstance(value, bool) or not self._low <= value <= self._high:
            message = f"must be a whole number from {self._low} to {self._high} (got {shown(value)})"
            raise ValueError(message)
        return value


class Share(Kind):
    """A part of a whole: above 0, up to 1."""

    def __init__(self) -> None:
        self.schema = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}

    def parse(self, value: object) -> float:
        """Return the share."""
        hint = ""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if 0 < value <= 1:
                return float(value)
            hint = f"; {value:g} % is {value / 100:g}" if 1 < value <= 100 else ""
        raise ValueError(f"must be a share above 0, up to 1, such as 0.5 (got {shown(value)}){hint}")


class Switch(Kind):
    """True or false."""

    def __init__(self) -> None:
        self.schema = {"type": "boolean"}

    def parse(self, value: object) -> bool:
        """Return the boolean."""
        if not isinstance(value, bool):
            message = f"must be true or false (got {shown(value)})"
            raise ValueError(message)  # noqa: TRY004 - pydantic collects ValueErrors only
        return value


class Duration(Kind):
    """A duration from `shortest` to `longest`; parsed to microseconds."""

    def __init__(self, shortest: str, longest: str, *examples: str) -> None:
        self._range_ms = _length_ms(shortest), _length_ms(longest)
        self._allowed = f"from {shortest} to {longest} with its unit, such as {listed(examples)}"
        self.schema = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "examples": list(examples)}

    def parse(self, value: object) -> int:
        """Return microseconds."""
        length_ms = _length_ms(value) if isinstance(value, str) else 0
        if not self._range_ms[0] <= length_ms <= self._range_ms[1]:
            raise ValueError(f"must be a duration {self._allowed} (got {shown(value)})")
        return length_ms * 1000


class Window(Duration):
    """The window of a limit; the settings have the same bounds."""

    def __init__(self) -> None:
        super().__init__("100ms", "31d", "250ms", "60s", "5m", "1h", "1d")


class Rate(Kind):
    """A rate above 0; parsed to billionths per second, rounded down: 1/d loses 5 parts in 100,000."""

    def __init__(self, unit: str = "requests", *examples: str, zero: bool = False) -> None:
        self._unit, self._examples, self._zero = unit, examples or ("200/s", "5000/m"), zero
        number: dict[str, Any] = {"type": "number", "maximum": MAX_RATE_PER_S}
        number |= {"minimum": 0} if zero else {"exclusiveMinimum": 0}
        pattern = r"^[0-9]+(\.[0-9]+)?/(s|m|h|d)$"
        text = {"type": "string", "pattern": pattern, "examples": list(self._examples)}
        self.schema = {"anyOf": [number, text]}

    def parse(self, value: object) -> int:
        """Return billionths per second."""
        amount, unit_s = self._read(value)
        if not 0 <= amount <= MAX_RATE_PER_S * unit_s or (amount == 0 and not self._zero):
            start = "from 0" if self._zero else "above 0, up"
            raise ValueError(
                f"must be {start} to {MAX_RATE_PER_S} {self._unit} per second (got {shown(value)})"
            )
        nano = int(amount * NANO / unit_s)
        if amount and nano < SLOWEST_NANO:
            raise ValueError(f"must be {'0, or ' if self._zero else ''}at least 0.1/d (got {shown(value)})")
        return nano

    def _read(self, value: object) -> tuple[Decimal, int]:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return Decimal(str(value)), 1
        match = _RATE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(
                f"must be {self._unit} per second, minute, hour or day such as {listed(self._examples)}, "
                f"or a number per second (got {shown(value)})"
            )
        return Decimal(match[1]), _UNIT_S[match[2]]


class Refill(Rate):
    """The speed at which a token bucket fills; 0 never fills it again."""

    def __init__(self) -> None:
        super().__init__("tokens", "100/s", "5/m", "1000/h", zero=True)


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


class OffOr(Kind):
    """The word `off`, or a mapping of a model's values."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    def parse(self, value: object) -> object:
        """Return the value unless it is neither."""
        if value != OFF and not isinstance(value, (dict, self._model)):
            raise ValueError(f"must be {OFF}, or a mapping (got {shown(value)})")
        return value

    def __get_pydantic_core_schema__(
        self, _source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        def check(value: object, inner: core_schema.ValidatorFunctionWrapHandler) -> object:
            return OFF if self.parse(value) == OFF else inner(value)

        return core_schema.no_info_wrap_validator_function(check, handler.generate_schema(self._model))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"const": OFF}, handler(schema)]}


def length(length_us: int) -> str:
    """Return a duration as an operator would write it: `1500ms`, `60s`."""
    if length_us % 1000:
        return f"{length_us / 1000:g}ms"
    return f"{length_us // MICRO}s" if length_us % MICRO == 0 else f"{length_us // 1000}ms"


def per_second(nano: int) -> str:
    """Return a rate as an operator would write it: `200/s`."""
    return f"{nano / NANO:.6f}".rstrip("0").rstrip(".") + "/s"


def _length_ms(text: str) -> int:
    match = _DURATION.fullmatch(text)
    return int(match[1]) * _UNIT_MS[match[2]] if match else 0
