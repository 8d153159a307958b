"""The last two minutes: rates, counts and graphs out of running totals."""

from __future__ import annotations

from support.build import NS_PER_S

from sentinel_ext.core.timeline import MAX_KEPT, MAX_POINTS, Key, Timeline

ALLOW, DENY = ("decision", "allow", "window"), ("decision", "deny", "bucket")


def verdict(key: Key) -> str:
    return key[1] if key[0] == "decision" else ""


def timeline_of(*totals: dict[Key, int], step_ns: int = NS_PER_S) -> Timeline:
    timeline = Timeline(("allow", "deny"), verdict)
    for number, each in enumerate(totals):
        timeline.add(each, number * step_ns)
    return timeline


def test_a_rate_is_a_difference_over_the_time_that_really_went_by():
    timeline = timeline_of({ALLOW: 100}, {ALLOW: 110}, {ALLOW: 130}, step_ns=2 * NS_PER_S)

    assert (4.0, {ALLOW: 30}) == (timeline.last(60).seconds, timeline.last(60).counts)
    assert 7.5 == timeline.last(60).per_s("decision", "allow")
    assert 10.0 == timeline.last(1).per_s("decision")


def test_what_appears_for_the_first_time_counts_from_nothing():
    assert 5 == timeline_of({ALLOW: 1}, {ALLOW: 1, DENY: 5}).last(60).count("decision", "deny")


def test_what_did_not_move_is_not_there():
    assert {} == timeline_of({ALLOW: 1, DENY: 3}, {ALLOW: 1, DENY: 3}).last(60).counts


def test_before_there_are_two_totals_nothing_is_known():
    assert [0.0, 0.0] == [t.last(3).per_s("decision") for t in (timeline_of(), timeline_of({ALLOW: 9}))]


def test_two_totals_of_one_instant_do_no_harm():
    timeline = timeline_of({ALLOW: 1}, {ALLOW: 5}, step_ns=0)

    assert {"allow": [], "deny": []} == timeline.series()
    assert 0.0 == timeline.last(3).per_s("decision")


def test_a_graph_has_a_point_for_each_second_oldest_first_and_belongs_to_its_keys():
    timeline = timeline_of({}, {ALLOW: 1, ("fault",): 7}, {ALLOW: 4, DENY: 2})

    assert {"allow": [1.0, 3.0], "deny": [0.0, 2.0]} == timeline.series()


def test_what_is_kept_is_bounded():
    timeline = timeline_of(*({ALLOW: number} for number in range(MAX_POINTS + 50)))

    assert MAX_POINTS == len(timeline.series()["allow"])
    assert MAX_KEPT == len(timeline._kept)
    assert MAX_KEPT - 1 == timeline.last(10_000).seconds
