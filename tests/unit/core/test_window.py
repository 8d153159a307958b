"""The ring as tables of (time, ask, reply)."""

from __future__ import annotations

import pytest

from sentinel_ext.core.window import SUBWINDOWS, Ring

SUB = 1000  # µs: a window of 10 ms
WINDOW = SUB * SUBWINDOWS
START = 1_790_000_000_000_000


def ask(ring, now, limit, hits=1, count=1):
    return ring.acquire(limit, hits, count, START + now)


@pytest.mark.parametrize(
    ("limit", "rows"),
    [
        pytest.param(2, [(0, 1, 1, 1), (0, 1, 1, 1), (0, 1, 1, 0)], id="limit"),
        pytest.param(5, [(0, 1, 9, 5), (0, 1, 1, 0)], id="batch in part"),
        pytest.param(5, [(0, 2, 9, 2), (0, 1, 9, 1)], id="hits do not fit in part"),
        pytest.param(5, [(0, 6, 1, 0), (0, 5, 1, 1)], id="more than the limit never fits"),
        pytest.param(0, [(0, 1, 1, 0), (WINDOW * 9, 1, 1, 0)], id="limit 0 denies all"),
        pytest.param(
            1, [(0, 1, 1, 1), (SUB * 11 - 1, 1, 1, 0), (SUB * 11, 1, 1, 1)], id="eleven steps later"
        ),
        pytest.param(1, [(SUB - 1, 1, 1, 1), (SUB * 11, 1, 1, 1)], id="its end leaves with its beginning"),
        pytest.param(3, [(0, 1, 2, 2), (SUB, 1, 9, 1), (SUB * 11, 1, 9, 2), (SUB * 12, 1, 9, 1)], id="steps"),
        pytest.param(3, [(0, 1, 3, 3), (WINDOW * 1000, 1, 9, 3)], id="long silence"),
        pytest.param(2, [(0, 1, 2, 2), (-5 * SUB, 1, 1, 0), (11 * SUB, 1, 1, 1)], id="back by half a window"),
        pytest.param(2, [(0, 1, 2, 2), (-11 * SUB, 1, 1, 0)], id="back by eleven steps: still the old ring"),
        pytest.param(2, [(0, 1, 2, 2), (-12 * SUB, 1, 1, 1)], id="back by more: a fresh ring"),
        pytest.param(2, [(0, 1, 2, 2), (-12 * SUB, 0, 1, 1), (0, 1, 1, 0)], id="asking only keeps the ring"),
    ],
)
def test_admits_as_the_table_says(limit, rows):
    """Rows of (microseconds since the start, hits, count, granted)."""
    ring = Ring(SUB, START)

    granted = [ask(ring, now, limit, hits, count)[0] for now, hits, count, _ in rows]

    assert [expected for *_, expected in rows] == granted


@pytest.mark.parametrize(
    ("fill", "now", "hits", "reply"),
    [
        # fill: (time, hits); reply: (granted, used, reset_us, retry_us) of one more request, limit 4
        pytest.param([], 0, 1, (1, 1, 11 * SUB, 0), id="first hit leaves after eleven steps"),
        pytest.param([], SUB - 1, 1, (1, 1, 10 * SUB + 1, 0), id="counted from its sub-window's begin"),
        pytest.param([(0, 4)], 0, 1, (0, 4, 11 * SUB, 11 * SUB), id="full"),
        pytest.param([(0, 4)], 500, 1, (0, 4, 11 * SUB - 500, 11 * SUB - 500), id="full, later"),
        pytest.param([(0, 1), (SUB, 3)], SUB, 2, (0, 4, 10 * SUB, 11 * SUB), id="waits for the second"),
        pytest.param([(0, 1), (SUB, 3)], SUB, 1, (0, 4, 10 * SUB, 10 * SUB), id="waits for the first"),
        pytest.param([(0, 1), (SUB, 1)], SUB, 3, (0, 2, 10 * SUB, 10 * SUB), id="part is free already"),
        pytest.param([(0, 4)], 0, 5, (0, 4, 11 * SUB, 11 * SUB), id="never fits"),
        pytest.param([], 0, 5, (0, 0, 0, 11 * SUB), id="never fits an empty one"),
        pytest.param([(0, 4)], 0, 0, (1, 4, 11 * SUB, 0), id="hits 0 asks without counting"),
    ],
)
def test_replies_when_hits_leave_and_when_the_request_fits(fill, now, hits, reply):
    ring = Ring(SUB, START)
    for at, amount in fill:
        assert 1 == ask(ring, at, 4, amount)[0]

    *got, slot = ask(ring, now, 4, hits)

    assert (*reply, (START + now) // SUB) == (*got, slot)


def test_a_lower_limit_than_is_used_refuses_until_enough_has_left():
    ring = Ring(SUB, START)
    assert 5 == ask(ring, 0, 10, 1, 5)[0]
    assert 5 == ask(ring, SUB, 10, 1, 5)[0]

    granted, used, _, retry_us, _ = ask(ring, SUB, 3)

    assert (0, 10, 11 * SUB) == (granted, used, retry_us)


class TestRefund:
    def test_gives_the_hits_of_its_slot_back(self):
        ring = Ring(SUB, START)
        slot = ask(ring, 0, 2, 2)[4]

        assert ring.refund(slot, 1)

        assert 1 == ask(ring, 0, 2)[0]
        assert 0 == ask(ring, 0, 2)[0]

    def test_goes_to_the_slot_that_took_them_not_to_the_newest(self):
        ring = Ring(SUB, START)
        slot = ask(ring, 0, 2)[4]
        assert 1 == ask(ring, SUB, 2)[0]

        assert ring.refund(slot, 1)

        assert 1 == ask(ring, SUB, 2)[0]
        # Nothing of slot 0 is left to leave: the two hits of slot 1 stay for their whole window.
        assert 0 == ask(ring, SUB * 12 - 1, 2)[0]
        assert 1 == ask(ring, SUB * 12, 2)[0]

    @pytest.mark.parametrize("later", [11, 12, 1000])
    def test_of_hits_that_left_the_window_is_ignored(self, later):
        ring = Ring(SUB, START)
        slot = ask(ring, 0, 2)[4]
        assert 1 == ask(ring, SUB * later, 2, 2)[0]

        assert not ring.refund(slot, 1)

        assert 0 == ask(ring, SUB * later, 2)[0]

    def test_of_a_slot_to_come_is_ignored(self):
        ring = Ring(SUB, START)
        slot = ask(ring, 0, 2)[4]

        assert not ring.refund(slot + 1, 1)

        assert 1 == ask(ring, 0, 2, 0)[1]

    def test_of_more_than_was_taken_leaves_zero_and_no_credit(self):
        ring = Ring(SUB, START)
        slot = ask(ring, 0, 2)[4]

        assert ring.refund(slot, 5)

        assert 2 == ask(ring, 0, 2, 1, 9)[0]

    def test_of_an_empty_slot_says_that_nothing_counts(self):
        ring = Ring(SUB, START)

        assert not ring.refund(START // SUB, 1)


def test_a_refusal_changes_nothing():
    """Asked again and again by a refused client, the ring stays as it was: no write, no later release."""
    ring = Ring(SUB, START)
    assert 2 == ask(ring, 0, 2, 1, 2)[0]

    for now in range(0, 11 * SUB, 97):
        assert 0 == ask(ring, now, 2)[0]

    assert 2 == ask(ring, 11 * SUB, 2, 1, 9)[0]
