"""What is explained of a rate limit request is what then happens; and explaining it counts nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.limits import Instance, SharedCounters, entry, limit, rules
from support.overload import make_controller

from sentinel_ext.core.ratelimit.explain import Asked, LimitsExplanation, explain_limits, lines_of
from sentinel_ext.core.ratelimit.outcome import Outcome
from sentinel_ext.core.ratelimit.pending import Options
from sentinel_ext.core.ratelimit.query import Query
from sentinel_ext.core.ratelimit.rules import Algorithm, Node

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [("user",), ("user", "path"), ("path",), ("nothing",), ("quota", "user"), ("quota",)]
        ),
        st.integers(1, 4),
        st.integers(1, 40),
        st.sampled_from([50, 400, 20_000]),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 60), st.sampled_from(list(Algorithm)), st.booleans(), st.booleans(), STEPS)
def test_what_is_explained_is_what_happens(requests, algorithm, shadow, leases, steps):
    counts_denied = algorithm is Algorithm.FIXED_WINDOW
    made = limit(requests, window_us=1_000_000, algorithm=algorithm, count_denied=counts_denied)
    house = rules(
        Node("user", limits=(made,), shadow=shadow),
        Node("path", limits=(limit(20, window_us=1_000_000),)),
        Node("quota", limits=(limit(5),), quota=True),
    )
    options = Options(leases=leases)
    instance = Instance(SharedCounters(), house, options)
    for keys, hits, count, passes_us in steps:
        for _ in range(count):
            told = explained(instance, keys, hits, options)
            again = explained(instance, keys, hits, options)
            met = instance.send(*(entry(key) for key in keys), hits=hits)

            assert isinstance(met, Outcome)
            assert met.over == (told.cause is not None)
            assert told == again
            assert met.over == bool(told.advice)
            instance.shared.now_us += passes_us
            instance.limiter.sweep(instance.now_ns)


def explained(instance: Instance, keys: Any, hits: int, options: Options) -> LimitsExplanation:
    lines = lines_of(instance.planner, Query("shop", tuple(entry(key) for key in keys), hits))
    assert isinstance(lines, list)
    said = [[instance.shared.decide((ask,))[0] for _, _, ask in line.counted] for line in lines]
    return explain_limits(lines, said, Asked(instance.planner, make_controller(), options, instance.now_ns))
