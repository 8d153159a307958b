"""Another policy for upstreams that are known: breakers, objectives, timeouts, and a bound for the table."""

from __future__ import annotations

import msgspec
import pytest
from support.build import make_check, make_plan, make_policy, make_tenant
from support.overload import RULES, START_NS, UP, circuit_of, make_controller, ms, opened, see, trying

from sentinel_ext.core.breaker import CircuitState
from sentinel_ext.core.controller import MAX_UPSTREAMS
from sentinel_ext.core.model import Mode, Tier
from sentinel_ext.core.pipeline import Pending, Pipeline
from sentinel_ext.core.policy import Policy, UpstreamRules
from sentinel_ext.core.signals import LocalSignals


def with_rules(**changes: object) -> Policy:
    return make_policy(default_upstream=msgspec.structs.replace(RULES, **changes))


def test_a_breaker_keeps_its_state_under_other_options():
    controller = make_controller()
    circuit = see(controller, opened())
    options = msgspec.structs.replace(circuit.options, half_open_max=9, cooldown_ms=1)

    controller.replace(with_rules(breaker=options))

    assert circuit is circuit_of(controller)
    assert (options, CircuitState.OPEN, 8) == (circuit.options, circuit.state, circuit.epoch)
    assert controller.upstream(UP).ticket.endswith(".8")


@pytest.mark.parametrize(
    "off", [with_rules(breaker=None), make_policy(default_upstream=RULES, breaker=Mode.OFF)]
)
def test_a_breaker_that_is_switched_off_refuses_nobody_and_comes_back_closed(off):
    controller = make_controller()
    see(controller, opened())

    controller.replace(off)
    protected = controller.upstream(UP)
    assert (None, False, 0) == (protected.circuit, protected.is_open, protected.epoch)
    assert protected.ticket.endswith(".0")

    controller.replace(make_policy(default_upstream=RULES))
    assert circuit_of(controller).is_closed


def test_a_request_that_waits_for_a_permit_passes_when_the_breaker_is_switched_off():
    controller = make_controller()
    see(controller, trying())
    pipeline = Pipeline(make_policy(make_plan(limit=None, tier=Tier.VITAL)), controller)
    check = make_check(make_tenant(make_plan(limit=None, tier=Tier.VITAL)))
    pending = pipeline.begin(check, ms(1))
    assert isinstance(pending, Pending)
    assert pending.hold is not None
    assert pending.hold.wants_permit

    controller.replace(with_rules(breaker=None))

    assert pipeline.resume_with_permit(pending, "", ms(2)).allowed
    assert 1 == controller.upstream(UP).load.flight.total


def test_objectives_and_timeouts_hold_for_upstreams_that_are_known_already():
    controller = make_controller()
    protected = controller.upstream(UP)
    before = protected.load

    controller.replace(with_rules(slo_us=50_000, timeout_us=2_000_000))

    assert before is protected.load, "what is in flight is still counted"
    assert (50.0, 2_000.0) == (protected.load.law.slo_ms, protected.load.law.timeout_ms)
    assert 50_000 == protected.rules.slo_us


def test_an_upstream_that_the_policy_names_no_more_goes_by_the_default_and_one_it_names_now_by_its_own():
    controller = make_controller(make_policy(upstreams={"a": UpstreamRules("a", slo_us=1_000)}))
    for name in ("a", "b"):
        controller.upstream(name)

    controller.replace(make_policy(upstreams={"b": UpstreamRules("b", slo_us=2_000)}))

    assert {"a": 200_000, "b": 2_000} == {n: p.rules.slo_us for n, p in controller.upstreams.items()}


def test_policies_that_name_ever_other_upstreams_do_not_grow_the_table():
    controller = make_controller()
    for number in range(2 * MAX_UPSTREAMS):
        name = f"u{number}"
        controller.replace(make_policy(upstreams={name: UpstreamRules(name)}))
        controller.upstream(name)

    assert MAX_UPSTREAMS == len(controller.upstreams)
    assert controller.pressure >= 0
    assert not controller.tick(LocalSignals(), START_NS)
