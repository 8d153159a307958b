"""What is explained of a rate limit request is what then happens; and explaining it counts nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.limits import Instance, SharedCounters, entry, limit, rules
from support.overload import make_controller

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.ratelimit.explain import LimitsLook, Looking, begin
from sentinel_ext.core.ratelimit.explained import advice, sentence
from sentinel_ext.core.ratelimit.outcome import Outcome, Problem
from sentinel_ext.core.ratelimit.pending import Options
from sentinel_ext.core.ratelimit.query import Query
from sentinel_ext.core.ratelimit.rules import Algorithm, Node, OnStoreFailure
from sentinel_ext.services.ratelimit_headers import make_headers

INSTANCES = 2
HEADERS = make_headers("all")
# (descriptors, hits, how many, microseconds that pass between two, whether the store is up)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [("user",), ("user", "path"), ("path",), ("nothing",), ("quota", "user"), ("quota",)]
        ),
        st.integers(1, 4),
        st.integers(1, 40),
        st.sampled_from([50, 400, 20_000]),
        st.sampled_from([True, True, False]),
    ),
    min_size=1,
    max_size=6,
)
OPTIONS = st.builds(
    Options,
    shadow=st.booleans(),
    metadata=st.booleans(),
    leases=st.booleans(),
    on_store_failure=st.sampled_from(list(OnStoreFailure)),
)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 60), st.sampled_from(list(Algorithm)), st.booleans(), OPTIONS, STEPS)
def test_what_is_explained_is_what_happens(requests, algorithm, shadow, options, steps):
    counts_denied = algorithm is Algorithm.FIXED_WINDOW
    made = limit(requests, window_us=1_000_000, algorithm=algorithm, count_denied=counts_denied)
    house = rules(
        Node("user", limits=(made,), shadow=shadow),
        Node("path", limits=(limit(20, window_us=1_000_000),)),
        Node("quota", limits=(limit(5),), quota=True),
    )
    instance = Instance(SharedCounters(), house, options, INSTANCES)
    for keys, hits, count, passes_us, is_up in steps:
        instance.shared.is_up = is_up
        for _ in range(count):
            told = explained(instance, keys, hits, options)
            again = explained(instance, keys, hits, options)
            met = instance.send(*(entry(key) for key in keys), hits=hits)

            assert plain(met) == plain(told.outcome)
            assert plain(told.outcome) == plain(again.outcome)
            assert [line.limits for line in told.lines] == [line.limits for line in again.lines]
            assert sentence(told)
            passes = isinstance(met, Outcome) and not met.over
            assert passes == (not advice(told))
            instance.shared.now_us += passes_us
            instance.limiter.sweep(instance.now_ns)


def explained(instance: Instance, keys: Any, hits: int, options: Options) -> LimitsLook:
    query = Query("shop", tuple(entry(key) for key in keys), hits)
    looking = begin(instance.planner, query, options, INSTANCES, instance.now_ns)
    assert isinstance(looking, Looking)
    said: Any = ()
    if looking.asks:
        said = instance.shared.decide(looking.asks) if instance.shared.is_up else StoreFault.TIMEOUT
    return looking.look(said, options, make_controller())


def plain(outcome: Outcome | Problem) -> Any:
    if isinstance(outcome, Problem):
        return outcome
    statuses = [(status.over, status.limit, status.remaining) for status in outcome.statuses]
    return outcome.over, outcome.cause, outcome.shadow_over, outcome.metadata, statuses, HEADERS(outcome)
