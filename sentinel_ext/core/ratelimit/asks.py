"""What is asked of the store's counters, and what it answers. One script call carries many requests."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

# Counter kinds, as the script knows them.
FIXED, SLIDING, GCRA = 0, 1, 2
# Over on this counter refuses the request.
BINDING = 1
# Over on all counters with this flag refuses the request.
QUOTA = 2
# The hits are counted even when the request is refused.
COUNT_DENIED = 4
# Answer as if, and write nothing. All requests of a call look, or none.
LOOK = 8
# What a counter can hold and a request can cost: above every limit, far below what a double loses.
MAX_HITS = 2**32


class CounterAsk(msgspec.Struct, frozen=True, gc=False):
    """Count one request's hits on one counter.

    Attributes:
        key: the store's key, hash-tagged.
        kind: FIXED, SLIDING or GCRA.
        window_us: length of the window, microseconds.
        limit: hits per window, 0 to 2^32-1.
        burst: GCRA: the most hits at once; else 0.
        hits: cost; 0 looks without counting; negative gives back, never below nothing counted. At most
            MAX_HITS either way.
        flags: of BINDING, QUOTA, COUNT_DENIED, LOOK.
        lease: hits wanted ahead, to be spent without asking; none are given for GCRA.
        divisor: at most this part of what is free is leased.
    """

    key: bytes
    kind: int
    window_us: int
    limit: int
    burst: int
    hits: int
    flags: int
    lease: int = 0
    divisor: int = 8


# All counters of one request: decided together.
RequestAsk: TypeAlias = tuple[CounterAsk, ...]


class CounterAnswer(msgspec.Struct, frozen=True, gc=False):
    """What became of one CounterAsk.

    Attributes:
        over: these hits do not fit (COUNT_DENIED: did not fit). Hits of 0 or less: more is counted than the
            limit allows; negative hits are never over.
        used: counted after the request, its lease included. GCRA: how much of the burst is in use.
        reset_us: until the window ends (FIXED), the oldest hit leaves (SLIDING), nothing is in use (GCRA).
        retry_us: over: until these hits fit, if nobody else comes.
        leased: hits taken ahead, counted in `used`.
        fresh_us: for how long the leased hits may be spent, from the store's answer on.
        slot: what `GiveBack` names: the window's (FIXED) or sub-window's (SLIDING) number; 0 for GCRA.
        counted: the hits were counted.
    """

    over: bool
    used: int
    reset_us: int
    retry_us: int
    leased: int
    fresh_us: int
    slot: int
    counted: bool


class GiveBack(msgspec.Struct, frozen=True, gc=False):
    """Return counted hits to where they were counted; ignored once that has left the window."""

    key: bytes
    kind: int
    window_us: int
    limit: int
    slot: int
    hits: int
