"""The answer to a rate limit request, as core says it; services write it as protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sentinel_ext.core.model import Word
from sentinel_ext.core.ratelimit.rules import Limit, OnStoreFailure

# limit_remaining of an unlimited descriptor.
UNLIMITED_REMAINING = 2**32 - 1


class Status(msgspec.Struct, frozen=True, gc=False):
    """One descriptor's part (RateLimitResponse.DescriptorStatus), in the request's order.

    Attributes:
        over: code OVER_LIMIT, else OK.
        limit: what the numbers describe (current_limit); None where nothing limits.
        remaining: limit_remaining.
        reset_us: duration_until_reset, microseconds; None where unset.
        retry_us: over: until the same hits would fit, microseconds.
    """

    over: bool = False
    limit: Limit | None = None
    remaining: int = 0
    reset_us: int | None = None
    retry_us: int = 0


class Cause(Word):
    """Why a whole request was refused; a metric label and a header, so a fixed set."""

    RATE_LIMITED = "rate_limited"
    SHED = "shed"
    STORE_UNAVAILABLE = "store_unavailable"


class Outcome(msgspec.Struct, frozen=True, eq=False):
    """What is answered. Hashed by identity: the same refusal is given, and written, many times.

    Attributes:
        over: overall_code OVER_LIMIT, else OK.
        statuses: one for each descriptor.
        cause: why it is over; None when it passes.
        retry_us: over: when asking again makes sense, microseconds.
        quota: statuses whose descriptor is a quota one, by index.
        shadow_over: descriptors that shadow mode let pass, by index.
        refused: whole request over, but global shadow mode lets it pass.
        metadata: to return as dynamic_metadata; None for none.
        fallback: what decided because the store did not answer, the strictest of several limits'.
    """

    over: bool
    statuses: tuple[Status, ...]
    cause: Cause | None = None
    retry_us: int = 0
    quota: tuple[int, ...] = ()
    shadow_over: tuple[int, ...] = ()
    refused: bool = False
    metadata: Mapping[str, Any] | None = None
    fallback: OnStoreFailure | None = None


class Problem(Word):
    """Why a request cannot be decided; the text of the error, with its gRPC status in services."""

    NO_DOMAIN = "rate limit domain must not be empty"
    NO_DESCRIPTORS = "rate limit descriptor list must not be empty"
    NO_RULES = "no rate limit configuration loaded"
    UNKNOWN_UNIT = "a limit override must name its unit: SECOND, MINUTE, HOUR, DAY, MONTH or YEAR"
    STORE = "the rate limit store did not answer in time"
