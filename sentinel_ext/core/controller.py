"""One instance's overload control over all upstreams: what the request path asks and the access log feeds.

An end may be heard by another instance than the one that decided (Envoy spreads calls over instances, its log
stream ends at one of them). Its outcome counts where it is heard, since outcomes are summed over the fleet;
that it has ended is passed on to the instance whose ticket it bears.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.core.circuit import Circuit
from sentinel_ext.core.ended import Ended, Outcome, Result
from sentinel_ext.core.hearing import Hearing
from sentinel_ext.core.identify import DEFAULT_UPSTREAM
from sentinel_ext.core.model import TIER_INDEX, Mode, Stage
from sentinel_ext.core.signals import LevelMeter, LocalSignals, local_ramps, soft_max
from sentinel_ext.core.upstream import Upstream, UpstreamOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sentinel_ext.core.circuit import Transition
    from sentinel_ext.core.guard import ShedCause
    from sentinel_ext.core.policy import Policy, UpstreamRules

# Names come from routes, so there are few; what is beyond shares one entry under this name.
MAX_UPSTREAMS = 256
OTHER = "other"
# How often Envoy sends its log in the configurations that we render.
FLUSH_MS = 100.0
# Ends for other instances that wait for the next report; beyond it they expire there like lost entries.
MAX_ELSEWHERE = 65_536
# Instances whose ends wait, for each upstream. Each costs Redis 3.2 µs at the next report: 1.6 ms at most.
MAX_INSTANCES = 512
# Below this the event loop keeps up: others on the machine may be pressed, but not this instance.
LAGGING = 0.25

_IGNORED, _OVERFLOW, _OK = Outcome.IGNORED, Outcome.OVERFLOW, Outcome.OK
# (generation, tier) -> how many
Ends = dict[tuple[int, int], int]


class Protected:
    """One upstream: its load, its breaker, and the ticket that its requests bear.

    Attributes:
        ticket: text of the ticket without a permit; the same for all requests of a tick.
        elsewhere: instance -> ends of requests that it decided on, heard here.
        sheds: refusals of the tier stage by tier and cause.
    """

    __slots__ = ("circuit", "elsewhere", "load", "name", "rules", "sheds", "ticket")

    def __init__(self, name: str, rules: UpstreamRules, circuit: Circuit | None, now_ns: int) -> None:
        """Start with nothing known."""
        self.name = name
        self.rules = rules
        self.load = Upstream(name, _options(rules), now_ns)
        self.circuit = circuit
        self.ticket = ""
        self.elsewhere: dict[str, Ends] = {}
        self.sheds: dict[tuple[int, ShedCause], int] = {}

    @property
    def is_open(self) -> bool:
        """Its breaker refuses, or only tries."""
        return self.circuit is not None and not self.circuit.is_closed

    @property
    def epoch(self) -> int:
        """Of the breaker; 0 without one."""
        return 0 if self.circuit is None else self.circuit.epoch


class Controller:
    """Belongs to one event loop.

    Attributes:
        instance: names this process in tickets: letters and digits.
        upstreams: by name, in the order in which they were first seen.
        hearing: of the access log.
        local: this instance's own pressure, 0 to 100, and `local_signals` the ramps behind it.
        level: of the highest pressure, for people.
        dropped_ends: ends for other instances that found no place to wait.
    """

    def __init__(self, instance: str, policy: Policy, now_ns: int) -> None:
        """Know no upstream yet."""
        self.instance = instance
        self.upstreams: dict[str, Protected] = {}
        self.hearing = Hearing(FLUSH_MS)
        self.local = 0.0
        self.local_signals: Mapping[str, float] = {}
        self.level = LevelMeter()
        self.dropped_ends = 0
        self._elsewhere = 0
        self._policy = policy
        self._has_breakers = policy.mode(Stage.BREAKER) is not Mode.OFF
        self._now_ns = now_ns

    def replace(self, policy: Policy) -> None:
        """Go by another policy: upstreams that are known get its rules at once, breakers its options."""
        self._policy = policy
        self._has_breakers = policy.mode(Stage.BREAKER) is not Mode.OFF
        for name, protected in self.upstreams.items():
            protected.rules = rules = policy.upstream(name)
            protected.load.configure(_options(rules))
            if rules.breaker is None or not self._has_breakers:
                protected.circuit = None
            elif protected.circuit is None:
                protected.circuit = Circuit(rules.breaker, self._now_ns)
            else:
                protected.circuit.options = rules.breaker
            self._write_ticket(protected)

    # The request path.

    def upstream(self, name: str) -> Protected:
        """Return the upstream, made on first sight."""
        return self.upstreams.get(name) or self._first_seen(name)

    def _first_seen(self, name: str) -> Protected:
        if len(self.upstreams) >= MAX_UPSTREAMS - 1 and name != OTHER:
            return self.upstream(OTHER)
        rules = self._policy.upstream(name)
        circuit = None
        if rules.breaker is not None and self._has_breakers:
            circuit = Circuit(rules.breaker, self._now_ns)
        protected = self.upstreams[name] = Protected(name, rules, circuit, self._now_ns)
        self._write_ticket(protected)
        return protected

    # What the access log says.

    def heard(self, stream: str, entries: int, now_ns: int) -> None:
        """Note a message of the access log."""
        self.hearing.heard(stream, entries, now_ns)

    def ended(self, ended: Ended, now_ns: int) -> Result:
        """Count a request that is over."""
        protected = self.upstreams.get(ended.upstream) or self._heard_of(ended.upstream)
        if protected is None:
            return Result.UNMATCHED
        ticket, tier = ended.ticket, TIER_INDEX[ended.tier]
        is_ours = ticket.instance == self.instance
        matched = protected.load.end(ticket.generation, tier, ended.outcome, ended.latency_us, ours=is_ours)
        if is_ours and not matched:
            return Result.EXPIRED_PERMIT if ticket.permit else Result.UNMATCHED
        if not is_ours:
            self._pass_on(protected, ticket.instance, (ticket.generation, tier))
        if protected.circuit is not None:
            _tell_circuit(protected.circuit, protected.rules, ended, now_ns, is_ours=is_ours)
        return Result.COUNTED

    def _heard_of(self, name: str) -> Protected | None:
        """An upstream that only others have decided for: one of the policy, or whatever shares an entry.

        A name that a log invents must not take a place in the table.
        """
        if name == DEFAULT_UPSTREAM or name in self._policy.upstreams:
            return self.upstream(name)
        return self.upstreams.get(OTHER)

    def _pass_on(self, protected: Protected, instance: str, key: tuple[int, int]) -> None:
        ends = protected.elsewhere.get(instance)
        if ends is None and len(protected.elsewhere) < MAX_INSTANCES and self._elsewhere < MAX_ELSEWHERE:
            ends = protected.elsewhere[instance] = {}
        if ends is None or (key not in ends and self._elsewhere >= MAX_ELSEWHERE):
            self.dropped_ends += 1
            return
        if key not in ends:
            self._elsewhere += 1
        ends[key] = ends.get(key, 0) + 1

    # Beside the request path.

    def tick(self, signals: LocalSignals, now_ns: int) -> list[tuple[Protected, Transition]]:
        """Move time on; return what breakers did by time alone."""
        self._now_ns = now_ns
        self.hearing.tick(now_ns)
        self.local_signals = local_ramps(signals)
        self.local = soft_max(self.local_signals.values())
        # Machine signals explain, the event loop's lag proves: without it nobody is shed for them.
        acts = self.local if self.local_signals.get("loop_lag", 0.0) >= LAGGING else 0.0
        changed = []
        for protected in self.upstreams.values():
            protected.load.tick(self.hearing, acts, now_ns)
            if protected.circuit is not None and (transition := protected.circuit.tick(now_ns)) is not None:
                changed.append((protected, transition))
            self._write_ticket(protected)
        self.level.update(self.pressure, now_ns)
        return changed

    def take_elsewhere(self, protected: Protected) -> dict[str, Ends]:
        """Return the ends to pass on; they are told once."""
        ends, protected.elsewhere = protected.elsewhere, {}
        self._elsewhere -= sum(map(len, ends.values()))
        return ends

    def told_elsewhere(self, protected: Protected, ends: Sequence[tuple[int, int, int]], now_ns: int) -> None:
        """Take (generation, tier, count) of requests that started here and ended elsewhere."""
        if ends:
            self.hearing.told(now_ns)
        for generation, tier, count in ends:
            if 0 <= tier < len(TIER_INDEX) and count > 0:
                protected.load.ended_elsewhere(generation, tier, count)

    @property
    def pressure(self) -> float:
        """The global score: of the upstreams by their traffic, or of the instances if that is more."""
        shared = [protected.load.shared for protected in self.upstreams.values()]
        busiest = max((state.offered for state in shared), default=0.0)
        if not busiest:
            return self.local
        by_traffic = max(state.pressure * state.offered / busiest for state in shared)
        return max(by_traffic, *(state.local * state.offered / busiest for state in shared))

    def changed(self, protected: Protected) -> None:
        """A breaker has a new epoch: requests from now on bear it."""
        self._write_ticket(protected)

    def _write_ticket(self, protected: Protected) -> None:
        protected.ticket = f"{self.instance}.{protected.load.flight.generation:x}.{protected.epoch:x}"


def _options(rules: UpstreamRules) -> UpstreamOptions:
    return UpstreamOptions(rules.slo_us / 1000, rules.timeout_us / 1000, FLUSH_MS)


def _tell_circuit(
    circuit: Circuit, rules: UpstreamRules, ended: Ended, now_ns: int, *, is_ours: bool
) -> None:
    ticket, outcome = ended.ticket, ended.outcome
    if outcome is _OVERFLOW and ticket.permit:  # it was never sent
        if is_ours:
            circuit.release(ticket.permit, now_ns)
        else:
            circuit.ended_elsewhere(ticket.epoch, ticket.permit, None)
    if outcome is _OVERFLOW or outcome is _IGNORED:
        # A probe whose client left was sent, and says nothing: it expires, or a hanging upstream got ever
        # more of them.
        return
    slow_us, latency_us = rules.slow_us, ended.latency_us
    is_slow = slow_us is not None and latency_us is not None and latency_us > slow_us
    if ticket.permit and not is_ours:
        circuit.ended_elsewhere(ticket.epoch, ticket.permit, outcome is _OK and not is_slow)
    else:
        circuit.ended(ticket.epoch, ticket.permit, outcome is _OK, is_slow, now_ns)
