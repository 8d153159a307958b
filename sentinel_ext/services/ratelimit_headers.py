"""Response headers that Sentinel makes of a rate limit decision; Envoy's own come from the statuses.

Two styles: the three of envoyproxy/ratelimit, and the structured fields of
draft-ietf-httpapi-ratelimit-headers-11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentinel_ext.core.ratelimit.outcome import Outcome, Status

    Headers = Sequence[tuple[str, str]]

RETRY_HEADER: Final = "retry-after"
REASON_HEADER: Final = "x-sentinel-reason"
# Policies in one header: a request has few descriptors, and a header must stay one that clients accept.
MAX_POLICIES: Final = 16
_US_PER_S: Final = 1_000_000
_NONE: tuple[tuple[str, str], ...] = ()


def make_headers(style: str) -> Callable[[Outcome], Headers]:
    """Return what makes the headers: `off`, `legacy`, `draft` or `all`.

    A refused response has `retry-after` and the reason in every style.
    """
    makers = {"off": [], "legacy": [_legacy], "draft": [_draft], "all": [_legacy, _draft]}[style]
    if not makers:
        return _refusal

    def headers(outcome: Outcome) -> Headers:
        made = [header for maker in makers for header in maker(outcome)]
        return [*made, *_refusal(outcome)]

    return headers


def _refusal(outcome: Outcome) -> Headers:
    if not outcome.over:
        return _NONE
    retry = max(1, _seconds(outcome.retry_us))
    reason = "" if outcome.cause is None else outcome.cause.value
    return ((RETRY_HEADER, str(retry)), (REASON_HEADER, reason))


def _legacy(outcome: Outcome) -> Headers:
    """Describe the last non-quota descriptor that is over, else the one with least left (the first wins)."""
    matched = [(at, status) for at, status in enumerate(outcome.statuses) if status.limit is not None]
    if not matched:
        return _NONE
    over = [status for at, status in matched if status.over and at not in outcome.quota]
    status = over[-1] if over else min((status for _, status in matched), key=_remaining)
    requests = status.limit.requests if status.limit is not None else 0
    return (
        ("RateLimit-Limit", str(requests)),
        ("RateLimit-Remaining", str(status.remaining)),
        ("RateLimit-Reset", str(max(1, _seconds(status.reset_us or 0)))),
    )


def _remaining(status: Status) -> int:
    return status.remaining


def _draft(outcome: Outcome) -> Headers:
    """Name every limit that applied: its quota and window, and what is left of it until when."""
    policies: list[str] = []
    states: list[str] = []
    for at, status in enumerate(outcome.statuses):
        limit = status.limit
        if limit is None or len(policies) >= MAX_POLICIES:
            continue
        name = _quoted(limit.name or f"limit-{at + 1}")
        policies.append(f"{name};q={limit.requests};w={limit.window_s}")
        states.append(f"{name};r={status.remaining};t={max(1, _seconds(_until_more_us(status)))}")
    if not policies:
        return _NONE
    return (("RateLimit-Policy", ", ".join(policies)), ("RateLimit", ", ".join(states)))


def _until_more_us(status: Status) -> int:
    """Return how long no more than what remains can be used, which `retry-after` must not come before.

    A GCRA limit resets when nothing is in use any more, long after the next hits fit.
    """
    reset_us = status.reset_us or 0
    return min(reset_us, status.retry_us) if status.over and status.retry_us else reset_us


def _quoted(text: str) -> str:
    """Write a String of RFC 8941 §3.3.3: printable ASCII, with `"` and the backslash escaped."""
    plain = "".join(mark if " " <= mark <= "~" else "?" for mark in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _seconds(microseconds: int) -> int:
    return -(-microseconds // _US_PER_S)
