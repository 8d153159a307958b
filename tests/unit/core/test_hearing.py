"""How far the access log is behind, and when its silence means something."""

from __future__ import annotations

import pytest
from support.overload import START_NS, ms

from sentinel_ext.core.hearing import (
    HELD_UP_FLUSHES,
    MAX_FLUSH_MS,
    MAX_STREAMS,
    MIN_DENIALS,
    MIN_ENTRIES,
    MIN_FLUSH_MS,
    SILENT_MS,
    UNTOLD_MS,
    Hearing,
)

FLUSH_MS = 100.0


@pytest.fixture
def hearing() -> Hearing:
    return Hearing(FLUSH_MS)


def hear_every(hearing: Hearing, distance_ms: float, stream: str = "a", entries: int = MIN_ENTRIES) -> float:
    """Hear fifty messages; give when the last one came, in ms."""
    for number in range(50):
        hearing.heard(stream, entries, ms(number * distance_ms))
    hearing.tick(ms(49 * distance_ms))
    return 49 * distance_ms


# --- Cadence ---


@pytest.mark.parametrize(
    ("distance_ms", "expected"), [(40, 40), (100, 100), (250, 250), (1, MIN_FLUSH_MS), (1_500, MAX_FLUSH_MS)]
)
def test_the_cadence_follows_the_messages_within_bounds(hearing, distance_ms, expected):
    hear_every(hearing, distance_ms)

    assert expected == pytest.approx(hearing.flush_ms, rel=0.05)


def test_messages_of_few_entries_say_nothing_of_the_flush(hearing):
    hear_every(hearing, 400, entries=MIN_ENTRIES - 1)

    assert FLUSH_MS == hearing.flush_ms


def test_the_slowest_busy_stream_counts_until_it_goes(hearing):
    hear_every(hearing, 40, "fast")
    last_ms = hear_every(hearing, 200, "slow")
    assert 200 == pytest.approx(hearing.flush_ms, rel=0.05)

    for at_ms in range(round(last_ms), round(last_ms) + 4_000, 40):
        hearing.heard("fast", MIN_ENTRIES, ms(at_ms))
        hearing.tick(ms(at_ms))

    assert 40 == pytest.approx(hearing.flush_ms, rel=0.05)


def test_a_log_that_stopped_leaves_the_cadence_as_it_was(hearing):
    last_ms = hear_every(hearing, 250)
    before = hearing.flush_ms

    hearing.tick(ms(last_ms + 60_000))

    assert before == hearing.flush_ms


def test_streams_that_are_named_anew_are_bounded(hearing):
    for number in range(MAX_STREAMS + 50):
        hearing.heard(f"s{number}", 1, START_NS)

    assert MAX_STREAMS == len(hearing._cadence)
    assert "s0" not in hearing._cadence


def test_a_clock_that_goes_back_is_no_cadence_below_the_least(hearing):
    hearing.heard("a", MIN_ENTRIES, ms(1_000))
    hearing.heard("a", MIN_ENTRIES, ms(0))
    hearing.tick(ms(0))

    assert MIN_FLUSH_MS <= hearing.flush_ms <= FLUSH_MS


# --- Silence ---


def test_what_was_never_heard_is_neither_silent_nor_fresh(hearing):
    assert (False, False, False, False) == (
        hearing.was_ever, hearing.is_silent(ms(10**6)), hearing.is_fresh(ms(10**6)),
        hearing.is_direct(ms(10**6)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("streams", "denials", "after_ms"),
    [
        (None, 0, SILENT_MS),
        (0, 0, UNTOLD_MS),
        (1, MIN_DENIALS, SILENT_MS),
        (1, MIN_DENIALS - 1, None),
    ],
    ids=["unknown", "no proxy logs here", "refusals do not come back", "perhaps nothing ends"],
)
def test_silence_means_something_after_a_while(hearing, streams, denials, after_ms):
    hearing.heard("a", 1, START_NS)
    hearing.streams, hearing.denials = streams, denials

    if after_ms is None:
        assert not hearing.is_silent(ms(10**6))
    else:
        assert (False, True) == (hearing.is_silent(ms(after_ms)), hearing.is_silent(ms(after_ms + 1)))


def test_a_slow_flush_is_waited_for_longer(hearing):
    last_ms = hear_every(hearing, 600)

    assert not hearing.is_silent(ms(last_ms + 2_500))
    assert hearing.is_silent(ms(last_ms + 3_500))


@pytest.mark.parametrize("by", ["heard", "told"])
def test_a_word_ends_the_silence_and_forgets_the_refusals(hearing, by):
    hearing.heard("a", 1, START_NS)
    hearing.streams, hearing.denials = 1, MIN_DENIALS
    assert hearing.is_silent(ms(2_000))

    if by == "heard":
        hearing.heard("a", 1, ms(2_000))
    else:
        hearing.told(ms(2_000))

    assert (0, False) == (hearing.denials, hearing.is_silent(ms(9_000)))


def test_what_others_tell_is_heard_but_not_directly(hearing):
    hearing.told(START_NS)

    assert (True, False) == (hearing.was_ever, hearing.is_direct(START_NS))


def test_a_proxy_that_logs_elsewhere_now_is_forgotten(hearing):
    hearing.heard("a", 1, START_NS)

    assert (True, False) == (hearing.is_direct(ms(9_999)), hearing.is_direct(ms(10_000)))


@pytest.mark.parametrize(
    ("streams", "until_ms"), [(None, 2 * FLUSH_MS + 150), (0, UNTOLD_MS)], ids=["unknown", "told by others"]
)
def test_what_is_in_flight_is_judged_only_while_ends_come(hearing, streams, until_ms):
    hearing.heard("a", 1, START_NS)
    hearing.streams = streams

    assert (True, False) == (hearing.is_fresh(ms(until_ms)), hearing.is_fresh(ms(until_ms + 1)))


def test_with_a_stream_open_silence_is_a_queue(hearing):
    hearing.heard("a", 1, START_NS)
    hearing.streams = 1

    assert hearing.is_fresh(ms(60_000))


def test_silence_with_a_stream_open_is_taken_for_a_delay_of_a_few_flushes_only():
    hearing = Hearing(100.0)
    hearing.heard("a", 10, 0)
    unknown = hearing.lag_ms(900 * 1_000_000)
    hearing.streams = 1

    assert 900.0 == unknown
    assert HELD_UP_FLUSHES * 100.0 == hearing.lag_ms(900 * 1_000_000)
    assert 130.0 == hearing.lag_ms(130 * 1_000_000)
    assert 50.0 == hearing.lag_ms(110 * 1_000_000)
    assert 50.0 == hearing.lag_ms(10 * 1_000_000)


def test_an_instance_that_a_proxy_begins_to_log_to_waits_for_what_others_heard_before(hearing):
    assert not hearing.is_direct(ms(0))
    for at_ms in range(0, 500, 100):
        hearing.heard("a", 10, ms(at_ms))
        assert not hearing.is_direct(ms(at_ms + 99))

    assert hearing.is_direct(ms(500))
    assert hearing.is_direct(ms(400 + 9_999))
    assert not hearing.is_direct(ms(400 + 10_000))
