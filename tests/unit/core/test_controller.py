"""One instance over all upstreams: ends are tied to starts, odd ones move nothing, and no table grows."""

from __future__ import annotations

import pytest
from support.build import NS_PER_S, make_policy
from support.overload import (
    BREAKER,
    RULES,
    START_NS,
    UP,
    circuit_of,
    end_of,
    make_controller,
    ms,
    opened,
    see,
    trying,
)

from sentinel_ext.core.breaker import CircuitState, View
from sentinel_ext.core.controller import MAX_ELSEWHERE, MAX_INSTANCES, MAX_UPSTREAMS, OTHER, Controller
from sentinel_ext.core.ended import Outcome, Result
from sentinel_ext.core.model import Mode, Tier
from sentinel_ext.core.outbox import PermitResult
from sentinel_ext.core.policy import UpstreamRules
from sentinel_ext.core.report import Shared
from sentinel_ext.core.signals import Level, LocalSignals
from sentinel_ext.policy.schema import MAX_UPSTREAMS as MAX_NAMED_UPSTREAMS

OK, FAILED, OVERFLOW, IGNORED = Outcome.OK, Outcome.FAILED, Outcome.OVERFLOW, Outcome.IGNORED
QUIET = LocalSignals()
STANDARD = 1
P1 = "00000000000000d1"


@pytest.fixture
def controller() -> Controller:
    return make_controller()


def start(controller: Controller, count: int = 1, upstream: str = UP) -> str:
    """Let requests of tier standard out; give the ticket that they bear."""
    protected = controller.upstream(upstream)
    for _ in range(count):
        assert protected.load.admit("acme", STANDARD) is not None
    return protected.ticket


def in_flight(controller: Controller, upstream: str = UP) -> int:
    return controller.upstream(upstream).load.flight.total


def counted(controller: Controller, upstream: str = UP) -> tuple[int, int]:
    """What the breaker would be told: successes and failures."""
    circuit = circuit_of(controller, upstream)
    batch = circuit.take_batch()
    circuit.put_back(batch)
    return batch.ok, batch.failed


# --- The table ---


def test_an_upstream_is_made_on_first_sight_by_its_rules():
    own = UpstreamRules("orders", breaker=None)
    controller = make_controller(make_policy(upstreams={"orders": own}, default_upstream=RULES))

    orders, others = controller.upstream("orders"), controller.upstream("users")

    assert (own, None, 0, False) == (orders.rules, orders.circuit, orders.epoch, orders.is_open)
    assert (RULES, BREAKER) == (others.rules, circuit_of(controller, "users").options)
    assert controller.upstream("orders") is orders


def test_at_the_bound_names_share_one_entry(controller):
    for number in range(2 * MAX_UPSTREAMS):
        controller.upstream(f"u{number}")

    assert MAX_UPSTREAMS == len(controller.upstreams)
    assert (
        controller.upstreams[OTHER] is controller.upstream("one-more") is controller.upstream("and-another")
    )
    assert MAX_UPSTREAMS == len(controller.upstreams)


def test_every_upstream_that_a_policy_may_name_has_an_entry_of_its_own(controller):
    for name in ("default", *(f"u{number}" for number in range(MAX_NAMED_UPSTREAMS))):
        assert controller.upstream(name) is not controller.upstreams.get(OTHER), name


def test_what_shares_an_entry_ends_there(controller):
    for number in range(MAX_UPSTREAMS):
        controller.upstream(f"u{number}")
    ticket = start(controller, upstream="one-more")

    assert Result.COUNTED is controller.ended(end_of(ticket, upstream="one-more"), START_NS)
    assert 0 == in_flight(controller, OTHER)


def test_breakers_that_are_off_are_not_made():
    controller = make_controller(make_policy(breaker=Mode.OFF))

    assert controller.upstream(UP).circuit is None


# --- Ends ---


def test_an_end_leaves_the_flight_and_counts_for_the_breaker(controller):
    ticket = start(controller, 3)

    results = [controller.ended(end_of(ticket, outcome), START_NS) for outcome in (OK, FAILED)]

    assert [Result.COUNTED] * 2 == results
    assert (1, (1, 1)) == (in_flight(controller), counted(controller))


@pytest.mark.parametrize("outcome", [OVERFLOW, IGNORED])
def test_what_says_nothing_of_the_upstream_has_ended_all_the_same(controller, outcome):
    ticket = start(controller)

    assert Result.COUNTED is controller.ended(end_of(ticket, outcome), START_NS)
    assert (0, (0, 0)) == (in_flight(controller), counted(controller))


def test_more_ends_than_starts_move_nothing(controller):
    ticket = start(controller)
    controller.ended(end_of(ticket, FAILED), START_NS)

    results = {controller.ended(end_of(ticket, FAILED), START_NS) for _ in range(100)}

    assert {Result.UNMATCHED} == results
    assert (0, (0, 1)) == (in_flight(controller), counted(controller))
    assert 1 == controller.upstream(UP).load.publish(ms(200)).failed


@pytest.mark.parametrize(
    ("tier", "result"), [(Tier.VITAL, Result.UNMATCHED), (Tier.STANDARD, Result.COUNTED)]
)
def test_an_end_of_another_tier_is_not_this_one(controller, tier, result):
    ticket = start(controller)

    assert result is controller.ended(end_of(ticket, tier=tier), START_NS)


def test_ends_out_of_order_find_their_starts(controller):
    early = start(controller)
    controller.tick(QUIET, ms(300))
    late = start(controller)
    assert early != late

    results = [controller.ended(end_of(ticket), ms(400)) for ticket in (late, early)]

    assert ([Result.COUNTED] * 2, 0) == (results, in_flight(controller))


@pytest.mark.parametrize(("permit", "result"), [("", Result.UNMATCHED), (".p1", Result.EXPIRED_PERMIT)])
def test_what_ends_after_its_start_was_given_up_moves_nothing(controller, permit, result):
    ticket = start(controller)
    for second in range(1, 4):
        controller.tick(QUIET, START_NS + second * NS_PER_S)

    assert result is controller.ended(end_of(ticket + permit, FAILED), ms(3_000))
    load = controller.upstream(UP).load
    assert (0, 1, (0, 0), 0) == (
        in_flight(controller), load.flight.lost, counted(controller), load.publish(ms(3_000)).failed,
    )  # fmt: skip


@pytest.mark.parametrize("generation", ["0", "ffffffffffff"])
def test_a_start_that_never_was_moves_nothing(controller, generation):
    start(controller)

    assert Result.UNMATCHED is controller.ended(end_of(f"i1.{generation}.0", FAILED), START_NS)
    assert (1, (0, 0)) == (in_flight(controller), counted(controller))


def test_results_of_an_earlier_epoch_do_not_move_the_breaker(controller):
    see(controller, View(epoch=3))
    ticket = start(controller, 5)
    see(controller, View(epoch=5))

    for _ in range(5):
        controller.ended(end_of(ticket, FAILED), START_NS)

    assert ((0, 0), 5, 0) == (counted(controller), circuit_of(controller).stale, in_flight(controller))


def test_a_slow_success_is_slow_to_the_breaker_and_an_unknown_latency_is_not(controller):
    ticket = start(controller, 3)
    for latency_us in (RULES.slow_us, RULES.slow_us + 1, None):
        controller.ended(end_of(ticket, latency_us=latency_us), START_NS)

    batch = circuit_of(controller).take_batch()

    assert (3, 1) == (batch.ok, batch.slow)


def test_an_upstream_without_a_breaker_counts_its_load():
    controller = make_controller(make_policy(default_upstream=UpstreamRules(breaker=None)))
    ticket = start(controller)

    assert Result.COUNTED is controller.ended(end_of(ticket, FAILED), START_NS)
    assert 1 == controller.upstream(UP).load.publish(ms(200)).failed


# --- Probes ---


def probe(controller: Controller, permit: str = P1) -> str:
    """Let a probe out; give its ticket."""
    circuit = see(controller, trying(epoch=9))
    assert circuit.wants_permit(True, START_NS)
    circuit.permit_reply(permit, True, trying(epoch=9, permits=1), START_NS)
    return f"{start(controller)}.{permit}"


@pytest.mark.parametrize(
    ("outcome", "latency_us", "told"),
    [
        (OK, 5_000, [PermitResult(9, P1, True)]),
        (FAILED, 5_000, [PermitResult(9, P1, False)]),
        (OVERFLOW, None, [PermitResult(9, P1, None)]),
        (IGNORED, None, []),
    ],
    ids=["well", "badly", "never sent", "its client left"],
)
def test_how_a_probe_ended_is_told_to_the_shared_breaker(controller, outcome, latency_us, told):
    ticket = probe(controller)

    controller.ended(end_of(ticket, outcome, latency_us), START_NS)

    assert told == list(circuit_of(controller).take_results())
    assert (0, 0) == counted(controller)


def test_a_permit_that_nobody_granted_moves_nothing(controller):
    probe(controller)
    ticket = start(controller)

    controller.ended(end_of(f"{ticket}.invented"), START_NS)

    assert [] == list(circuit_of(controller).take_results())
    assert 1 == circuit_of(controller).unknown_permits


@pytest.mark.parametrize(
    ("outcome", "latency_us", "told"),
    [
        (OK, 5_000, [PermitResult(9, P1, True)]),
        (OK, 600_000, [PermitResult(9, P1, False)]),
        (FAILED, None, [PermitResult(9, P1, False)]),
        (OVERFLOW, None, [PermitResult(9, P1, None)]),
        (IGNORED, None, []),
    ],
    ids=["well", "slowly", "badly", "never sent", "its client left"],
)
def test_a_probe_of_another_instance_is_passed_on_to_the_shared_breaker(
    controller, outcome, latency_us, told
):
    controller.upstream(UP)

    controller.ended(end_of(f"i2.5.9.{P1}", outcome, latency_us), START_NS)

    assert (told, (0, 0)) == (list(circuit_of(controller).take_results()), counted(controller))


# --- Ends of other instances ---


def test_an_end_of_another_instance_counts_here_and_is_passed_on_once(controller):
    protected = controller.upstream(UP)

    results = [controller.ended(end_of(f"i2.{generation}.0", FAILED), START_NS) for generation in "5567"]

    assert [Result.COUNTED] * 4 == results
    assert (0, 4) == counted(controller)
    assert {"i2": {(5, STANDARD): 2, (6, STANDARD): 1, (7, STANDARD): 1}} == controller.take_elsewhere(
        protected
    )
    assert {} == controller.take_elsewhere(protected)


def test_what_was_told_leaves_the_flight_of_the_instance_that_decided(controller):
    ticket = start(controller, 5)
    generation = int(ticket.split(".")[1], 16)

    controller.told_elsewhere(controller.upstream(UP), [(generation, STANDARD, 3)], START_NS)

    assert (2, (0, 0)) == (in_flight(controller), counted(controller))
    assert controller.hearing.was_ever


@pytest.mark.parametrize("end", [(0, 3, 1), (0, -1, 1), (0, 1, -5), (0, 1, 0), (2**60, 1, 1), (-1, 1, 1)])
def test_what_no_instance_would_tell_moves_nothing(controller, end):
    ticket = start(controller)
    generation = int(ticket.split(".")[1], 16)

    controller.told_elsewhere(controller.upstream(UP), [(end[0] or generation, *end[1:])], START_NS)

    assert 1 == in_flight(controller)


def test_nothing_told_is_no_sign_of_life(controller):
    controller.told_elsewhere(controller.upstream(UP), [], START_NS)

    assert not controller.hearing.was_ever


def test_ends_for_others_wait_within_bounds_and_what_finds_no_place_is_counted(controller):
    protected = controller.upstream(UP)
    for generation in range(MAX_ELSEWHERE + 10):
        controller.ended(end_of(f"i2.{generation:x}.0"), START_NS)
    controller.ended(end_of("i2.0.0"), START_NS)  # one more of a kind needs no place

    assert (10, 1) == (controller.dropped_ends, len(protected.elsewhere))
    controller.ended(end_of("i3.1.0"), START_NS)
    assert 11 == controller.dropped_ends

    assert MAX_ELSEWHERE == len(controller.take_elsewhere(protected)["i2"])
    controller.ended(end_of("i3.1.0"), START_NS)
    assert {"i3": {(1, STANDARD): 1}} == controller.take_elsewhere(protected)
    assert 11 == controller.dropped_ends


def test_instances_that_a_log_invents_do_not_grow_a_table(controller):
    protected = controller.upstream(UP)
    for number in range(3 * MAX_INSTANCES):
        controller.ended(end_of(f"x{number}.1.0"), START_NS)

    assert (MAX_INSTANCES, 2 * MAX_INSTANCES) == (len(protected.elsewhere), controller.dropped_ends)


def test_upstreams_that_a_log_invents_do_not_grow_a_table(controller):
    start(controller)

    results = {
        controller.ended(end_of(f"{instance}.5.0", FAILED, upstream=f"u{number}"), START_NS)
        for number in range(2 * MAX_UPSTREAMS)
        for instance in ("i1", "i2")
    }

    assert ({Result.UNMATCHED}, [UP]) == (results, list(controller.upstreams))


@pytest.mark.parametrize("name", ["orders", UP])
def test_an_upstream_of_the_policy_is_known_before_this_instance_decides_for_it(name):
    """Envoy's log may end at an instance that its calls do not reach."""
    controller = make_controller(make_policy(upstreams={"orders": RULES}, default_upstream=RULES))

    assert Result.COUNTED is controller.ended(end_of("i2.5.0", FAILED, upstream=name), START_NS)
    assert {"i2": {(5, STANDARD): 1}} == controller.take_elsewhere(controller.upstream(name))
    assert (0, 1) == counted(controller, name)


# --- Ticks ---


def test_a_tick_begins_a_generation_and_a_new_epoch_a_ticket(controller):
    protected = controller.upstream(UP)
    first = protected.ticket
    assert f"i1.{START_NS // 10**8:x}.0" == first

    controller.tick(QUIET, ms(100))
    assert f"i1.{START_NS // 10**8 + 1:x}.0" == protected.ticket
    see(controller, View(epoch=0x1F))
    assert f"i1.{START_NS // 10**8 + 1:x}.1f" == protected.ticket


def test_a_tick_tells_what_breakers_did_by_time_alone(controller):
    see(controller, opened(1_000))
    controller.upstream("users")
    assert [] == controller.tick(QUIET, ms(999))

    ((protected, change),) = controller.tick(QUIET, ms(1_000))

    assert (UP, CircuitState.HALF_OPEN, True) == (protected.name, change.after, protected.is_open)


@pytest.mark.parametrize(
    ("signals", "local", "acts"),
    [
        (LocalSignals(), 0, 0),
        (LocalSignals(cpu=1.0), 100, 0),
        (LocalSignals(loop_lag_ms=50.0, cpu=1.0), 100, 0),
        (LocalSignals(loop_lag_ms=65.0, cpu=1.0), 100, 100),
        (LocalSignals(loop_lag_ms=500.0), 100, 100),
    ],
    ids=["nothing known", "no lag known", "little lag", "lag", "lag alone"],
)
def test_pressure_of_the_instance_acts_only_while_its_loop_lags(controller, signals, local, acts):
    load = controller.upstream(UP).load

    controller.tick(signals, ms(100))

    assert (local, acts) == (
        pytest.approx(controller.local, abs=1),
        pytest.approx(load.publish(ms(200)).local, abs=1),
    )


def test_the_global_pressure_is_weighted_by_traffic_and_never_hides_the_instances(controller):
    assert 0 == controller.pressure
    controller.upstream("idle").load.adopt(Shared(pressure=100.0, offered=10.0))
    busy = controller.upstream("busy").load
    busy.adopt(Shared(pressure=20.0, offered=1_000.0))
    assert 20 == controller.pressure

    busy.adopt(Shared(pressure=20.0, offered=1_000.0, local=70.0))
    assert 70 == controller.pressure


def test_without_traffic_the_instance_s_own_pressure_is_the_global_one(controller):
    controller.upstream(UP)
    controller.tick(LocalSignals(loop_lag_ms=1_000.0), ms(100))

    assert (100, Level.CRITICAL) == (pytest.approx(controller.pressure), controller.level.level)


def test_the_log_is_heard(controller):
    assert not controller.hearing.was_ever

    controller.heard("envoy-1", 5, START_NS)

    assert controller.hearing.was_ever
    assert controller.hearing.is_direct(ms(600))
