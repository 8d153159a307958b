"""How instances keep in step: the periods, and what one does that cannot reach the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.law import next_shared

if TYPE_CHECKING:
    from sentinel_ext.core.pressure import LawOptions
    from sentinel_ext.core.report import Report, Shared
    from sentinel_ext.core.upstream import Upstream

# Each instance reports this often; what it sees, the others know within two of them.
REPORT_MS = 200.0
# The law runs at most this often over the whole fleet.
LAW_MS = 400.0


def alone(
    upstream: Upstream, report: Report, options: LawOptions, now_ms: float, *, is_open: bool = False
) -> Shared:
    """Return the next state of an instance without a store: its own counters stand for the fleet's.

    They are scaled by its last known part of the traffic, so that the credit goes on meaning all instances
    and each enforces its part of it.
    """
    shared = upstream.shared
    scale = 1 / upstream.share
    alone_now = next_shared(shared, [report], options, now_ms, scale, is_open=is_open)
    return msgspec.structs.replace(alone_now, instances=shared.instances)
