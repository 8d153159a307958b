"""The values that travel through a decision. All frozen; times in the unit their name says."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Word(StrEnum):
    """A word of a fixed set. Hashed in C: Enum's own hash is a Python call, three per request in metrics."""

    __hash__ = str.__hash__


class Tier(Word):
    """What a plan's tenants may expect when the system is pressed (DESIGN §3.2)."""

    VITAL = "vital"
    STANDARD = "standard"
    ECONOMY = "economy"


# Their order: who is served first, and shed last.
TIER_INDEX = {Tier.VITAL: 0, Tier.STANDARD: 1, Tier.ECONOMY: 2}


class Stage(Word):
    """One step of the pipeline, in the order of DESIGN §3."""

    IDENTIFY = "identify"
    BUCKET = "bucket"
    WINDOW = "window"
    PRESSURE = "pressure"
    BREAKER = "breaker"


class Mode(Word):
    """How a stage runs: enforce; shadow (decides and counts, lets pass); off."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"


class FailureMode(Word):
    """What a plan does while the store cannot answer (DESIGN §3.1)."""

    OPEN = "open"
    CLOSED = "closed"
    LOCAL = "local"


class Plan(msgspec.Struct, frozen=True, gc=False):
    """What a tenant bought.

    Attributes:
        name: the plan's name in the policy file; for a tenant with its own numbers, the tenant's pattern.
        limit: admitted hits per window over all instances; 0 denies all, None is unlimited.
        window_us: length of the limit window, microseconds.
        burst: size of the local token bucket, tokens; None switches the bucket off for the plan.
        refill_nano: bucket refill in billionths of a token per second, so that arithmetic stays integer.
        on_store_failure: what happens while the store cannot answer.
        weight: part in what is shared out among the tenants of a tier.
        guaranteed_per_s: requests per second that each tenant is served before anybody else; 0 without a
            contract, as always below tier vital.
    """

    name: str
    tier: Tier
    limit: int | None
    window_us: int
    burst: int | None
    refill_nano: int
    on_store_failure: FailureMode
    weight: int = 1
    guaranteed_per_s: float = 0.0
