"""What is in flight at an upstream, counted by when it started: no id is kept, so nothing grows.

Starts are counted in the tick they fall into (a generation); an end names its generation through its
ticket. A generation that is older than any request may be has lost its log entries: what is left of it is
dropped and counted, so a lost entry costs a place for one timeout and not for ever.
"""

from __future__ import annotations

import msgspec

from sentinel_ext.core.fill import TIERS

# So large a part of those that should have ended is a queue, and no chance or long tail; of fewer than these
# nothing is said.
QUEUED, MIN_STARTED = 0.2, 5
# A generation is a local tick.
TICK_NS = 100_000_000
# With ticks of 100 ms: an hour. A longer timeout is cut to this.
MAX_GENERATIONS = 36_000

# Requests that should have ended within the last second tell whether there is a queue.
DUE_GENERATIONS = 10

# By tier, those that have not ended; and behind them how many started in all.
Counts = list[int]
STARTED = TIERS


class Overdue(msgspec.Struct, frozen=True, gc=False):
    """Requests that are in flight for longer than they should.

    Attributes:
        due: those that should have ended within the last second, of `started`.
        older: those that should have ended before that.
    """

    due: int
    started: int
    older: int

    @property
    def is_queue(self) -> bool:
        """Many of those that should be done are not."""
        return self.due >= QUEUED * self.started

    @property
    def stuck(self) -> int:
        """Those older than a queue could explain: younger ones are done, so these are streams or lost."""
        return 0 if self.is_queue or self.started < MIN_STARTED else self.older


class Flight:
    """In-flight requests of one instance at one upstream, by tier.

    Attributes:
        open: requests in flight by tier.
        generation: the number of the current one.
        current: starts of the current generation by tier, minus their ends; the request path adds to it.
        lost: requests whose end was never heard.
    """

    __slots__ = ("_by_generation", "_oldest", "current", "generation", "lost", "open")

    def __init__(self, generation: int) -> None:
        """Start empty in `generation`."""
        self.open: Counts = [0] * TIERS
        self.generation = self._oldest = generation
        self.current: Counts = [0] * (TIERS + 1)
        self._by_generation: dict[int, Counts] = {generation: self.current}
        self.lost = 0

    @property
    def total(self) -> int:
        """All tiers."""
        return sum(self.open)

    def start(self, tier: int) -> Counts:
        """Count a start; return the generation's counts, to be handed to `withdraw` if it does not go out."""
        current = self.current
        current[tier] += 1
        current[STARTED] += 1
        self.open[tier] += 1
        return current

    def withdraw(self, counts: Counts, tier: int) -> None:
        """Take a start back: the request was refused after all, or its caller left before it was sent."""
        if counts[tier] > 0:
            counts[tier] -= 1
            counts[STARTED] -= 1
            self.open[tier] -= 1

    def end(self, generation: int, tier: int, count: int = 1) -> int:
        """Count ends; return how many of them matched a start. The others never started here, or expired."""
        counts = self._by_generation.get(generation)
        if counts is None:
            return 0
        matched = min(count, counts[tier])
        counts[tier] -= matched
        self.open[tier] -= matched
        return matched

    def advance(self, generation: int, lifetime: int) -> int:
        """Begin `generation`; drop those begun more than `lifetime` generations ago. Return what was lost."""
        if generation > self.generation:
            if not self.current[STARTED]:  # an idle upstream keeps nothing
                del self._by_generation[self.generation]
            self.generation = generation
            self.current = self._by_generation[generation] = [0] * (TIERS + 1)
        lost = self.forget_before(generation - min(lifetime, MAX_GENERATIONS))
        self.lost += lost
        return lost

    def overdue(self, age_ns: int) -> Overdue:
        """Look at those that should have ended: they started `age_ns` ago or earlier."""
        newest = self.generation - 1 - -(-age_ns // TICK_NS)
        due = started = older = 0
        for generation, counts in self._by_generation.items():
            if generation > newest:
                break
            left = counts[0] + counts[1] + counts[2]
            if generation > newest - DUE_GENERATIONS:
                due += left
                started += counts[STARTED]
            else:
                older += left
        return Overdue(due, started, older)

    def younger_than(self, age_ns: int) -> int:
        """Return how many are in flight that started less than `age_ns` ago."""
        oldest = self.generation - -(-age_ns // TICK_NS)
        young = 0
        for generation in range(self.generation, oldest - 1, -1):
            counts = self._by_generation.get(generation)
            if counts is not None:
                young += counts[0] + counts[1] + counts[2]
        return young

    def forget_before(self, generation: int) -> int:
        """Drop what started before `generation`; return how many that were. The current one stays."""
        dropped = 0
        while self._oldest < min(generation, self.generation):
            counts = self._by_generation.pop(self._oldest, None)
            if counts is not None:
                for tier in range(TIERS):
                    self.open[tier] -= counts[tier]
                    dropped += counts[tier]
                    counts[tier] = 0  # a withdrawal that still holds them must find nothing
            self._oldest = self._next_oldest()
        return dropped

    def _next_oldest(self) -> int:
        return next(iter(self._by_generation), self.generation)

    def __len__(self) -> int:
        return len(self._by_generation)
