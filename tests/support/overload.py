"""Overload control and a breaker in the states that a test wants, reached as instances reach them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.build import NS_PER_MS, NS_PER_S, make_policy

from sentinel_ext.core.breaker import BreakerOptions, CircuitState, Force, TripReason, View
from sentinel_ext.core.controller import Controller
from sentinel_ext.core.ended import Ended, Outcome, parse_ticket
from sentinel_ext.core.model import Tier
from sentinel_ext.core.policy import UpstreamRules
from sentinel_ext.core.report import Shared

if TYPE_CHECKING:
    from sentinel_ext.core.circuit import Circuit
    from sentinel_ext.core.controller import Protected
    from sentinel_ext.core.policy import Policy

START_NS = 1_000 * NS_PER_S
UP = "default"
CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
NOBODY = Shared(tier_share=(0.0, 0.0, 0.0))
BREAKER = BreakerOptions(consecutive_failures=5, min_requests=20, half_open_max=2, probe_ttl_ms=31_000)
RULES = UpstreamRules(slo_us=200_000, timeout_us=1_000_000, slow_us=500_000, breaker=BREAKER)


def ms(milliseconds: float) -> int:
    return START_NS + round(milliseconds * NS_PER_MS)


def make_controller(policy: Policy | None = None, instance: str = "i1") -> Controller:
    return Controller(instance, policy or make_policy(default_upstream=RULES), START_NS)


def shed_all(controller: Controller, upstream: str = UP) -> Protected:
    """Let the upstream's fair share be nothing, for every tier."""
    protected = controller.upstream(upstream)
    protected.load.adopt(NOBODY)
    return protected


def circuit_of(controller: Controller, upstream: str = UP) -> Circuit:
    circuit = controller.upstream(upstream).circuit
    assert circuit is not None
    return circuit


def see(controller: Controller, view: View, upstream: str = UP, now_ns: int = START_NS) -> Circuit:
    """Have the shared breaker look like `view`."""
    circuit = circuit_of(controller, upstream)
    circuit.adopt(view, now_ns)
    controller.changed(controller.upstream(upstream))
    return circuit


def opened(retry_ms: int = 4_000, epoch: int = 8, forced: Force = Force.AUTO) -> View:
    return View(OPEN, epoch, retry_ms, forced, TripReason.FAILURE_RATE)


def trying(epoch: int = 9, permits: int = 0) -> View:
    return View(HALF_OPEN, epoch, permits=permits)


def end_of(
    ticket: str,
    outcome: Outcome = Outcome.OK,
    latency_us: int | None = 5_000,
    *,
    tier: Tier = Tier.STANDARD,
    upstream: str = UP,
) -> Ended:
    parsed = parse_ticket(ticket)
    assert parsed is not None, ticket
    return Ended("acme", tier, upstream, parsed, outcome, latency_us)
