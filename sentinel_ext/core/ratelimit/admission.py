"""Rate limits that have a tier take part in shedding: asked of the upstream's load, like Check's stage 3.

For proxies that ask RateLimitService alone. A request that passes holds a place in flight until the access
log tells how it ended, by the ticket that goes out as dynamic metadata.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sentinel_ext.core.controller import Protected
from sentinel_ext.core.flight import Counts
from sentinel_ext.core.model import TIER_INDEX
from sentinel_ext.core.ratelimit.plan import Shed
from sentinel_ext.core.shedding import SHED_RETRY_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.core.controller import Controller

_TIERS = {index: tier for tier, index in TIER_INDEX.items()}


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """A request's place in flight."""

    shed: Shed
    protected: Protected
    counts: Counts
    ticket: str
    decision_id: str


class Admission:
    """Asks the controller's loads."""

    __slots__ = ("_controller", "_random_hex")

    def __init__(self, controller: Controller, random_hex: Callable[[int], str]) -> None:
        """Ask `controller`; `random_hex(n)` returns n random bytes as hex."""
        self._controller = controller
        self._random_hex = random_hex

    def admit(self, shed: Shed) -> Admitted | int:
        """Start the request at its upstream, or return after how many milliseconds it should come again."""
        protected = self._controller.upstream(shed.upstream)
        decision_id = self._random_hex(8)
        counts = protected.load.admit(shed.name, shed.tier)
        if counts is None:
            key = (shed.tier, protected.load.cause)
            protected.sheds[key] = protected.sheds.get(key, 0) + 1
            # Spread over a factor of two, as core/shedding.py does.
            return int(SHED_RETRY_MS[shed.tier] * (1 + int(decision_id[:4], 16) / 0x10000))
        return Admitted(shed, protected, counts, protected.ticket, decision_id)

    def withdraw(self, admitted: Admitted) -> None:
        """The request does not go out after all."""
        shed = admitted.shed
        admitted.protected.load.withdraw(shed.name, shed.tier, admitted.counts)

    def ticket(self, admitted: Admitted) -> dict[str, Any]:
        """Return what must come back with the access log (services/log_entry.py)."""
        shed = admitted.shed
        return {
            "decision_id": admitted.decision_id,
            "tenant": shed.name,
            "tier": _TIERS[shed.tier].value,
            "upstream": shed.upstream,
            "ticket": admitted.ticket,
        }
