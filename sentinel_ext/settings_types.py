"""Kinds of values that an environment variable can hold: each parses text and says what it allows.

A kind stands in a field's annotation, `Annotated[int, Whole(1, 65535)]`, and does all of the field's
validation, so that an error is a sentence for an operator and never the name of a validator.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from pydantic_core import core_schema

from sentinel_ext.address import Address
from sentinel_ext.wording import listed, shown

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

MICRO = 1_000_000
MAX_HEADER_NAME_BYTES = 128

# ASCII digits only, and few enough that int() never meets its own limit on length.
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?")
# RFC 9110 §5.6.2 token.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
# RFC 1123 §2.1 labels, underscores as container names have them, or an IPv4 address.
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?")
_SWITCH = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


class Kind(ABC):
    """One kind of value.

    Attributes:
        allowed: what is allowed, to stand after "allowed: ".
    """

    allowed: str

    @abstractmethod
    def parse(self, given: object) -> object:
        """Return the value of `given`: text, or a value of the kind itself.

        Raises:
            ValueError: not allowed; the message adds to `allowed` why, or is empty.
        """

    def shown(self, given: object) -> str:
        """Return `given` as an error message may show it."""
        return shown(given)

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        serialization = core_schema.plain_serializer_function_ser_schema(_as_json, when_used="json")
        return core_schema.no_info_plain_validator_function(self.parse, serialization=serialization)


def _as_json(value: object) -> object:
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


class Whole(Kind):
    """A whole number from `low` to `high`; with `unlimited=True` also the word, which is None."""

    def __init__(self, low: int, high: int, unit: str = "", *, unlimited: bool = False) -> None:
        self._low, self._high, self._unlimited = low, high, unlimited
        self.allowed = f"a whole number from {low} to {high}{unit and f' ({unit})'}"
        if unlimited:
            self.allowed += ', or "unlimited"'

    def parse(self, given: object) -> int | None:
        """Return the number, None for unlimited."""
        if self._unlimited and (given is None or str(given).lower() == "unlimited"):
            return None
        if isinstance(given, bool) or not _WHOLE.fullmatch(str(given)):
            raise ValueError("")
        if not self._low <= int(str(given)) <= self._high:
            raise ValueError("")
        return int(str(given))


class Number(Kind):
    """A number from `low` to `high` of at most six decimals; with `above=True` `low` itself is excluded."""

    def __init__(self, low: int, high: int, unit: str = "", *, above: bool = False) -> None:
        self._low, self._high, self._above = low, high, above
        start = f"above {low}, up to {high}" if above else f"from {low} to {high}"
        self.allowed = f"a number {start}, at most six decimals{unit and f' ({unit})'}"

    def parse(self, given: object) -> float:
        """Return the number; nan and infinities are text that is not a number."""
        if isinstance(given, bool) or not _NUMBER.fullmatch(str(given)):
            raise ValueError("")
        number = Decimal(str(given))
        too_low = number <= self._low if self._above else number < self._low
        if too_low or number > self._high or number * MICRO % 1:
            raise ValueError("")
        return math.fabs(number)  # -0 is 0


class Switch(Kind):
    """True or false in the usual words, any case."""

    allowed = listed(_SWITCH)

    def parse(self, given: object) -> bool:
        """Return the boolean."""
        found = _SWITCH.get(str(given).lower())
        if found is None:
            raise ValueError("")
        return found


class OneOf(Kind):
    """One of a few words, any case."""

    def __init__(self, *words: str) -> None:
        self._words = words
        self.allowed = listed(words)

    def parse(self, given: object) -> str:
        """Return the word in lower case."""
        word = str(given).lower()
        if word not in self._words:
            raise ValueError("")
        return word


class HeaderName(Kind):
    """The name of an HTTP header; lower case as HTTP/2 and Envoy have it (RFC 9113 §8.2)."""

    allowed = f"a header name such as x-tenant-id: 1 to {MAX_HEADER_NAME_BYTES} letters, digits, - and _"

    def parse(self, given: object) -> str:
        """Return the name in lower case."""
        name = str(given).lower()
        if name.startswith(":"):
            raise ValueError(
                "a name that starts with : is a pseudo header of HTTP/2, which callers cannot choose"
            )
        if len(name) > MAX_HEADER_NAME_BYTES or not _HEADER_NAME.fullmatch(name):
            raise ValueError("")
        return name


class ListenAddress(Kind):
    """Where a server listens; None for "off" if `optional`."""

    def __init__(self, *, optional: bool = False) -> None:
        self._optional = optional
        self.allowed = "host:port, [ipv6]:port or unix:///path" + (", or off" if optional else "")

    def parse(self, given: object) -> Address | None:
        """Return the address."""
        if isinstance(given, Address):
            return given
        if self._optional and (given is None or str(given).lower() == "off"):
            return None
        text = str(given)
        address = Address.parse(text)
        if not address.is_unix and not is_host(address.host):
            raise ValueError("the host is neither a name nor an IP address")
        return address


class FilePath(Kind):
    """The path of a file, which need not exist yet; or None."""

    allowed = "the path of a file"

    def parse(self, given: object) -> Path | None:
        """Return the path."""
        if given is None or isinstance(given, Path):
            return given
        if "\0" in str(given):
            raise ValueError("")
        return Path(str(given))


class HttpUrl(Kind):
    """An http:// or https:// URL with a host and no more than a path; or None if `optional`."""

    allowed = "http://host[:port][/path] or https://host[:port][/path]"

    def __init__(self, *, optional: bool = False) -> None:
        self._optional = optional

    def parse(self, given: object) -> str | None:
        """Return the URL as it was given."""
        if given is None and self._optional:
            return None
        text = str(given)
        if "://" not in text:
            raise ValueError("the scheme is missing")
        url = split_url(text)
        if url.scheme not in {"http", "https"}:
            raise ValueError("")
        if "@" in text:
            raise ValueError("a user name or password has no place in it")
        if "?" in text or "#" in text:
            raise ValueError("a query or fragment has no place in it")
        return text

    def shown(self, given: object) -> str:
        """Hide everything but the scheme where a password may be in it."""
        text = str(given)
        return (
            shown(f"{text.partition('://')[0]}://***" if "://" in text else "***")
            if "@" in text
            else shown(text)
        )


def is_true(text: str | None) -> bool:
    """Say whether `text` is a word for true."""
    return _SWITCH.get((text or "").strip().lower(), False)


def is_host(host: str) -> bool:
    """Say whether `host` looks like a name or an IP address (without brackets)."""
    return bool((_IPV6 if ":" in host else _HOST).fullmatch(host))


def split_url(text: str) -> SplitResult:
    """Split a URL that names a host.

    Raises:
        ValueError: it is not one; the message quotes nothing of it, since a password may be in it.
    """
    # urlsplit drops tabs and line ends silently, so they are refused before it sees them.
    if not text.isprintable() or " " in text:
        raise ValueError("spaces and control characters have no place in it")
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise ValueError("host or port is not valid") from None
    if not host or not is_host(host):
        raise ValueError("the host is missing or not valid")
    if port == 0 or url.netloc.endswith(":"):
        raise ValueError("the port is not between 1 and 65535")
    return url
