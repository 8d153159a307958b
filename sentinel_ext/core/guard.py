"""The in-flight guard: the fast half of overload control, local to an instance.

By Little's law what an upstream can hold at a bearable latency is its completion rate times that latency.
The guard bounds what this instance has in flight to its share of that, within a tick and without asking
anybody; the credit steers the rest (overload.md §0.1: a rate alone serves 82 % of vital at three times the
capacity, with the guard 99.7 %).
"""

from __future__ import annotations

import math

from sentinel_ext.core.fill import TIERS
from sentinel_ext.core.model import Word

# How far each tier may fill the guard: when places are short, economy stops first.
HEADS = (1.0, 0.85, 0.7)
# Queueing that is allowed for beyond the baseline.
SLACK_MS = 100.0


class ShedCause(Word):
    """Which part of the tier stage refused: the fair share, the in-flight guard, or the instance itself."""

    SHARE = "share"
    GUARD = "guard"
    LOCAL = "local"


Limits = tuple[float, float, float]


def limits(peak: float, share: float, baseline_ms: float, flush_ms: float) -> Limits:
    """Return how many requests may be in flight here, by tier.

    Args:
        peak: completions per second of the upstream at its best.
        share: this instance's part of the traffic, 0 to 1.
        flush_ms: how far apart log messages come: ends are heard half of that late on average, and the
            whole of it at worst.
    """
    held_ms = baseline_ms + max(SLACK_MS, baseline_ms, flush_ms / 2) + flush_ms / 2
    places = peak * share * held_ms / 1000
    limit = places + 2 * math.sqrt(places)
    return limit * HEADS[0], limit * HEADS[1], limit * HEADS[2]


class DeadWork:
    """Requests whose caller gave up: the upstream may still be working on them.

    They count as in flight until the upstream has had time for them: at its peak rate less what it completes.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        """None yet."""
        self.count = 0.0

    def drain(self, capacity: float, completed: float, elapsed_s: float) -> None:
        """Let `elapsed_s` pass at an upstream that can do `capacity` and completes `completed` per second."""
        if self.count:
            self.count = max(0.0, self.count - max(0.0, capacity - completed / 2) * elapsed_s)


def backstop(local: float) -> tuple[float, float, float]:
    """Return the share of each tier to shed because this instance itself is short of breath.

    Steep and late: the instance can be pressed by others on its machine, and shedding does not help then.
    """
    economy = _clip((local - 60) / 20) ** 3
    standard = _clip((local - 80) / 15) ** 3
    vital = 0.5 * _clip((local - 98) / 2)
    return vital, standard, economy


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))


assert len(HEADS) == TIERS  # noqa: S101  a table held to the number of tiers
