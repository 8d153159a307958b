"""The control law, driven by reports alone: what raises pressure, what cuts and lets go, who is told what."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_ext.core.fill import Demand
from sentinel_ext.core.law import next_shared
from sentinel_ext.core.pressure import LawOptions
from sentinel_ext.core.report import Report, Shared

OPTIONS = LawOptions(slo_ms=500.0, timeout_ms=1_000.0)
STEP_MS, SPAN_MS = 400.0, 800.0
VITAL, STANDARD = range(2)
PARTS = (0.2, 0.3, 0.5)


class Load(msgspec.Struct, frozen=True):
    """A second at one instance: requests asked for, let pass, ended; their latency; those in flight."""

    offered: float = 500.0
    admitted: float = 500.0
    ok: float = 500.0
    failed: float = 0.0
    mean_ms: float = 40.0
    inflight: int = 20
    slow: float = 0.0

    def report(self, **changes: object) -> Report:
        """The report on it."""
        share = SPAN_MS / 1_000
        timed = round((self.ok + self.failed) * share)
        report = Report(
            SPAN_MS,
            admitted=round(self.admitted * share),
            ok=round(self.ok * share),
            failed=round(self.failed * share),
            slow=round(self.slow * share),
            timed=timed,
            latency_ms=timed * self.mean_ms,
            inflight=(self.inflight, 0, 0),
            demands=tuple(Demand(f"t{t}", t, part * self.offered) for t, part in enumerate(PARTS)),
            is_logged=True,
        )
        return msgspec.structs.replace(report, **changes)


CALM = Load()
# Three times the load: a queue of half a second, and all of it completes as fast as it can.
PRESSED = Load(offered=3_000.0, admitted=1_200.0, ok=1_000.0, mean_ms=400.0, inflight=450, slow=900.0)


def run(state: Shared, load: Load | Report, seconds: float, **options: object) -> Shared:
    """Let the same load go on."""
    report = load.report() if isinstance(load, Load) else load
    for _ in range(round(seconds * 1_000 / STEP_MS)):
        now_ms = state.at_ms + STEP_MS
        state = next_shared(state, [report], OPTIONS, now_ms, **options)  # type: ignore[arg-type]
    return state


def passing(state: Shared) -> float:
    """What passes of three thousand requests per second."""
    return sum(3_000.0 * part * state.shares[f"t{t}"] for t, part in enumerate(PARTS))


@pytest.fixture(scope="module")
def calm() -> Shared:
    return run(Shared(), CALM, 12)


@pytest.fixture(scope="module")
def pressed(calm: Shared) -> Shared:
    return run(calm, PRESSED, 3)


def test_without_load_nothing_is_shed_and_the_baseline_is_the_latency(calm):
    assert calm.credit is None
    assert 40.0 == pytest.approx(calm.baseline_ms)
    assert 500.0 == pytest.approx(calm.peak)
    assert pytest.approx(0.0, abs=1e-6) == calm.pressure
    assert (1.0, 1.0, 1.0) == calm.tier_share


def test_a_queue_presses_and_vital_is_served_first(pressed):
    assert 70.0 < pressed.pressure <= 100.0
    assert pressed.credit is not None
    assert 1.0 == pressed.shares["t0"]
    assert pressed.shares["t1"] < 1.0
    assert 0.0 == pressed.shares["t2"]


def test_the_credit_is_near_what_the_upstream_completes(pressed):
    assert 0.6 * 1_000 <= (pressed.credit or 0.0) <= 1.1 * 1_000


def test_shares_of_demand_add_up_to_the_credit(pressed):
    assert pytest.approx(pressed.credit) == passing(pressed)


def test_when_the_load_goes_the_credit_is_let_go(pressed):
    assert run(pressed, CALM, 10).credit is None


def test_failures_press_at_once(calm):
    failing = Load(ok=350.0, failed=150.0)

    assert 90.0 < run(calm, failing, 2).pressure


def test_a_few_failures_do_not_press(calm):
    assert 1.0 > run(calm, Load(ok=491.0, failed=9.0), 5).pressure


def test_nobodys_log_was_ever_heard_so_nothing_is_done(pressed):
    state = run(pressed, PRESSED.report(is_logged=False), 2)

    assert (0.0, None, (1.0, 1.0, 1.0)) == (state.pressure, state.credit, state.tier_share)


def test_blind_the_state_is_frozen_and_the_credit_goes_on_to_hold(pressed):
    state = run(pressed, PRESSED.report(is_blind=True, ok=0, timed=0), 20)

    assert state.is_blind
    assert (pressed.pressure, pressed.credit, pressed.baseline_ms) == (
        state.pressure,
        state.credit,
        state.baseline_ms,
    )
    assert 0.0 == state.shares["t2"]


def test_blind_without_a_credit_the_peak_is_the_limit(calm):
    flood = Load(offered=3_000.0, admitted=3_000.0)
    state = run(calm, flood.report(is_blind=True, ok=0, timed=0), 2)

    assert pytest.approx(500.0, rel=0.05) == passing(state)


def test_a_minority_of_blind_instances_does_not_freeze_the_state(calm):
    half = msgspec.structs.replace(PRESSED, offered=1_500.0, admitted=500.0, ok=500.0, inflight=225)
    blind = Report(SPAN_MS, admitted=320, is_blind=True)
    state = calm
    for _ in range(8):
        state = next_shared(state, [half.report(), blind], OPTIONS, state.at_ms + STEP_MS)

    assert not state.is_blind
    assert state.pressure > 70.0


def test_an_upstream_slow_by_nature_is_not_shed_for_ever():
    """200 ms are above a quarter of the objective, so the baseline is not learned by itself."""
    own = Load(offered=800.0, admitted=800.0, ok=800.0, mean_ms=200.0, inflight=160, slow=300.0)
    state, admitted = Shared(), 800.0
    for _ in range(150):
        # Without a queue, what completes and what is in flight follow what is admitted.
        load = msgspec.structs.replace(own, admitted=admitted, ok=admitted, inflight=round(admitted / 5))
        state = next_shared(state, [load.report()], OPTIONS, state.at_ms + STEP_MS)
        admitted = min(800.0, state.credit or 800.0)

    assert 200.0 == pytest.approx(state.baseline_ms, rel=0.05)
    assert 720.0 <= admitted


def test_latency_learned_under_load_does_not_excuse_itself():
    """From the first second overloaded: no baseline above a quarter of the objective."""
    assert 125.0 >= run(Shared(), PRESSED, 3).baseline_ms


def test_a_breaker_that_closes_gives_the_load_back_step_by_step(calm):
    opened = run(calm, Load(admitted=0.0, ok=0.0, inflight=0), 5, is_open=True)
    closed = run(opened, CALM, 0.4)

    assert opened.is_open
    assert 0.1 * 500.0 == pytest.approx(closed.credit, rel=0.25)
    assert (run(closed, CALM, 20).credit or 1e9) > 500.0


def test_an_idle_upstream_forgets_its_pressure(pressed):
    idle = Load(offered=0.0, admitted=0.0, ok=0.0, inflight=0)

    assert 1.0 > run(pressed, idle, 5).pressure


def test_a_tenant_not_named_gets_what_the_unnamed_get(calm):
    demands = (Demand("a", STANDARD, 2_000.0), Demand("", STANDARD, 1_000.0, 4.0), Demand("v", VITAL, 10.0))
    state = run(calm, PRESSED.report(demands=demands), 3)

    assert state.shares["a"] < state.tier_share[STANDARD] < 1.0
    assert 1.0 == state.tier_share[VITAL]


def test_if_all_are_named_a_newcomer_gets_the_mean_of_its_tier(pressed):
    assert pytest.approx(pressed.shares["t1"]) == pressed.tier_share[STANDARD]


def test_what_a_tenant_may_have_is_told_only_where_it_is_less_than_it_asks_for(pressed):
    assert {"t1", "t2"} == set(pressed.rates)
    assert pytest.approx(900.0 * pressed.shares["t1"]) == pressed.rates["t1"]


def test_unheard_instances_count_as_many_times_as_the_scale_says(calm):
    quarter = Load(offered=750.0, admitted=250.0, ok=250.0, mean_ms=400.0, inflight=112, slow=225.0)
    whole = run(calm, PRESSED, 3)
    alone = run(calm, quarter, 3, scale=4.0)

    assert whole.offered == alone.offered
    assert whole.credit == pytest.approx(alone.credit, rel=0.15)


def test_a_clock_that_stands_still_jumps_or_goes_back_breaks_nothing(pressed):
    for now_ms in (pressed.at_ms, pressed.at_ms - 1e9, pressed.at_ms + 1e12, 0.0):
        state = next_shared(pressed, [PRESSED.report()], OPTIONS, now_ms)
        assert 0.0 <= state.pressure <= 100.0
        assert 1.0 <= (state.credit or 1.0) <= 1_100.0


loads = st.builds(
    Load,
    offered=st.floats(0.0, 1e5),
    admitted=st.floats(0.0, 1e5),
    ok=st.floats(0.0, 1e5),
    failed=st.floats(0.0, 1e4),
    mean_ms=st.floats(0.0, 1e6),
    inflight=st.integers(0, 10**6),
    slow=st.floats(0.0, 1e5),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(loads, st.floats(-1_000.0, 5_000.0), st.booleans(), st.booleans()), max_size=25))
def test_whatever_is_reported_the_state_stays_within_its_bounds(schedule):
    """Rows of (load, milliseconds onward, blind, breaker open)."""
    state = Shared()
    for load, step_ms, is_blind, is_open in schedule:
        report = load.report(is_blind=is_blind)
        state = next_shared(state, [report], OPTIONS, state.at_ms + step_ms, is_open=is_open)

        assert 0.0 <= state.pressure <= 100.0
        assert all(0.0 <= value <= 1.0 for value in state.signals.values())
        assert state.credit is None or state.credit >= 1.0
        assert all(0.0 <= share <= 1.0 for share in (*state.tier_share, *state.shares.values()))
        assert all(rate >= 0.0 for rate in state.rates.values())
        assert len(state.history) <= 25
        assert len(state.peaks) <= 6
        msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=Shared)
