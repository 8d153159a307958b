"""What a decision says, and why."""

from __future__ import annotations

import msgspec

from sentinel_ext.core.identify import Check
from sentinel_ext.core.model import FailureMode, Stage, Word


class Reason(Word):
    """Why a request was allowed or refused; the same word in headers, logs and metrics."""

    ALLOWED = "allowed"
    LOCAL_RATE_LIMITED = "local_rate_limited"
    RATE_LIMITED = "rate_limited"
    STORE_UNAVAILABLE = "store_unavailable"
    SHED = "shed"
    CIRCUIT_OPEN = "circuit_open"


class StoreFault(Word):
    """Why the store gave no answer; a metric label, so a fixed set."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    OVERLOADED = "overloaded"
    ERROR = "error"


class ShadowDenial(msgspec.Struct, frozen=True, gc=False):
    """A stage in shadow mode would have refused."""

    stage: Stage
    reason: Reason


class Decision(msgspec.Struct, frozen=True, gc=False):
    """Allow or deny, with the numbers behind it.

    Attributes:
        stage: the stage that refused; for an allowed request the last one asked.
        limit: the limit that the numbers describe: the window's where it was asked, else the bucket's burst;
            None when nothing limits this request.
        remaining: hits left of `limit`; None when unknown.
        reset_ms: until `remaining` grows, milliseconds; None when unknown.
        retry_ms: refused: when asking again makes sense, milliseconds.
        shadow: stages that would have refused but run in shadow mode.
        fallback: the failure mode that decided because the store did not answer.
        ticket: text of what ties the request's end to this decision (core/ended.py); "" when nothing does.
    """

    check: Check
    allowed: bool
    stage: Stage
    reason: Reason
    limit: int | None = None
    remaining: int | None = None
    reset_ms: int | None = None
    retry_ms: int = 0
    shadow: tuple[ShadowDenial, ...] = ()
    fallback: FailureMode | None = None
    ticket: str = ""
