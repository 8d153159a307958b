"""With tracing on the same is decided, and what is sampled says what happened."""

from __future__ import annotations

import itertools

import pytest
from opentelemetry.sdk.trace.sampling import Decision as SdkDecision
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from support.build import HEADER, counting_hex, make_plan, make_policy, make_tenant
from support.fakes import FakeCaller, FakeClock
from support.overload import RULES, START_NS, make_controller, opened, see, shed_all, trying

from sentinel_ext.core.decision import Decision
from sentinel_ext.core.identify import Identifier
from sentinel_ext.core.model import FailureMode, Mode, Stage, Tier
from sentinel_ext.core.pipeline import Pending, Pipeline
from sentinel_ext.core.trace import MAX_STAGES, Sampler, StageName, StageSpan, Trace
from sentinel_ext.core.traced import TracedPipeline
from sentinel_ext.core.traced_identify import TracingIdentifier, begin_trace
from sentinel_ext.core.window import WindowReply

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-"
ALL, NONE = Sampler.of(1.0), Sampler.of(0.0)
START = START_NS
GRANTED = WindowReply(True, 40, 6_000_001, 0, 7)
REFUSED = WindowReply(False, 100, 6_000_001, 1_500_001, 7)


class Carrying(FakeCaller):
    """A caller whose proxy says something of the trace, too."""

    def __init__(self, headers=None, carried=None) -> None:
        super().__init__(headers)
        self.carried = fields(carried)


def fields(carried):
    """A call's fields as the server reads them, with some that say nothing of traces around those."""
    own = [(name.encode(), value.encode(), 40, 32) for name, value in carried.items()]
    return ((b":method", b"POST", 42, 1), *own, (b"x-envoy-internal", b"true", 52, 0))


def check(sampler=ALL, headers=None, carried=None, tenant=None):
    caller = Carrying(headers, carried) if carried is not None else FakeCaller(headers)
    return TracingIdentifier((HEADER,), counting_hex(), sampler).check(caller, tenant or make_tenant())


# --- Who is sampled, and what goes upstream ---


def test_the_callers_trace_goes_on_below_our_span():
    made = check(NONE, {"traceparent": PARENT + "01", "tracestate": "a=1"})

    assert (TRACE, SPAN, "a=1") == (made.trace.trace_id, made.trace.parent_id, made.trace.state)
    assert f"00-{TRACE}-{made.decision_id}-01" == made.traceparent


def test_a_caller_that_does_not_sample_is_followed_and_its_traceparent_stands():
    made = check(ALL, {"traceparent": PARENT + "00"})

    assert made.trace is None
    assert "" == made.traceparent


def test_only_a_parent_based_sampler_follows_the_caller():
    assert check(Sampler.of(1.0, parent_based=False), {"traceparent": PARENT + "00"}).trace is not None
    assert check(Sampler.of(0.0, parent_based=False), {"traceparent": PARENT + "01"}).trace is None


def test_a_root_is_sampled_by_ratio_and_its_correlation_id_leads_to_it():
    sampled, not_sampled = check(ALL), check(NONE)

    assert "" == sampled.trace.parent_id
    assert sampled.trace.trace_id == sampled.correlation_id
    assert f"00-{sampled.trace.trace_id}-{sampled.decision_id}-01" == sampled.traceparent
    assert not_sampled.trace is None
    assert not_sampled.traceparent.endswith("-00")


@pytest.mark.parametrize("given", ["", "broken", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01"])
def test_a_broken_traceparent_begins_a_new_trace(given):
    made = check(ALL, {"traceparent": given})

    assert "" == made.trace.parent_id
    assert TRACE != made.trace.trace_id


@pytest.mark.parametrize(
    "headers",
    [{"b3": f"{TRACE}-{SPAN}-%s"}, {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "%s"}],
    ids=["single", "multi"],
)
def test_b3_goes_on_as_w3c(headers):
    yes = check(NONE, {name: value.replace("%s", "1") for name, value in headers.items()})
    no = check(ALL, {name: value.replace("%s", "0") for name, value in headers.items()})

    assert (TRACE, SPAN) == (yes.trace.trace_id, yes.trace.parent_id)
    assert f"00-{TRACE}-{yes.decision_id}-01" == yes.traceparent
    assert no.trace is None
    assert f"00-{TRACE}-{no.decision_id}-00" == no.traceparent


def test_b3_with_a_decision_alone_decides_on_a_new_trace():
    yes, no = check(NONE, {"b3": "1"}), check(ALL, {"b3": "0"})

    assert (32, "") == (len(yes.trace.trace_id), yes.trace.parent_id)
    assert no.trace is None


def test_what_the_proxys_call_says_is_nearer_than_the_clients_header():
    envoys = f"00-{TRACE}-{'e' * 16}-01"
    made = check(NONE, {"traceparent": PARENT + "01"}, {"traceparent": envoys, "x-request-id": "r"})

    assert "e" * 16 == made.trace.parent_id


def test_a_proxy_that_says_nothing_of_use_leaves_it_to_the_header():
    for carried in ({}, {"x-request-id": "r"}, {"traceparent": "broken"}):
        assert SPAN == check(NONE, {"traceparent": PARENT + "01"}, carried).trace.parent_id


def test_a_proxy_that_does_not_sample_is_followed():
    made = check(ALL, {}, {"traceparent": PARENT + "00"})

    assert made.trace is None
    assert f"00-{TRACE}-{made.decision_id}-00" == made.traceparent


@pytest.mark.parametrize("carried", [{"b3": f"{TRACE}-{SPAN}-0"}, {"traceparent": PARENT + "00"}])
def test_a_proxy_that_does_not_sample_leaves_a_clients_traceparent_as_it_is(carried):
    made = check(ALL, {"traceparent": f"00-{'c' * 32}-{SPAN}-01"}, carried)

    assert (None, "") == (made.trace, made.traceparent)


@pytest.mark.parametrize(
    "broken",
    [
        f"00-{'0' * 32}-{SPAN}-00", f"00-{TRACE}-{'0' * 16}-00", f"01-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-0", f"00-{TRACE}-{SPAN}-00 ", f"00-{TRACE.upper()}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-0g", "-00",
    ],
)  # fmt: skip
def test_an_unsampled_context_of_the_proxy_that_is_broken_leaves_it_to_the_header(broken):
    assert SPAN == check(NONE, {"traceparent": PARENT + "01"}, {"traceparent": broken}).trace.parent_id


@pytest.mark.parametrize("flags", ["00", "02", "fe", "0a"])
def test_only_the_lowest_bit_of_the_flags_is_sampled(flags):
    yes = f"{int(flags, 16) | 1:02x}"

    assert check(ALL, {}, {"traceparent": PARENT + flags}).trace is None
    assert check(NONE, {}, {"traceparent": PARENT + yes}).trace is not None


def test_b3s_debug_flag_alone_is_sampled():
    assert check(NONE, {"x-b3-flags": "1"}).trace is not None
    assert check(NONE, {"x-b3-flags": "0"}).trace is None
    assert check(NONE, {}, {"x-b3-flags": "1"}).trace is not None


def test_the_ratio_is_the_one_of_the_sdk_and_kept():
    for ratio in (0.0, 0.01, 0.5, 1.0):
        ours, theirs = Sampler.of(ratio), TraceIdRatioBased(ratio)
        for low in (0, 1, 2**57, 2**63 - 1, 2**63, 2**64 - 1, *range(3, 2**64, 2**59 + 12_345)):
            sdk = theirs.should_sample(None, low | (7 << 64), "x").decision is SdkDecision.RECORD_AND_SAMPLE
            assert sdk == ours.takes(f"{low | (7 << 64):032x}")


def test_rate_limit_requests_follow_their_proxy_too():
    trace, span_id = begin_trace(fields({"traceparent": PARENT + "01"}), NONE, counting_hex())

    assert (TRACE, SPAN) == (trace.trace_id, trace.parent_id)
    assert 16 == len(span_id)
    assert begin_trace(fields({"traceparent": PARENT + "00"}), ALL, counting_hex()) is None
    assert begin_trace(fields({}), NONE, counting_hex()) is None
    assert begin_trace((), ALL, counting_hex()) is not None


# --- The same decisions ---

MODES = (Mode.ENFORCE, Mode.SHADOW, Mode.OFF)
PLANS = (
    {}, {"burst": 0}, {"burst": None}, {"limit": 0}, {"limit": None}, {"limit": 0, "burst": None},
    {"on_store_failure": FailureMode.CLOSED}, {"on_store_failure": FailureMode.OPEN}, {"tier": Tier.ECONOMY},
)  # fmt: skip


def run(pipeline, made, ending):
    step = pipeline.begin(made, START)
    if isinstance(step, Pending) and step.query is not None:
        if ending is None:
            return pipeline.resume_without_store(step, 2, START + 5)
        return pipeline.resume(step, ending, START + 5)
    return step


def told(decision):
    return [getattr(decision, name) for name in Decision.__struct_fields__ if name != "check"]


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("ending", [GRANTED, REFUSED, None], ids=["granted", "refused", "away"])
def test_tracing_changes_no_decision(plan, ending):
    for bucket, window, pressure in itertools.product(MODES, repeat=3):
        policy = make_policy(make_plan(**plan), bucket=bucket, window=window, pressure=pressure)
        results = []
        for sampler in (None, NONE, ALL):
            tenant, clock = make_tenant(policy.default_plan, now_ns=START), FakeClock(START)
            controller = make_controller(policy)
            if sampler is None:
                identifier, pipeline = Identifier((HEADER,), counting_hex()), Pipeline(policy, controller)
            else:
                identifier = TracingIdentifier((HEADER,), counting_hex(), sampler)
                pipeline = TracedPipeline(policy, controller, clock)
            results.append(told(run(pipeline, identifier.check(FakeCaller(), tenant), ending)))
        assert results[0] == results[1] == results[2]


# --- What is recorded ---


class Ticking:
    """A clock that moves by a nanosecond at each look."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        self.now += 1
        return self.now


def recorded(plan=None, ending=GRANTED, ticking=None, **modes):
    policy = make_policy(make_plan(**(plan or {})), **modes)
    clock = ticking or Ticking()
    pipeline = TracedPipeline(policy, make_controller(policy), clock)
    made = check(ALL, tenant=make_tenant(policy.default_plan, now_ns=START))
    step = pipeline.begin(made, START)
    if isinstance(step, Pending):
        step = (
            pipeline.resume_without_store(step, 2, clock())
            if ending is None
            else pipeline.resume(step, ending, clock())
        )
    return step, {stage.name: stage for stage in made.trace.stages}


def test_all_five_stages_of_an_allowed_check_are_there_in_order_and_time():
    decision, stages = recorded()

    assert decision.allowed
    order = [StageName.BUCKET, StageName.PRESSURE, StageName.PRIORITY, StageName.BREAKER, StageName.WINDOW]
    assert order == list(stages)
    assert all(START < stage.start_ns <= stage.end_ns for stage in stages.values())
    moments = [name for name, stage in stages.items() if stage.start_ns == stage.end_ns]
    assert [StageName.PRESSURE, StageName.BREAKER] == moments
    ends = [stages[name].end_ns for name in order]
    assert sorted(ends) == ends
    for before, after in itertools.pairwise(order):
        assert stages[before].end_ns <= stages[after].start_ns
    assert [StageName.WINDOW] == [name for name, stage in stages.items() if stage.asked_store]
    assert {"sentinel.window.used": 40, "sentinel.limit": 100}.items() <= stages[
        StageName.WINDOW
    ].attributes.items()


def test_a_stage_that_did_not_run_has_no_span():
    _, refused = recorded({"burst": 0})
    _, unlimited = recorded({"limit": None})
    _, off = recorded(bucket=Mode.OFF, pressure=Mode.OFF, breaker=Mode.OFF)

    assert [StageName.BUCKET] == list(refused)
    assert "local_rate_limited" == refused[StageName.BUCKET].denied
    assert StageName.WINDOW not in unlimited
    assert [StageName.WINDOW] == list(off)


def test_a_window_that_refuses_says_so_also_in_shadow():
    decision, stages = recorded(ending=REFUSED)
    shadowed, shadow_stages = recorded(ending=REFUSED, window=Mode.SHADOW)

    assert not decision.allowed
    assert shadowed.allowed
    assert "rate_limited" == stages[StageName.WINDOW].denied == shadow_stages[StageName.WINDOW].denied


def test_a_store_that_does_not_answer_is_told():
    _, stages = recorded(ending=None)

    window = stages[StageName.WINDOW]
    assert window.attributes["sentinel.store.answered"] is False
    assert "local" == window.attributes["sentinel.fallback"]
    assert window.start_ns <= window.end_ns


def begun(prepare, tier=Tier.STANDARD, **modes):
    policy = make_policy(make_plan(tier=tier), default_upstream=RULES, **modes)
    controller = make_controller(policy)
    prepare(controller)
    pipeline = TracedPipeline(policy, controller, Ticking())
    made = check(ALL, tenant=make_tenant(policy.default_plan, now_ns=START))
    return pipeline, pipeline.begin(made, START), made.trace.stages


@pytest.mark.parametrize("mode", [Mode.ENFORCE, Mode.SHADOW])
def test_a_shed_request_says_which_part_refused(mode):
    _, step, stages = begun(shed_all, pressure=mode)

    names = [stage.name for stage in stages]
    assert [StageName.BUCKET, StageName.PRESSURE, StageName.PRIORITY] == names[:3]
    assert (StageName.BREAKER in names) is (mode is Mode.SHADOW)
    assert ("shed", "share") == (stages[2].denied, stages[2].attributes["sentinel.shed.cause"])
    assert isinstance(step, Decision) is (mode is Mode.ENFORCE)


@pytest.mark.parametrize("mode", [Mode.ENFORCE, Mode.SHADOW])
def test_an_open_breaker_is_told(mode):
    _, step, stages = begun(lambda controller: see(controller, opened()), breaker=mode)

    breaker = stages[-1]
    assert (StageName.BREAKER, "circuit_open", "open") == (
        breaker.name,
        breaker.denied,
        breaker.attributes["sentinel.breaker.state"],
    )
    assert stages[-2].end_ns == breaker.start_ns < breaker.end_ns
    assert isinstance(step, Decision) is (mode is Mode.ENFORCE)


@pytest.mark.parametrize("permit", ["00000000000000d1", ""], ids=["granted", "refused"])
def test_the_permit_of_a_half_open_breaker_is_a_second_look(permit):
    pipeline, step, stages = begun(lambda controller: see(controller, trying()), Tier.VITAL)
    decision = pipeline.resume(step, GRANTED, START + 100)
    assert step.hold.wants_permit
    step.passed, step.hold.wants_permit = decision, False
    last = pipeline.resume_with_permit(step, permit, START + 200)

    assert bool(permit) is last.allowed
    second = stages[-1]
    assert (StageName.BREAKER, START + 100, START + 200) == (second.name, second.start_ns, second.end_ns)
    assert bool(permit) is second.attributes["sentinel.breaker.permit"]
    assert ("" if permit else "circuit_open") == second.denied


def test_deny_all_needs_no_store():
    decision, stages = recorded({"limit": 0})

    assert Stage.WINDOW is decision.stage
    assert not stages[StageName.WINDOW].asked_store


def test_the_record_of_a_check_is_bounded():
    trace = Trace(TRACE)
    for number in range(MAX_STAGES + 3):
        trace.add(StageSpan(StageName.BREAKER, number, number, {}))

    assert MAX_STAGES == len(trace.stages)
