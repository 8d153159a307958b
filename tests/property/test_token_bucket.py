"""The bucket under any schedule, time jumping back included."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_ext.core.token_bucket import ATTO, NS_PER_MS, TokenBucket

SETTINGS = settings(max_examples=150, deadline=None, derandomize=True)

bursts = st.integers(0, 50)
rates = st.one_of(st.integers(0, 20_000_000_000), st.just(10**15))
# From nothing over nanoseconds and odd primes to an hour, and back.
steps = st.one_of(
    st.sampled_from([0, 1, -1, 7_919, 3_600_000_000_000, -3_600_000_000_000]),
    st.integers(-(10**10), 10**10),
)
hits = st.integers(0, 60)
schedules = st.lists(st.tuples(steps, hits, st.integers(0, 3)), max_size=60)


@SETTINGS
@given(bursts, rates, schedules)
def test_tokens_stay_between_zero_and_burst(burst, rate, schedule):
    """Rows of (nanoseconds onward, hits, refund in tokens)."""
    bucket, now = TokenBucket(burst, rate, 0), 0

    for step, cost, refund in schedule:
        now += step
        bucket.try_acquire(cost, now)
        assert 0 <= bucket.tokens <= burst
        bucket.refund(refund)
        assert 0 <= bucket.tokens <= burst


@SETTINGS
@given(bursts, rates, schedules)
def test_no_schedule_admits_more_than_burst_and_rate_give(burst, rate, schedule):
    """The arrival curve: burst + rate * time that went forward, + what was given back."""
    bucket, now, admitted, forward, refunded = TokenBucket(burst, rate, 0), 0, 0, 0, 0

    for step, cost, refund in schedule:
        now += step
        forward += max(0, step)
        if bucket.try_acquire(cost, now):
            admitted += cost
        assert admitted * ATTO <= (burst + refunded) * ATTO + rate * forward
        bucket.refund(refund)
        refunded += refund


@SETTINGS
@given(bursts, rates, schedules)
def test_in_any_span_no_more_than_burst_and_rate_give(burst, rate, schedule):
    """The arrival curve from every start, not only from the first request. Time goes forward here."""
    bucket, now, log = TokenBucket(burst, rate, 0), 0, []

    for step, cost, _ in schedule:
        now += abs(step)
        if bucket.try_acquire(cost, now):
            log.append((now, cost))

    for start in range(len(log)):
        total = 0
        for at, cost in log[start:]:
            total += cost
            assert total * ATTO <= burst * ATTO + rate * (at - log[start][0])


@SETTINGS
@given(bursts, rates, schedules)
def test_admits_exactly_what_the_level_holds(burst, rate, schedule):
    """Neither too much nor too little: a level in exact integers decides each request the same."""
    bucket, now, level = TokenBucket(burst, rate, 0), 0, burst * ATTO

    for step, cost, refund in schedule:
        now += step
        level = min(burst * ATTO, level + max(0, step) * rate)
        fits = cost * ATTO <= level
        level -= fits * cost * ATTO
        assert fits == bucket.try_acquire(cost, now)
        level = min(burst * ATTO, level + refund * ATTO)
        bucket.refund(refund)
        assert level // ATTO == bucket.tokens


@SETTINGS
@given(bursts, rates, schedules, st.integers(1, 60))
def test_the_wait_is_honest(burst, rate, schedule, cost):
    """After it the tokens are there, a millisecond earlier they are not; None means never."""
    bucket, now = TokenBucket(burst, rate, 0), 0
    for step, some, _ in schedule:
        now += step
        bucket.try_acquire(some, now)
    wait_ms = bucket.wait_ms(cost)

    if wait_ms is None:
        assert not bucket.try_acquire(cost, now + 10**18) or (cost <= burst and rate == 0)
        assert cost > burst or rate == 0
    elif wait_ms:
        assert not bucket.try_acquire(cost, now + (wait_ms - 1) * NS_PER_MS)
        assert bucket.try_acquire(cost, now + wait_ms * NS_PER_MS)
    else:
        assert bucket.try_acquire(cost, now)


@SETTINGS
@given(bursts, rates, st.lists(st.integers(0, 10**10), max_size=20))
def test_asking_often_gains_nothing_over_asking_once(burst, rate, gaps):
    """Refusals in between neither lose nor make tokens: no rounding at any step."""
    often, once = TokenBucket(burst, rate, 0), TokenBucket(burst, rate, 0)
    often.try_acquire(burst, 0)
    once.try_acquire(burst, 0)
    now = 0

    for gap in gaps:
        now += gap
        assert not often.try_acquire(burst + 1, now)
    once.try_acquire(burst + 1, now)

    assert once.tokens == often.tokens
    assert once.wait_ms(1) == often.wait_ms(1)
