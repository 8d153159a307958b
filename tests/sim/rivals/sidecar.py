"""What the comparators share: counting in-flight requests from starts and access log entries, no exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.policy import Outcome, World


class Counting:
    """Admits everything and counts what is under way."""

    __slots__ = ("inflight",)

    def __init__(self) -> None:
        self.inflight = 0

    def admit(self, tenant: str, tier: str, now: float) -> bool:
        return True

    def start(self, tenant: str, tier: str, now: float) -> object:
        self.inflight += 1
        return None

    def end(self, token: object, outcome: Outcome, latency: float | None, now: float) -> None:
        self.inflight -= 1

    def batch(self, now: float) -> None:
        """An empty batch teaches a comparator nothing."""

    def tick(self, now: float) -> None:
        """Most comparators act on samples only."""


class Alone:
    """A policy whose sidecars do not know each other."""

    period = 1.0

    def __init__(self, name: str, sidecars: list[Counting]) -> None:
        self.name = name
        self.sidecars = sidecars

    def exchange(self, now: float, reachable: bool) -> None:
        """Nothing is shared."""


def alone(name: str, sidecar: Callable[[World], Counting]) -> Callable[[World], Alone]:
    """Make a policy of one independent sidecar per instance."""

    def make(world: World) -> Alone:
        return Alone(name, [sidecar(world) for _ in range(world.instances)])

    return make
