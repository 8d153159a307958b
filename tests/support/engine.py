"""An engine around a scripted store, with what a test asks of it and what its observers were told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Never

from support.fakes import FakeCaller

from sentinel_ext.engine import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fakes import FakeClock, HeldCall, Inbox, ScriptedStore

    from sentinel_ext.core.decision import Decision
    from sentinel_ext.core.tenant import Tenant
    from sentinel_ext.engine import Engine

BURST = 20
SLOT = 7


class House:
    """An engine around a scripted store, and what its observers were told."""

    def __init__(self, engine: Engine, store: ScriptedStore, clock: FakeClock) -> None:
        self.engine, self.store, self.clock = engine, store, clock
        self.seen: list[tuple[Decision, int]] = []
        self.faults: list[Exception] = []
        engine.observers = (lambda decision, elapsed_ns: self.seen.append((decision, elapsed_ns)),)
        engine.failed = self.faults.append

    def decide(
        self, inbox: Inbox | Callable[[Decision | None], bool], name: str = "acme"
    ) -> Decision | Waiting:
        return self.engine.decide(FakeCaller({"x-tenant-id": name}), inbox)

    def ticket(self, inbox: Inbox | Callable[[Decision | None], bool], name: str = "acme") -> Waiting:
        ticket = self.decide(inbox, name)
        assert isinstance(ticket, Waiting)
        return ticket

    async def asked(self, inbox: Inbox) -> tuple[Waiting, HeldCall]:
        """Bring a check as far as the store."""
        ticket = self.ticket(inbox)
        return ticket, await self.store.next_call()

    @property
    def tenant(self) -> Tenant:
        return self.engine._tenants.get("acme", self.clock())

    @property
    def tokens(self) -> int:
        assert self.tenant.bucket is not None
        return self.tenant.bucket.tokens


def fails(*_: object) -> Never:
    raise ZeroDivisionError("a bug of ours")
