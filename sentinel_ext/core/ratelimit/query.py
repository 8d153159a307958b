"""One RateLimitRequest as core sees it: no protobuf. Strings are hostile."""

from __future__ import annotations

import msgspec

from sentinel_ext.core.ratelimit.rules import Unit


class Override(msgspec.Struct, frozen=True, gc=False):
    """A limit that the request brings along (RateLimitDescriptor.limit).

    Attributes:
        unit: UNKNOWN is refused as a request error.
    """

    requests: int
    unit: Unit


class Descriptor(msgspec.Struct, frozen=True):
    """One descriptor of a request.

    Attributes:
        entries: (key, value), in order; empty matches nothing.
        hits: None takes the request's; 0 only looks; negative gives hits back.
    """

    entries: tuple[tuple[str, str], ...]
    hits: int | None = None
    override: Override | None = None


class Query(msgspec.Struct, frozen=True):
    """A whole request.

    Attributes:
        hits: cost of each descriptor that does not name its own; at least 1.
        addend: what the request said of it, 0 for nothing; only echoed in metadata.
    """

    domain: str
    descriptors: tuple[Descriptor, ...]
    hits: int = 1
    addend: int = 0
