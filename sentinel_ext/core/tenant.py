"""What this instance remembers of tenants, in a bounded table."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from sentinel_ext.core.keys import hash_tagged
from sentinel_ext.core.model import TIER_INDEX
from sentinel_ext.core.token_bucket import TokenBucket
from sentinel_ext.core.window import SUBWINDOWS, Ring, WindowReply

if TYPE_CHECKING:
    from sentinel_ext.core.model import Plan
    from sentinel_ext.core.policy import Policy

# A tenant costs about 1 KB here, so a client that makes names up can take 32 MB and no more. The least
# recently used goes first: most likely an idle one, whose bucket is full again anyway.
MAX_TENANTS = 32_768


class Tenant:
    """One tenant on this instance: its plan, its bucket, and what the store last said."""

    __slots__ = (
        "_last_reply", "_last_reply_us", "_ring", "_seed", "_seed_slot", "_seeded_from",
        "allowed", "bucket", "denied", "generation", "key", "marked", "marked_ns", "name", "plan", "rate",
        "scaled", "scaled_ns", "sub_us", "tier",
    )  # fmt: skip

    def __init__(self, name: str, plan: Plan, now_ns: int) -> None:
        """Make the state of `name` under `plan`; the bucket starts full."""
        self.name = name
        self.plan = plan
        self.generation = 0
        self.sub_us = plan.window_us // SUBWINDOWS
        self.key = _window_key(name, plan.window_us)
        self.bucket = None if plan.burst is None else TokenBucket(plan.burst, plan.refill_nano, now_ns)
        self.tier = TIER_INDEX[plan.tier]
        # Decided so far; and for the rate, how many when it was measured last (core/usage.py).
        self.allowed = self.denied = self.marked = 0
        self.marked_ns, self.rate = now_ns, 0.0
        # The limit under pressure, while it is not the plan's own (core/scaling.py).
        self.scaled: float | None = None
        self.scaled_ns = 0
        self._ring: Ring | None = None
        self._seed = self._seed_slot = 0
        self._last_reply: WindowReply | None = None
        self._seeded_from: WindowReply | None = None
        self._last_reply_us = 0

    def under(self, plan: Plan, now_ns: int) -> Tenant:
        """Return the same tenant under another plan: its bucket goes on, and its window if that is as long.

        A new object: requests under way end under the plan that they began with.
        """
        made = Tenant(self.name, plan, now_ns)
        made.allowed, made.denied = self.allowed, self.denied
        made.marked, made.marked_ns, made.rate = self.marked, self.marked_ns, self.rate
        if self.bucket is not None and plan.burst is not None:
            made.bucket = self.bucket
            made.bucket.resize(plan.burst, plan.refill_nano, now_ns)
        if made.key == self.key:
            made._ring, made._seed, made._seed_slot = self._ring, self._seed, self._seed_slot
            made._last_reply, made._last_reply_us = self._last_reply, self._last_reply_us
            made._seeded_from = self._seeded_from
        if self.scaled is not None and plan.limit is not None:
            # Under pressure a new plan must not let a whole window through before the limit has fallen again.
            same = self.scaled * plan.window_us / self.plan.window_us
            made.scaled, made.scaled_ns = min(same, float(plan.limit)), self.scaled_ns
        return made

    def remember(self, reply: WindowReply, now_ns: int) -> None:
        """Keep the store's last word: a local window starts from it."""
        self._last_reply = reply
        self._last_reply_us = now_ns // 1000

    def last_used(self, now_ns: int) -> int | None:
        """Return the hits that the store last counted in the window; None when that is longer ago."""
        last = self._last_reply
        if last is None or now_ns // 1000 - self._last_reply_us > self.plan.window_us:
            return None
        return last.used

    def look_locally(self, hits: int, instances: int, now_ns: int) -> tuple[WindowReply, int]:
        """Say what `acquire_locally` would, and change nothing."""
        kept = self._ring, self._seed, self._seed_slot, self._seeded_from
        self._ring = None if self._ring is None else self._ring.copy()
        seen = self.acquire_locally(hits, instances, now_ns)
        self._ring, self._seed, self._seed_slot, self._seeded_from = kept
        return seen

    def renew(self, now_ns: int) -> None:
        """Fill the bucket, and forget what was counted in the window."""
        if self.plan.burst is not None:
            self.bucket = TokenBucket(self.plan.burst, self.plan.refill_nano, now_ns)
        self._ring = self._last_reply = self._seeded_from = None
        self._seed = self._seed_slot = self._last_reply_us = 0

    def acquire_locally(self, hits: int, instances: int, now_ns: int) -> tuple[WindowReply, int]:
        """Count in a window of this instance alone, with its share of the limit.

        The share is limit / instances, at least 1 (a limit below the number of instances would otherwise
        refuse everybody). The window starts from what the store last reported, divided likewise: over all
        instances, what was admitted before the store went away still counts.

        Returns:
            (reply, share)
        """
        now_us = now_ns // 1000
        limit = self.plan.limit or 0
        share = max(1, limit // max(1, instances)) if limit else 0
        if self._ring is None:
            self._ring = Ring(self.sub_us, self._last_reply_us or now_us)
        if self._last_reply is not None and self._last_reply is not self._seeded_from:
            self._seed_from(self._ring, self._last_reply, instances)
        granted, used, reset_us, retry_us, slot = self._ring.acquire(share, hits, 1, now_us)
        return WindowReply(granted == 1, used, reset_us, retry_us, slot), share

    def _seed_from(self, ring: Ring, last: WindowReply, instances: int) -> None:
        """Put this instance's part of the store's last count in the place of the part it had before.

        What the instance admitted by itself stays counted: the store never heard of it, and a store that
        comes and goes must not renew the share each time.
        """
        ring.refund(self._seed_slot, self._seed)
        self._seed = -(-last.used // max(1, instances))
        self._seed_slot = ring.add(self._seed, self._last_reply_us)
        self._seeded_from = last


class Tenants:
    """Name → Tenant, least recently used out first."""

    __slots__ = ("_generation", "_max", "_policy", "_table", "evicted")

    def __init__(self, policy: Policy, max_tenants: int = MAX_TENANTS) -> None:
        """Start empty; plans come from `policy`, at most `max_tenants` are remembered."""
        self._policy = policy
        self._table: OrderedDict[str, Tenant] = OrderedDict()
        self._max = max_tenants
        self._generation = 0
        self.evicted = 0

    def replace(self, policy: Policy) -> None:
        """Go by another policy: each tenant when it is next seen, so that a large table costs no pause."""
        self._policy = policy
        self._generation += 1

    def get(self, name: str, now_ns: int) -> Tenant:
        """Return the tenant, made on first sight."""
        tenant = self._table.get(name)
        if tenant is not None:
            if tenant.generation != self._generation:
                tenant = self._renewed(tenant, now_ns)
            self._table.move_to_end(name)
            return tenant
        tenant = self._table[name] = Tenant(name, self._policy.plan_for(name), now_ns)
        tenant.generation = self._generation
        if len(self._table) > self._max:
            self._table.popitem(last=False)
            self.evicted += 1
        return tenant

    def look(self, name: str, now_ns: int) -> tuple[Tenant, bool]:
        """Return the tenant and whether it is known here; an unknown one is made and not remembered."""
        tenant = self._table.get(name)
        if tenant is None:
            return Tenant(name, self._policy.plan_for(name), now_ns), False
        return (tenant if tenant.generation == self._generation else self._renewed(tenant, now_ns)), True

    def all(self) -> list[Tenant]:
        """Return those remembered, the longest known first: 0.2 ms for a full table.

        OrderedDict's own values() would look each name up by its hash: 3 ms, in one piece.
        """
        return list(dict.values(self._table))

    def _renewed(self, tenant: Tenant, now_ns: int) -> Tenant:
        plan = self._policy.plan_for(tenant.name)
        if plan != tenant.plan:
            tenant = self._table[tenant.name] = tenant.under(plan, now_ns)
        tenant.generation = self._generation
        return tenant

    def __len__(self) -> int:
        return len(self._table)


def _window_key(tenant: str, window_us: int) -> bytes:
    return f"sentinel:w:{hash_tagged(tenant)}:{window_us // 1000}".encode()
