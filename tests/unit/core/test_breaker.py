"""The breaker's own arithmetic; what it shares with the script is tested in tests/store/test_circuits.py."""

from __future__ import annotations

import msgspec
import pytest

from sentinel_ext.core.breaker import (
    LOCAL_EPOCHS,
    Breaker,
    BreakerOptions,
    CircuitState,
    Force,
    TripReason,
    View,
    open_ms,
    share_tripped,
)
from sentinel_ext.core.tally import NOTHING, Batch, Ring, Tally

OPTIONS = BreakerOptions(
    consecutive_failures=3, cooldown_ms=1_000, half_open_max=2, successes_needed=3, probe_ttl_ms=500
)
FAIL = Batch(failed=3, lead=3, trail=3, longest=3)
START_MS = 10**12


def test_the_defaults_are_those_of_the_design():
    options = BreakerOptions()

    assert (0.5, 20, 10_000, 10) == (
        options.failure_threshold, options.min_requests, options.window_ms, options.consecutive_failures,
    )  # fmt: skip
    assert (30_000, 5, 3, None) == (
        options.cooldown_ms, options.half_open_max, options.successes_needed, options.slow_rate,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "life_ms"),
    [
        pytest.param(BreakerOptions(), 1_056_000, id="twice the longest cooldown"),
        pytest.param(BreakerOptions(cooldown_ms=100), 100_000, id="ten windows"),
        pytest.param(BreakerOptions(cooldown_ms=100, probe_ttl_ms=10**6), 2 * 10**6, id="two probes"),
    ],
)
def test_a_breaker_is_kept_until_nothing_in_it_matters(options, life_ms):
    assert life_ms == options.life_ms


def test_jitter_spreads_over_a_tenth_and_never_shortens():
    waits = [open_ms(30_000, 0, epoch) for epoch in range(1, 2_000)]

    assert (30_000, 33_000) == (min(waits), max(waits))
    assert 101 == len(set(waits))


@pytest.mark.parametrize(
    ("ok", "failed", "slow", "reason"),
    [
        (0, 0, 0, None),
        (10, 9, 0, None),
        (10, 10, 0, TripReason.FAILURE_RATE),
        (20, 0, 16, TripReason.SLOW_CALLS),
        (20, 0, 15, None),
        (0, 20, 20, TripReason.FAILURE_RATE),
    ],
)
def test_shares_trip_from_the_minimum_on(ok, failed, slow, reason):
    options = BreakerOptions(slow_rate=0.8)

    assert reason is share_tripped(options, ok, failed, slow)


def test_no_request_trips_nothing_even_without_a_minimum():
    assert share_tripped(BreakerOptions(min_requests=0), 0, 0, 0) is None


def test_no_more_successes_are_needed_than_there_are_probes():
    breaker = Breaker(OPTIONS)
    view = breaker.report(0, FAIL, START_MS)[1]
    now_ms = START_MS + view.retry_ms
    for permit in ("a", "b"):
        breaker.acquire(permit, now_ms)

    states = [breaker.result(2, permit, True, now_ms)[1].state for permit in ("a", "b")]

    assert [CircuitState.HALF_OPEN, CircuitState.CLOSED] == states


def test_goes_on_from_what_was_seen_with_epochs_of_its_own():
    seen = View(CircuitState.OPEN, 7, 400, Force.AUTO, TripReason.PROBE_LOST, 2)
    breaker = Breaker.resumed(OPTIONS, seen, LOCAL_EPOCHS, START_MS)

    assert seen == breaker.view(START_MS)
    assert 1 == breaker.view(START_MS + 399).retry_ms
    half_open = breaker.view(START_MS + 400)
    assert (CircuitState.HALF_OPEN, LOCAL_EPOCHS, 2) == (half_open.state, half_open.epoch, half_open.level)


def test_an_operators_word_is_seen():
    breaker = Breaker(OPTIONS)

    assert not breaker.is_forced
    breaker.force(Force.CLOSED, START_MS)
    assert breaker.is_forced


@pytest.mark.parametrize(
    ("results", "batch"),
    [
        ("", NOTHING),
        ("f", Batch(0, 1, 0, 1, 1, 1, 9)),
        ("o", Batch(1, 0, 0, 0, 0, 0, 9)),
        ("ffoofffof", Batch(3, 6, 0, 2, 1, 3, 9)),
        ("oS", Batch(2, 0, 1, 0, 0, 0, 9)),
        ("Fo", Batch(1, 1, 1, 1, 0, 1, 9)),
    ],
)
def test_a_tally_says_what_ended_and_how_failures_stood(results, batch):
    """Succeeded: o, slowly S. Failed: f, slowly F."""
    tally = Tally()
    for result in results:
        tally.add(result in "oS", result in "SF")

    assert batch == tally.batch(9)


def test_a_window_of_another_width_starts_anew():
    ring = Ring()
    ring.add(Batch(ok=5), 100, START_MS)

    ring.add(Batch(ok=1), 50, START_MS)

    assert (1, 0, 0) == ring.sums(START_MS)


def test_a_window_holds_its_last_ten_slots():
    ring = Ring()
    for step in range(25):
        ring.add(Batch(ok=1, failed=2, slow=1), 100, START_MS + 100 * step)

    assert (10, 20, 10) == ring.sums(START_MS + 2_400)
    assert (9, 18, 9) == ring.sums(START_MS + 2_500)
    assert (0, 0, 0) == ring.sums(START_MS + 3_400)


def test_a_breaker_holds_no_more_permits_than_it_grants():
    breaker = Breaker(OPTIONS)
    view = breaker.force(Force.AUTO, START_MS)[1]
    view = breaker.report(view.epoch, FAIL, START_MS)[1]
    for i in range(100):
        breaker.acquire(f"p{i}", START_MS + view.retry_ms)

    assert OPTIONS.half_open_max == len(breaker._permits)


def test_options_may_change_while_it_runs():
    breaker = Breaker(OPTIONS)
    breaker.options = msgspec.structs.replace(OPTIONS, consecutive_failures=1)

    assert (
        CircuitState.OPEN is breaker.report(0, Batch(failed=1, lead=1, trail=1, longest=1), START_MS)[1].state
    )
