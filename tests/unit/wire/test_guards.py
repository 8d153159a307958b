"""Budgets at their bounds; the attacks they stop are in test_attacks."""

from __future__ import annotations

from sentinel_ext.wire.guards import Guards
from sentinel_ext.wire.limits import SECOND, Limits

TIGHT = Limits(
    ping_burst=3,
    max_settings_frames=2,
    max_useless_frames=2,
    max_local_resets=2,
    max_control_queued=2,
    max_tiny_frames=2,
    rate_limits=True,
    reset_sample=10,
    max_young_resets=5,
    window_update_slack=0,
)


def test_pings_come_back_with_time_and_with_work() -> None:
    guards = Guards(TIGHT, 0)

    assert [True, True, True, False] == [guards.ping(0, 0) for _ in range(4)]
    assert not guards.ping(0, SECOND)
    assert guards.ping(0, 3 * SECOND)
    assert [True, True, True, False] == [guards.ping(1, 3 * SECOND) for _ in range(4)]


def test_time_never_gives_more_pings_than_the_burst() -> None:
    guards = Guards(TIGHT, 0)

    assert [True, True, True, False] == [guards.ping(0, 10**6 * SECOND) for _ in range(4)]


def test_time_that_goes_back_gives_nothing() -> None:
    guards = Guards(TIGHT, 100 * SECOND)

    assert [True, True, True, False] == [guards.ping(0, SECOND) for _ in range(4)]


def test_settings_are_counted_in_periods() -> None:
    guards = Guards(TIGHT, 0)

    assert [True, True, False] == [guards.settings(0) for _ in range(3)]
    assert [True, True, False] == [guards.settings(11 * SECOND) for _ in range(3)]


def test_useless_frames_are_forgiven_by_a_stream_or_a_body() -> None:
    guards = Guards(TIGHT, 0)

    assert [True, True, False] == [guards.useless(1, 1) for _ in range(3)]
    assert guards.useless(3, 1)
    assert guards.useless(3, 2)


def test_local_resets_control_answers_and_tiny_frames_have_an_end() -> None:
    guards = Guards(TIGHT, 0)

    for budget in (guards.local_reset, guards.answer, guards.tiny):
        assert [True, True, False] == [budget() for _ in range(3)]
    guards.control = 0
    assert guards.answer()


def test_half_of_the_young_resets_fade_with_each_sample() -> None:
    guards = Guards(TIGHT, 0)

    assert [True] * 4 == [guards.peer_reset(5, 0) for _ in range(4)]
    assert guards.peer_reset(16, TIGHT.young_reset_ns)  # 4 become 2, and an old one counts nothing
    assert [True, True, True, False] == [guards.peer_reset(20, 0) for _ in range(4)]


def test_window_updates_follow_what_was_opened_and_sent() -> None:
    guards = Guards(TIGHT, 0)

    assert [True] * 27 + [False] == [guards.window_update(1, 1) for _ in range(28)]


def test_a_trusted_peer_has_no_rates() -> None:
    guards = Guards(Limits.trusted(), 0)

    assert all(guards.peer_reset(0, 0) and guards.window_update(0, 0) for _ in range(10_000))
