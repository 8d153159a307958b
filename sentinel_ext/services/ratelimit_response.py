"""RateLimitResponse as bytes: what protobuf would write, in a fraction of the time (docs/performance.md).

Field numbers are those of envoy/service/ratelimit/v3/rls.proto; tests/property/test_ratelimit_response.py
holds every output against protobuf's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf import struct_pb2

from sentinel_ext.core.ratelimit.rules import Unit
from sentinel_ext.services.varint import varint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sentinel_ext.core.ratelimit.outcome import Outcome, Status
    from sentinel_ext.core.ratelimit.rules import Limit

# Limits whose part of a response is kept (overrides make new ones), and refusals. Dropped whole when full.
MAX_CACHED: Final = 4_096
_US_PER_S: Final = 1_000_000

# RateLimitResponse.RateLimit.Unit; the numbers differ from envoy.type.v3.RateLimitUnit's.
_UNITS = {
    Unit.UNKNOWN: 0,
    Unit.SECOND: 1,
    Unit.MINUTE: 2,
    Unit.HOUR: 3,
    Unit.DAY: 4,
    Unit.MONTH: 5,
    Unit.YEAR: 6,
    Unit.WEEK: 7,
}
# Tags: field number << 3 | wire type.
_OVERALL_OK, _OVERALL_OVER = b"\x08\x01", b"\x08\x02"
_STATUS, _HEADER, _METADATA = b"\x12", b"\x1a", b"\x32"
_CODE_OK, _CODE_OVER = b"\x08\x01", b"\x08\x02"
_CURRENT_LIMIT, _REMAINING, _UNTIL_RESET = b"\x12", b"\x18", b"\x22"


# Lengths, counts, and the seconds of an hour.
_SMALL = tuple(varint(number) for number in range(4096))
_HIGH = tuple(bytes((number & 0x7F | 0x80, number >> 7 | 0x80)) for number in range(1 << 14))


def _number(number: int) -> bytes:
    if number < 4096:
        return _SMALL[number]
    if number < 1 << 14:
        return varint(number)
    # Two digits from a table: a third of the loop's time for what is left of a large limit.
    return _HIGH[number & 0x3FFF] + _number(number >> 14)


def _field(tag: bytes, body: bytes) -> bytes:
    return b"".join((tag, _number(len(body)), body))


class ResponseEncoder:
    """Writes responses; belongs to one event loop."""

    def __init__(self) -> None:
        """Start with nothing kept."""
        self._limits: dict[Limit, bytes] = {}
        # The limiter gives the same refusal until a number in it changes.
        self._refusals: dict[Outcome, bytes] = {}

    def kept(self, outcome: Outcome) -> bytes | None:
        """Return the response if it was written before: a flood of refusals needs no headers made."""
        return self._refusals.get(outcome) if outcome.over else None

    def encode(self, outcome: Outcome, headers: Sequence[tuple[str, str]]) -> bytes:
        """Return the response with `headers` for the client."""
        if outcome.over:
            if len(self._refusals) >= MAX_CACHED:
                self._refusals.clear()
            made = self._refusals[outcome] = self._encoded(outcome, headers)
            return made
        return self._encoded(outcome, headers)

    def _encoded(self, outcome: Outcome, headers: Sequence[tuple[str, str]]) -> bytes:
        parts = [_OVERALL_OVER if outcome.over else _OVERALL_OK]
        for status in outcome.statuses:
            body = self._status(status)
            parts += (_STATUS, _number(len(body)), body)
        for name, value in headers:
            parts.append(_field(_HEADER, _text(b"\x0a", name) + _text(b"\x12", value)))
        if outcome.metadata is not None:
            parts.append(_field(_METADATA, _struct(outcome.metadata)))
        return b"".join(parts)

    def _status(self, status: Status) -> bytes:
        code = _CODE_OVER if status.over else _CODE_OK
        limit, remaining = status.limit, status.remaining
        if limit is None:
            return code + _REMAINING + _number(remaining) if remaining else code
        described = self._limits.get(limit) or self._remember(limit)
        left = _REMAINING + _number(remaining) if remaining else b""
        if status.reset_us is None:
            return b"".join((code, described, left))
        # Whole seconds, up: 0 would say that the window has ended.
        seconds = b"\x08" + _number(-(-status.reset_us // _US_PER_S) or 1)
        return b"".join((code, described, left, _UNTIL_RESET, _number(len(seconds)), seconds))

    def _remember(self, limit: Limit) -> bytes:
        if len(self._limits) >= MAX_CACHED:
            self._limits.clear()
        requests = b"\x08" + varint(limit.requests) if limit.requests else b""
        unit = _UNITS[limit.unit]
        body = requests + (b"\x10" + varint(unit) if unit else b"") + _text(b"\x1a", limit.name)
        made = self._limits[limit] = _field(_CURRENT_LIMIT, body)
        return made


def _text(tag: bytes, text: str) -> bytes:
    return _field(tag, text.encode("utf-8", "replace")) if text else b""


def _struct(values: Mapping[str, Any]) -> bytes:
    made = struct_pb2.Struct()
    made.update(values)
    return made.SerializeToString(deterministic=True)
