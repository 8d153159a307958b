"""How a request ended, as an access log told it and core needs it: no protobuf, no socket."""

from __future__ import annotations

import re

import msgspec

from sentinel_ext.core.model import Tier, Word

# instance (1 to 32), generation and epoch in hex (at most 12), permit (at most 32), three separators.
MAX_TICKET_CHARACTERS = 32 + 12 + 12 + 32 + 3

# Exactly what Ticket.__str__ writes: int(text, 16) alone would also take "0x1f", "1F" and leading zeros.
_TICKET = re.compile(
    r"([0-9A-Za-z]{1,32})\.(0|[1-9a-f][0-9a-f]{0,11})\.(0|[1-9a-f][0-9a-f]{0,11})(?:\.([0-9A-Za-z]{1,32}))?"
).fullmatch


class Outcome(Word):
    """What an ended request says about its upstream (overload.md §4.1, §4.4).

    OK also stands for 4xx: the upstream works. OVERFLOW (Envoy's UO) is pressure and no failure of the
    breaker. IGNORED says nothing about the upstream (the client left, no route), but it has ended.
    """

    OK = "ok"
    FAILED = "failed"
    OVERFLOW = "overflow"
    IGNORED = "ignored"


class Result(Word):
    """What became of one access log entry; each entry has exactly one. A metric label.

    COUNTED: a request that we admitted has ended, and its latency is known or honestly absent.
    BAD_DURATION: likewise, but a time was negative or absurd: it has ended without a latency.
    DENIED: we refused it.
    NO_METADATA: nobody asked us, or our answer did not arrive (failure_mode_allow).
    FOREIGN_METADATA: somebody else's words under our name.
    BAD_TICKET: we admitted it, but what ties its end to its start is missing or not of our making.
    INTERMEDIATE: the request goes on, or this is one attempt of it; its last entry counts.
    DUPLICATE: this decision was told before.
    UNMATCHED: the ticket is good, but whoever keeps the starts does not know it (restarted, expired).
    EXPIRED_PERMIT: likewise, and its permit to try a half-open breaker was given up.
    FAULT: a bug of ours, logged.
    """

    COUNTED = "counted"
    BAD_DURATION = "bad_duration"
    DENIED = "denied"
    NO_METADATA = "no_metadata"
    FOREIGN_METADATA = "foreign_metadata"
    BAD_TICKET = "bad_ticket"
    INTERMEDIATE = "intermediate"
    DUPLICATE = "duplicate"
    UNMATCHED = "unmatched"
    EXPIRED_PERMIT = "expired_permit"
    FAULT = "fault"


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """What a decision sends out and gets back, tying a request's end to its start.

    Attributes:
        instance: the Sentinel that decided.
        generation: when it did, in that instance's own ticks.
        epoch: of the upstream's breaker when it did.
        permit: of a half-open breaker; "" for all but its few probes.
    """

    instance: str
    generation: int
    epoch: int
    permit: str = ""

    def __str__(self) -> str:
        text = f"{self.instance}.{self.generation:x}.{self.epoch:x}"
        return f"{text}.{self.permit}" if self.permit else text


def parse_ticket(text: str) -> Ticket | None:
    """Read a ticket's text; None for anything this code would not have written."""
    match = _TICKET(text)
    if match is None:
        return None
    instance, generation, epoch, permit = match.groups()
    return Ticket(instance, int(generation, 16), int(epoch, 16), permit or "")


class Ended(msgspec.Struct, frozen=True, gc=False):
    """One admitted request that is over.

    Attributes:
        tenant: as the decision named it.
        upstream: as the decision named it.
        latency_us: what the upstream took, microseconds; None when the log did not say, or said nonsense.
    """

    tenant: str
    tier: Tier
    upstream: str
    ticket: Ticket
    outcome: Outcome
    latency_us: int | None
