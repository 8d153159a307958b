"""What a tenant's next request may expect of an upstream: what `admit` would do, and nothing changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.guard import ShedCause

if TYPE_CHECKING:
    from sentinel_ext.core.upstream import Upstream


class Outlook(msgspec.Struct, frozen=True):
    """Of one tenant at one upstream.

    Attributes:
        share: which share of the tenant's requests passes the fill, 0 to 1.
        cause: what sheds; None: nothing does.
        in_flight: from this instance, with those given up that may still be worked on.
        places: in flight for the tier at this instance; None while the guard is not active.
        is_full: no place is free: all are shed.
        passes: the very next request does; shares are served evenly, not by lot.
    """

    share: float
    cause: ShedCause | None
    in_flight: float
    places: float | None
    is_full: bool
    passes: bool

    @property
    def shed_probability(self) -> float:
        """The chance that a request is refused."""
        return 1.0 if self.is_full else 1.0 - max(0.0, min(1.0, self.share))


def look_ahead(load: Upstream, name: str, tier: int, guaranteed: float = 0.0) -> Outlook:
    """Say what `load.admit` would make of a request of tenant `name`; `guaranteed` is its contract."""
    customers = load.customers
    share, credit = customers.look(name, tier, guaranteed)
    places = None if load.limits is None else load.limits[tier]
    in_flight = load.flight.total + load.dead.count
    is_full = places is not None and in_flight >= places
    cause = None
    if is_full and share >= 1.0:
        cause = ShedCause.GUARD
    elif share < 1.0:
        cause = ShedCause.LOCAL if customers.backstop[tier] > 0 else ShedCause.SHARE
    passes = not is_full and (share >= 1.0 or credit + share >= 1.0)
    return Outlook(share, cause, in_flight, places, is_full, passes)
