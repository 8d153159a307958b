"""The usual requests, answered by the short way, get what the general way would have said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.limits import Instance, SharedCounters, entry, limit, rules

from sentinel_ext.core.ratelimit.outcome import Outcome
from sentinel_ext.core.ratelimit.pending import Options
from sentinel_ext.core.ratelimit.rules import Algorithm, Node

if TYPE_CHECKING:
    from sentinel_ext.core.ratelimit.query import Descriptor

SECOND_US = 1_000_000
ALGORITHMS = st.sampled_from([Algorithm.FIXED_WINDOW, Algorithm.SLIDING_WINDOW])
# (descriptors, hits, how many, microseconds that pass between two)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([("user",), ("user", "path"), ("user", "user")]),
        st.integers(1, 4),
        st.integers(1, 150),
        st.sampled_from([50, 400, 20_000]),
    ),
    min_size=1,
    max_size=8,
)


class Way:
    """An instance with counters of its own; `general` takes the short ways away."""

    def __init__(self, house: Any, options: Options, *, general: bool) -> None:
        self.instance = Instance(SharedCounters(), house, options)
        self._general = general

    def send(self, descriptors: tuple[Descriptor, ...], hits: int) -> Outcome:
        plan: Any = self.instance.plan(*descriptors, hits=hits)
        if self._general:
            plan.only, plan.is_plain = None, False
        outcome = self.instance.run(plan)
        assert isinstance(outcome, Outcome)
        return outcome

    def passes(self, us: int) -> None:
        self.instance.shared.now_us += us
        self.instance.limiter.sweep(self.instance.now_ns)

    def tallies(self) -> list[tuple[int, ...]]:
        tallies = self.instance.planner.tallies
        return [(t.total, t.over, t.near, t.within, t.cached, t.shadow) for t in tallies]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 400), ALGORITHMS, st.booleans(), st.booleans(), st.booleans(), STEPS)
def test_both_ways_say_and_count_the_same(requests, algorithm, shadow, quota, metadata, steps):
    made = limit(
        requests, window_us=SECOND_US, algorithm=algorithm, count_denied=algorithm is Algorithm.FIXED_WINDOW
    )
    other = limit(100_000, window_us=SECOND_US)
    house = rules(Node("user", limits=(made,), shadow=shadow, quota=quota), Node("path", limits=(other,)))
    ways = [Way(house, Options(metadata=metadata), general=general) for general in (False, True)]

    for keys, hits, count, passes_us in steps:
        for _ in range(count):
            short, general = (way.send(tuple(entry(key) for key in keys), hits) for way in ways)
            assert _plain(general) == _plain(short)
            for way in ways:
                way.passes(passes_us)
    assert ways[1].tallies() == ways[0].tallies()
    assert ways[1].instance.shared.calls == ways[0].instance.shared.calls


def _plain(outcome: Outcome) -> Any:
    return (
        outcome.over,
        outcome.cause,
        outcome.quota,
        outcome.shadow_over,
        outcome.refused,
        outcome.metadata,
        # A refusal is given again until a number in it changes, and the numbers are seconds.
        -(-outcome.retry_us // SECOND_US),
        [(s.over, s.limit, s.remaining, -(-(s.reset_us or 0) // SECOND_US)) for s in outcome.statuses],
    )
