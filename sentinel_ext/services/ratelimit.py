"""envoy.service.ratelimit.v3.RateLimitService: RateLimitRequest → Query, Outcome → RateLimitResponse.

An over-limit answer is an OK RPC. The RPC fails only where nothing can be decided: then Envoy's
failure_mode_deny decides (envoy.extensions.filters.http.ratelimit.v3.RateLimit).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from sentinel_ext.core.ratelimit.asks import MAX_HITS
from sentinel_ext.core.ratelimit.outcome import Outcome, Problem
from sentinel_ext.core.ratelimit.query import Descriptor, Override, Query
from sentinel_ext.core.ratelimit.rules import Unit
from sentinel_ext.services.ratelimit_response import ResponseEncoder
from sentinel_ext.services.registry import (
    INTERNAL,
    INVALID_ARGUMENT,
    UNAVAILABLE,
    Answer,
    Cancellable,
    Refusal,
    RequestError,
    Unary,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2

    Parse: TypeAlias = Callable[[bytes], Query]
    Deliver: TypeAlias = Callable[[Outcome | Problem | None], bool]
    Decide: TypeAlias = Callable[[bytes, Parse, Deliver], Outcome | Problem | Cancellable]
    Headers: TypeAlias = Callable[[Outcome], Sequence[tuple[str, str]]]

SERVICE: Final = "envoy.service.ratelimit.v3.RateLimitService"
# What a configuration of Envoy asks is a handful of short entries; a header's value may be one of them.
MAX_DESCRIPTORS: Final = 64
MAX_ENTRIES: Final = 32
MAX_TEXT_BYTES: Final = 8 * 1024
# RateLimitDescriptor.is_negative_hits: newer than the generated classes (field 4 in Envoy 1.40).
_NEGATIVE_FIELD: Final = 4

# envoy.type.v3.RateLimitUnit by number.
_UNITS = {
    1: Unit.SECOND,
    2: Unit.MINUTE,
    3: Unit.HOUR,
    4: Unit.DAY,
    5: Unit.MONTH,
    6: Unit.YEAR,
    7: Unit.WEEK,
}
_CODES = {
    Problem.NO_DOMAIN: INVALID_ARGUMENT,
    Problem.NO_DESCRIPTORS: INVALID_ARGUMENT,
    Problem.UNKNOWN_UNIT: INVALID_ARGUMENT,
    Problem.NO_RULES: UNAVAILABLE,
    Problem.STORE: UNAVAILABLE,
}
_REFUSALS = {problem: Refusal(code, problem.value) for problem, code in _CODES.items()}
_FAULT = Refusal(INTERNAL, "a fault of Sentinel's own")


class TooLargeError(RequestError):
    """The request is beyond the bounds above."""


class RateLimits:
    """The service: `decide` is limiting's; `failed` hears of our own faults."""

    def __init__(self, decide: Decide, headers: Headers, failed: Callable[[Exception], None]) -> None:
        """Answer with what `decide` says, and the response headers that `headers` makes of it."""
        self._decide = decide
        self._headers = headers
        self._failed = failed
        self._encoder = ResponseEncoder()

    def methods(self) -> tuple[Unary, ...]:
        """Return what a server mounts."""
        return (Unary(SERVICE, "ShouldRateLimit", _as_it_is, self.should_rate_limit),)

    def should_rate_limit(self, message: bytes, reply: Callable[[Answer], bool]) -> Answer | Cancellable:
        """Answer with the bytes of a RateLimitResponse, now, or later through `reply`. Never raises."""

        def deliver(outcome: Outcome | Problem | None) -> bool:
            return reply(self._respond(outcome))

        try:
            outcome = self._decide(message, parse, deliver)
        except TooLargeError as error:
            return Refusal(INVALID_ARGUMENT, str(error))
        except RequestError as error:
            return Refusal(INTERNAL, str(error))
        except Exception as error:  # noqa: BLE001  our own fault must become a status
            self._failed(error)
            return _FAULT
        return self._respond(outcome) if isinstance(outcome, (Outcome, Problem)) else outcome

    def _respond(self, outcome: Outcome | Problem | None) -> Answer:
        if isinstance(outcome, Outcome):
            kept = self._encoder.kept(outcome)
            if kept is not None:
                return kept
            try:
                return self._encoder.encode(outcome, self._headers(outcome))
            except Exception as error:  # noqa: BLE001  as above
                self._failed(error)
                return _FAULT
        return _FAULT if outcome is None else _REFUSALS[outcome]


def _as_it_is(message: bytes) -> bytes:
    """The limiter knows most requests by their bytes; it asks for `parse` where it does not."""
    return message


def parse(message: bytes) -> Query:
    """Read a RateLimitRequest.

    Raises:
        RequestError: it is none, or TooLargeError.
    """
    try:
        request = rls_pb2.RateLimitRequest.FromString(message)
    except DecodeError as error:
        raise RequestError("the request is not an envoy.service.ratelimit.v3.RateLimitRequest") from error
    if len(request.descriptors) > MAX_DESCRIPTORS:
        raise TooLargeError(f"more than {MAX_DESCRIPTORS} descriptors in a request")
    if _is_long(request.domain):
        raise TooLargeError(f"a domain of more than {MAX_TEXT_BYTES} bytes")
    hits = request.hits_addend or 1
    descriptors = tuple([_descriptor(descriptor, hits) for descriptor in request.descriptors])
    return Query(request.domain, descriptors, hits, request.hits_addend)


def _descriptor(descriptor: ratelimit_pb2.RateLimitDescriptor, request_hits: int) -> Descriptor:
    if len(descriptor.entries) > MAX_ENTRIES:
        raise TooLargeError(f"more than {MAX_ENTRIES} entries in a descriptor")
    entries = tuple([(entry.key, entry.value) for entry in descriptor.entries])
    for key, value in entries:
        if _is_long(key) or _is_long(value):
            raise TooLargeError(f"a key or value of more than {MAX_TEXT_BYTES} bytes")
    hits: int | None = None
    if descriptor.HasField("hits_addend"):
        hits = min(descriptor.hits_addend.value, MAX_HITS)
    if _is_negative(descriptor):
        hits = -(request_hits if hits is None else hits)
    override = None
    if descriptor.HasField("limit"):
        limit = descriptor.limit
        override = Override(limit.requests_per_unit, _UNITS.get(limit.unit, Unit.UNKNOWN))
    return Descriptor(entries, hits, override)


def _is_long(text: str) -> bool:
    return len(text) > MAX_TEXT_BYTES or (not text.isascii() and len(text.encode()) > MAX_TEXT_BYTES)


def _is_negative(descriptor: Any) -> bool:  # noqa: ANN401  the stubs know no unknown fields
    known = type(descriptor).DESCRIPTOR.fields_by_number.get(_NEGATIVE_FIELD)
    if known is not None:
        return bool(getattr(descriptor, known.name))
    fields: Any = UnknownFieldSet(descriptor)  # the stubs do not know that it is a sequence
    return any(field.field_number == _NEGATIVE_FIELD and bool(field.data) for field in fields)
