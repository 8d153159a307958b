"""The bucket as tables of (time, hits, admitted)."""

from __future__ import annotations

import pytest
from support.build import NS_PER_MS, NS_PER_S

from sentinel_ext.core.token_bucket import TokenBucket

START = 5 * NS_PER_S
NANO_PER_MILLI = 1_000_000


@pytest.mark.parametrize(
    ("burst", "refill_milli", "rows"),
    [
        pytest.param(2, 1000, [(0, 1, True), (0, 1, True), (0, 1, False)], id="starts full"),
        pytest.param(2, 1000, [(0, 2, True), (999, 1, False), (1000, 1, True)], id="refills at its rate"),
        pytest.param(2, 1000, [(0, 2, True), (999_999, 2, True), (999_999, 1, False)], id="full at burst"),
        pytest.param(3, 1000, [(0, 4, False), (0, 3, True)], id="refusal takes nothing"),
        pytest.param(3, 1000, [(0, 2, True), (0, 2, False), (0, 1, True)], id="hits do not fit in part"),
        pytest.param(0, 1000, [(0, 1, False), (10**9, 1, False)], id="burst 0 denies all"),
        pytest.param(1, 0, [(0, 1, True), (10**9, 1, False)], id="refill 0 never refills"),
        pytest.param(1, 1, [(0, 1, True), (999_999, 1, False), (1_000_000, 1, True)], id="one per 1000 s"),
        pytest.param(5, 1000, [(0, 5, True), (-4000, 1, False), (-3000, 1, True)], id="back then forward"),
        pytest.param(5, 1000, [(0, 3, True), (-4000, 2, True), (-4000, 1, False)], id="back takes nothing"),
    ],
)
def test_admits_as_the_table_says(burst, refill_milli, rows):
    """Rows of (milliseconds since the start, hits, admitted)."""
    bucket = TokenBucket(burst, refill_milli * NANO_PER_MILLI, START)

    admitted = [bucket.try_acquire(hits, START + ms * NS_PER_MS) for ms, hits, _ in rows]

    assert [expected for *_, expected in rows] == admitted


def test_the_token_is_there_at_its_nanosecond_and_not_before():
    bucket = TokenBucket(1, 10_000 * NANO_PER_MILLI, START)
    assert bucket.try_acquire(1, START)

    assert not bucket.try_acquire(1, START + NS_PER_S // 10 - 1)
    assert bucket.try_acquire(1, START + NS_PER_S // 10)


def test_no_rounding_is_lost_over_many_odd_steps():
    """A third of a token per second, asked every 1,000,003 ns: exactly what the rate gives, no drift."""
    bucket, step, steps = TokenBucket(1000, 333 * NANO_PER_MILLI, START), 1_000_003, 200_000
    assert bucket.try_acquire(1000, START)

    admitted = sum(bucket.try_acquire(1, START + step * i) for i in range(1, steps + 1))

    assert step * steps * 333 // 10**12 == admitted


@pytest.mark.parametrize(
    ("taken", "refunded", "tokens"),
    [(0, 1, 5), (3, 1, 3), (3, 3, 5), (3, 4, 5), (5, 1_000_000, 5), (5, 0, 0)],
)
def test_a_refund_never_lifts_above_burst(taken, refunded, tokens):
    bucket = TokenBucket(5, 1000 * NANO_PER_MILLI, START)
    assert bucket.try_acquire(taken, START)

    bucket.refund(refunded)

    assert tokens == bucket.tokens


def test_a_refund_to_a_burst_of_zero_stays_zero():
    bucket = TokenBucket(0, 1000 * NANO_PER_MILLI, START)

    bucket.refund(1)

    assert 0 == bucket.tokens


@pytest.mark.parametrize(
    ("burst", "refill_milli", "taken", "hits", "wait_ms"),
    [
        (5, 1000, 0, 1, 0),
        (5, 1000, 5, 1, 1000),
        (5, 1000, 5, 5, 5000),
        (5, 3000, 5, 1, 334),  # a third of a second, rounded up
        (5, 1_000_000_000, 5, 1, 1),
        (5, 1000, 0, 6, None),  # more than the burst
        (5, 0, 5, 1, None),  # never refills
        (5, 0, 4, 1, 0),
        (0, 1000, 0, 1, None),
    ],
)
def test_wait_is_told_in_whole_milliseconds_rounded_up(burst, refill_milli, taken, hits, wait_ms):
    bucket = TokenBucket(burst, refill_milli * NANO_PER_MILLI, START)
    assert bucket.try_acquire(taken, START)

    assert wait_ms == bucket.wait_ms(hits)


def test_after_the_wait_the_tokens_are_there():
    bucket = TokenBucket(7, 1234 * NANO_PER_MILLI, START)
    assert bucket.try_acquire(7, START)
    wait_ms = bucket.wait_ms(3)

    assert not bucket.try_acquire(3, START + (wait_ms - 1) * NS_PER_MS)
    assert bucket.try_acquire(3, START + wait_ms * NS_PER_MS)


def test_tokens_are_whole_and_as_of_the_last_call():
    bucket = TokenBucket(3, 1000 * NANO_PER_MILLI, START)
    assert bucket.try_acquire(2, START)
    assert 1 == bucket.tokens

    assert not bucket.try_acquire(3, START + 1999 * NS_PER_MS - 1)

    assert 2 == bucket.tokens
