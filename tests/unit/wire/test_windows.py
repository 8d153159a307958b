"""Flow windows as numbers."""

from __future__ import annotations

import pytest

from sentinel_ext.wire.limits import MAX_WINDOW
from sentinel_ext.wire.windows import ConnectionInflow, StreamInflow, widened


def test_the_connection_is_credited_at_half() -> None:
    inflow = ConnectionInflow(100)

    inflow.left -= 49
    assert inflow.credit() == 0
    inflow.left -= 1
    assert inflow.credit() == 50
    assert (inflow.left, inflow.credit()) == (100, 0)


def test_a_stream_is_credited_at_half_for_what_nobody_holds() -> None:
    inflow = StreamInflow(100)

    assert inflow.received(60)
    inflow.hold(1, 20)
    assert inflow.credit() == 0
    inflow.consumed(20)

    assert (inflow.credit(), inflow.left) == (60, 100)


def test_the_last_message_gives_back_all_that_is_held() -> None:
    inflow = StreamInflow(100)
    inflow.received(90)
    inflow.hold(3, 90)

    for size, owed in ((10, 10), (1000, 90), (0, 90), (50, 90)):
        inflow.consumed(size)
        assert owed == inflow.owed
    assert (inflow.held, inflow.unread) == (0, 0)


def test_what_was_credited_while_a_long_message_came_is_not_held_again() -> None:
    inflow = StreamInflow(100)
    inflow.received(80)
    assert inflow.credit() == 80
    inflow.received(30)

    inflow.hold(1, 110)

    assert (inflow.held, inflow.owed) == (30, 0)


def test_an_overrun_is_told() -> None:
    inflow = StreamInflow(100)

    assert inflow.received(100)
    assert not inflow.received(1)


@pytest.mark.parametrize(
    ("window", "increment", "total"),
    [(0, 1, 1), (-5, 3, -2), (MAX_WINDOW - 1, 1, MAX_WINDOW), (MAX_WINDOW, 1, None), (1, MAX_WINDOW, None)],
)
def test_a_send_window_ends_at_its_largest(window: int, increment: int, total: int | None) -> None:
    assert total == widened(window, increment)
