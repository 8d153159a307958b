"""What this instance knows of one counter of the store: hits leased ahead, and that it is over its limit.

Both save the trip to the store and neither weakens the limit (docs/limits.md): leased hits are counted when
they are taken and spent in the window that counted them, and what is over stays over until hits leave the
window, which the store said when.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from sentinel_ext.core.ratelimit.asks import FIXED, GCRA, SLIDING, CounterAsk, GiveBack
from sentinel_ext.core.ratelimit.rules import Algorithm
from sentinel_ext.core.window import SUBWINDOWS, Ring

if TYPE_CHECKING:
    from sentinel_ext.core.ratelimit.asks import CounterAnswer
    from sentinel_ext.core.ratelimit.rules import Limit

KINDS = {Algorithm.FIXED_WINDOW: FIXED, Algorithm.SLIDING_WINDOW: SLIDING, Algorithm.GCRA: GCRA}
# A lease is for the hits of so long; what is not spent by then goes back.
LEASE_NS = 200_000_000
# Below so many hits in that time a trip for each costs less than what a lease would strand.
MIN_LEASE = 8
# The most that one lease takes: 5 million hits per second.
MAX_LEASE = 1_000_000
# How often a counter's rate is measured at least.
_RATE_NS = 20_000_000
# A refund or reset by another instance shows after so long at the latest.
OVER_NS = 500_000_000
_NS_PER_US = 1000

# One counter's part in a decision: (over, used, reset_us, retry_us, answered from what is known).
PartResult = tuple[bool, int, int, int, bool]


class Known:
    """Belongs to one event loop. Times are nanoseconds of its clock.

    Attributes:
        key: of the store.
        limit: as the rules in force say.
        lease: hits that may still be spent, until `lease_until_ns`, and `slot` that counted them.
        used: counted in the store when it last answered, all leases included; less what this instance has
            left of its own it is what is used up.
        reset_ns: when the numbers were to change.
        over_hits: requests of this many hits or more do not fit, until `over_until_ns`.
        seen: hits asked for since `since_ns`.
        asking_until_ns: an ask for a lease is under way, a second one would take as much again; unless no
            word of it comes.
        is_news: the store answered since this instance last counted alone.
    """

    __slots__ = (
        "asking_until_ns", "capacity", "is_news", "key", "kind", "lease", "lease_until_ns", "limit",
        "over_hits", "over_until_ns", "rate", "reset_ns", "retry_ns", "ring", "seen", "since_ns", "slot",
        "used",
    )  # fmt: skip

    def __init__(self, key: bytes, limit: Limit, now_ns: int) -> None:
        """Know nothing yet."""
        self.key = key
        self.use(limit)
        self.lease = self.slot = self.used = 0
        self.lease_until_ns = self.reset_ns = self.retry_ns = 0
        self.seen, self.since_ns, self.rate = 0, now_ns, 0.0
        self.asking_until_ns, self.is_news = 0, False
        self.ring: Ring | None = None

    def copy(self) -> Known:
        """Return another that knows the same, to look what would come of it."""
        made = copy.copy(self)
        made.ring = None if self.ring is None else self.ring.copy()
        return made

    def use(self, limit: Limit) -> None:
        """Go by `limit` from now on: what was over may not be any more. Leased hits are counted, and stay."""
        self.limit = limit
        self.kind = KINDS[limit.algorithm]
        self.capacity = limit.capacity
        self.over_hits = self.over_until_ns = 0

    def from_lease(self, now_ns: int) -> PartResult:
        """Return the numbers after leased hits were spent."""
        reset_us = (self.reset_ns - now_ns) // _NS_PER_US
        return False, self.used - self.lease, reset_us if reset_us > 0 else 0, 0, False

    def from_over(self, now_ns: int) -> PartResult:
        """Return the numbers of a request that is known not to fit."""
        reset_us = max(0, self.reset_ns - now_ns) // _NS_PER_US
        return True, max(self.used, self.capacity), reset_us, (self.retry_ns - now_ns) // _NS_PER_US, True

    def unasked(self, now_ns: int) -> PartResult:
        """Return the numbers for a request that is refused anyhow, without counting it."""
        if now_ns >= self.reset_ns:
            return False, 0, 0, 0, False
        return self.from_lease(now_ns)

    def ask(self, plain: CounterAsk, divisor: int, now_ns: int) -> CounterAsk:
        """Return `plain`, or the same with a lease where the rate makes it worth it.

        Args:
            divisor: at most this part of what is free is leased; 0 leases nothing.
        """
        if not divisor or plain.hits <= 0 or self.kind == GCRA:
            return plain
        lease = self._wanted(now_ns)
        if not lease:
            return plain
        return CounterAsk(
            plain.key,
            plain.kind,
            plain.window_us,
            plain.limit,
            plain.burst,
            plain.hits,
            plain.flags,
            lease,
            divisor,
        )

    def _wanted(self, now_ns: int) -> int:
        elapsed = now_ns - self.since_ns
        if elapsed >= _RATE_NS:
            self.rate, self.seen, self.since_ns = self.seen / elapsed, 0, now_ns
        if now_ns < self.asking_until_ns:
            return 0
        wanted = int(self.rate * LEASE_NS)
        if wanted < MIN_LEASE:
            return 0
        self.asking_until_ns = now_ns + LEASE_NS
        return wanted if wanted < MAX_LEASE else MAX_LEASE

    def answered(self, ask: CounterAsk, answer: CounterAnswer, asked_ns: int, now_ns: int) -> GiveBack | None:
        """Take the store's word.

        Args:
            asked_ns: when it was asked: what the store says in "from now on" has begun then at the earliest,
                so a lease ends before its window rather than after it.

        Returns:
            an old lease to give back.
        """
        self.used, self.is_news = answer.used, True
        self.reset_ns = asked_ns + answer.reset_us * _NS_PER_US
        if ask.lease:
            self.asking_until_ns = 0
        if answer.over:
            self._over(ask, answer, asked_ns)
        elif ask.hits < 0:
            self.over_until_ns = 0
        if not answer.leased:
            return None
        old = None
        if self.lease and (self.slot != answer.slot or now_ns >= self.lease_until_ns):
            old = self.take_lease()
        self.lease += answer.leased
        self.slot = answer.slot
        self.lease_until_ns = min(asked_ns + answer.fresh_us * _NS_PER_US, now_ns + LEASE_NS)
        return old

    def _over(self, ask: CounterAsk, answer: CounterAnswer, asked_ns: int) -> None:
        self.retry_ns = asked_ns + answer.retry_us * _NS_PER_US
        self.over_until_ns = min(self.retry_ns, asked_ns + OVER_NS)
        # In a fixed window nothing leaves before its end: whatever does not fit now will not. Elsewhere fewer
        # hits may fit earlier.
        free = self.capacity - answer.used
        self.over_hits = max(0, free + 1) if self.kind == FIXED else max(1, ask.hits)

    def take_lease(self) -> GiveBack | None:
        """End the lease; return what goes back to the store."""
        hits, self.lease, self.lease_until_ns = self.lease, 0, 0
        if not hits:
            return None
        limit = self.limit
        self.used -= hits
        return GiveBack(self.key, self.kind, limit.window_us, limit.requests, self.slot, hits)

    def put_back(self, hits: int, slot: int) -> GiveBack | None:
        """Take back leased hits that were not used after all; return what the store must hear of."""
        if self.lease_until_ns and slot == self.slot:
            self.lease += hits
            return None
        limit = self.limit
        return GiveBack(self.key, self.kind, limit.window_us, limit.requests, slot, hits)

    def locally(self, hits: int, instances: int, now_ns: int) -> PartResult:
        """Count on this instance alone while the store cannot answer: its share, in a sliding window.

        The share is limit / instances, at least 1. What the store had counted in a window that still runs
        counts in proportion.
        """
        limit, now_us = self.limit, now_ns // _NS_PER_US
        share = max(1, limit.requests // max(1, instances)) if limit.requests else 0
        sub_us = limit.window_us // SUBWINDOWS
        if self.ring is None or self.ring.sub_us != sub_us:
            self.ring = Ring(sub_us, now_us)
        if self.is_news and now_ns < self.reset_ns:
            # Only what is not counted here already: a store that comes and goes must not fill the window.
            part = min(share, -(-max(0, self.used - self.lease) // max(1, instances)))
            self.ring.add(max(0, part - self.ring.acquire(share, 0, 1, now_us)[1]), now_us)
        self.is_news = False
        granted, used, reset_us, retry_us, _ = self.ring.acquire(share, max(0, hits), 1, now_us)
        # In the fleet's numbers, so that `remaining` does not jump with the store.
        return not granted, limit.requests - (share - used), reset_us, retry_us, False
