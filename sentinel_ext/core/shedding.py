"""Stages 3 and 4 on the request path: tier admission, and the upstream's circuit breaker. Local, no I/O.

Only a half-open breaker needs the store, for a permit: then the hold says so, and the engine asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.controller import Protected
from sentinel_ext.core.decision import Decision, Reason, ShadowDenial
from sentinel_ext.core.flight import Counts
from sentinel_ext.core.model import Mode, Stage

if TYPE_CHECKING:
    from sentinel_ext.core.circuit import Circuit
    from sentinel_ext.core.controller import Controller
    from sentinel_ext.core.identify import Check
    from sentinel_ext.core.policy import Policy

# When a shed request should come again, by tier: who is shed first waits longest. Spread over a factor of
# two, so that those who were shed together do not come back together.
SHED_RETRY_MS = (1_000, 4_000, 15_000)
# A stage that only watches, or not even that, must not lower anybody's limit either.
_NO_RATES: dict[str, float] = {}
_ENFORCE, _OFF = Mode.ENFORCE, Mode.OFF  # as in pipeline.py
_SHED = ShadowDenial(Stage.PRESSURE, Reason.SHED)
_CIRCUIT_OPEN = ShadowDenial(Stage.BREAKER, Reason.CIRCUIT_OPEN)


class Hold(msgspec.Struct, gc=False):
    """What an admitted request holds until it has gone out, or is refused after all.

    Attributes:
        protected: its upstream.
        counts: of the generation in which it started.
        ticket: what ties its end to its start.
        rates: tenants whose limit follows the fill, and the rate it follows.
        shadow: what these stages would have refused.
        wants_permit: a half-open breaker must be asked, and a place among those who ask is reserved; False
            from the moment it is asked. `permit_settled` follows.
    """

    protected: Protected
    counts: Counts
    ticket: str
    rates: dict[str, float]
    shadow: tuple[ShadowDenial, ...] = ()
    wants_permit: bool = False


class Shedding:
    """Runs the two stages as the policy's modes say."""

    __slots__ = ("_breaker", "_controller", "_pressure")

    def __init__(self, policy: Policy, controller: Controller) -> None:
        """Take the modes from `policy`."""
        self._pressure = policy.mode(Stage.PRESSURE)
        self._breaker = policy.mode(Stage.BREAKER)
        self._controller = controller

    def admit(self, check: Check, shadow: tuple[ShadowDenial, ...], now_ns: int) -> Decision | Hold:
        """Start the request at its upstream, or refuse it; `shadow` is what earlier stages would refuse."""
        name, controller = check.upstream, self._controller
        protected = controller.upstreams.get(name) or controller.upstream(name)
        load, tenant = protected.load, check.tenant
        plan, tier = tenant.plan, tenant.tier
        own: tuple[ShadowDenial, ...] = ()
        if self._pressure is _OFF:
            counts = load.start(tenant.name, tier, plan.weight, plan.guaranteed_per_s)
        else:
            admitted = load.admit(tenant.name, tier, plan.weight, plan.guaranteed_per_s)
            if admitted is None:
                key = (tier, load.cause)
                protected.sheds[key] = protected.sheds.get(key, 0) + 1
                if self._pressure is Mode.ENFORCE:
                    self._controller.hearing.denials += 1
                    return _shed(check, tier, shadow)
                own = (_SHED,)
                load.traffic.now.admitted += 1  # it goes out all the same
                admitted = load.flight.start(tier)
            counts = admitted
        rates = load.shared.rates if self._pressure is _ENFORCE else _NO_RATES
        hold = Hold(protected, counts, protected.ticket, rates, own)
        circuit = protected.circuit
        if circuit is None or circuit.is_closed:
            return hold
        return self._half_open(check, hold, circuit, shadow, now_ns)

    def _half_open(
        self, check: Check, hold: Hold, circuit: Circuit, shadow: tuple[ShadowDenial, ...], now_ns: int
    ) -> Decision | Hold:
        """The breaker is not closed: refuse, or have the hold ask for a permit."""
        if circuit.wants_permit(check.tenant.tier == 0, now_ns):
            hold.wants_permit = True
        elif self._breaker is Mode.ENFORCE:
            self.withdraw(check, hold)
            return self._refused(check, circuit, (*shadow, *hold.shadow), now_ns)
        else:
            hold.shadow = (*hold.shadow, _CIRCUIT_OPEN)
        return hold

    def permit_settled(
        self, check: Check, hold: Hold, passed: Decision, permit: str, now_ns: int
    ) -> tuple[Decision, bool]:
        """Decide on a request whose permit was asked for.

        Args:
            passed: what the stages before decided.
            permit: that was granted; "" when none was.

        Returns:
            the decision, and whether the request goes out.
        """
        circuit = hold.protected.circuit
        if circuit is None or (not permit and circuit.is_closed):
            return passed, True  # it has closed meanwhile
        if permit:
            start = hold.ticket.rpartition(".")[0]
            ticket = f"{start}.{circuit.epoch:x}.{permit}"
            return msgspec.structs.replace(passed, stage=Stage.BREAKER, ticket=ticket), True
        if self._breaker is not Mode.ENFORCE:
            return msgspec.structs.replace(passed, shadow=(*passed.shadow, _CIRCUIT_OPEN)), True
        self.withdraw(check, hold)
        return self._refused(check, circuit, passed.shadow, now_ns), False

    def withdraw(self, check: Check, hold: Hold) -> None:
        """Give back the place in flight of a request that does not go out."""
        hold.protected.load.withdraw(check.tenant.name, check.tenant.tier, hold.counts)
        if hold.wants_permit and hold.protected.circuit is not None:
            hold.wants_permit = False
            hold.protected.circuit.permit_failed("")  # its place among those who ask is free again

    def _refused(
        self, check: Check, circuit: Circuit, shadow: tuple[ShadowDenial, ...], now_ns: int
    ) -> Decision:
        self._controller.hearing.denials += 1
        retry_ms = max(1, circuit.refusal_ms(now_ns))
        return Decision(check, False, Stage.BREAKER, Reason.CIRCUIT_OPEN, retry_ms=retry_ms, shadow=shadow)


def _shed(check: Check, tier: int, shadow: tuple[ShadowDenial, ...]) -> Decision:
    retry_ms = shed_retry_ms(tier, check.decision_id)
    return Decision(check, False, Stage.PRESSURE, Reason.SHED, retry_ms=retry_ms, shadow=shadow)


def shed_retry_ms(tier: int, decision_id: str) -> int:
    """Say when a shed request should come again.

    Chance without a source of it: the decision id is random, and tells the same to whoever looks it up.
    """
    return int(SHED_RETRY_MS[tier] * (1 + int(decision_id[:4], 16) / 0x10000))
