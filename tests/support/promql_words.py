"""Which values a label may have in a selector: the words of the code that sets it.

Upstreams and Prometheus' own labels may have any; every other label that a selector names has to be here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.core.breaker import CircuitState
from sentinel_ext.core.decision import Reason
from sentinel_ext.core.model import Mode, Stage, Tier
from sentinel_ext.core.ratelimit.outcome import Cause
from sentinel_ext.telemetry.config import OPERATOR, POLICY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    Seen = Mapping[tuple[str, str], AbstractSet[str]]

# A name that somebody chose, or a pattern of such.
FREE = frozenset(
    {"__name__", "job", "instance", "namespace", "domain", "upstream"}
    | {"envoy_cluster_name", "envoy_ext_authz_prefix"}
)
_EVERYWHERE: Mapping[str, AbstractSet[str]] = {
    "tier": set(Tier),
    "stage": set(Stage),
    "mode": set(Mode),
    "to": set(CircuitState),
    "source": {OPERATOR, POLICY},
    "status": {"0", *(f"{hundred}.." for hundred in range(1, 6))},  # Envoy's; 0 where there was no answer
}
# The same label, and other words.
_OTHERS = {
    ("source", "sentinel_identify_problems_total"),
    ("mode", "sentinel_store_fallbacks_total"),
    ("mode", "sentinel_ratelimit_store_fallbacks_total"),
}
_REASONS = ("sentinel_decisions_total", "sentinel_shadow_denials_total")
# Their histograms are printed for all verdicts from the beginning. Bounds and signals are always all there.
_PRINTED = {
    ("sentinel_decisions_total", "verdict"): "sentinel_decision_duration_seconds_count",
    ("sentinel_ratelimit_decisions_total", "verdict"): "sentinel_ratelimit_duration_seconds_count",
}


def words(metric: str, label: str, seen: Seen) -> AbstractSet[str]:
    """Return the values that `label` of `metric` can have; none where nobody says.

    Args:
        seen: values that were printed, by metric and label.
    """
    if label in _EVERYWHERE and (label, metric) not in _OTHERS:
        return _EVERYWHERE[label]
    if label == "reason" and metric in _REASONS:
        return set(Reason)
    if (label, metric) == ("cause", "sentinel_ratelimit_decisions_total"):
        return set(Cause)
    if label in {"le", "signal", "verdict"}:
        return seen.get((_PRINTED.get((metric, label), metric), label), set())
    return set()
