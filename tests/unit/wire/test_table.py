"""What is remembered of streams."""

from __future__ import annotations

from support.wire_peer import BOTH, Peer

from sentinel_ext.wire.table import Fate, StreamTable


def table_after(*closed: tuple[int, bool]) -> StreamTable:
    table = StreamTable(4)
    table.last_id = 99
    for stream_id, by_us in closed:
        table.close(stream_id, by_us=by_us)
    return table


def test_ids_that_the_client_has_not_reached_are_idle_and_ours_always() -> None:
    table = table_after((2, True))

    assert [Fate.IDLE] * 4 == [table.fate(stream_id) for stream_id in (101, 0, 2, 98)]


def test_who_ended_a_stream_is_remembered() -> None:
    table = table_after((1, True), (3, False))

    assert [Fate.RESET, Fate.ENDED] == [table.fate(1), table.fate(3)]


def test_ids_that_were_skipped_or_are_long_gone_are_forgotten() -> None:
    table = table_after((1, True), *((stream_id, False) for stream_id in (3, 5, 7, 9)))

    assert table.fate(1) is Fate.FORGOTTEN
    assert table.fate(97) is Fate.FORGOTTEN
    assert table.fate(9) is Fate.ENDED


def test_a_closed_stream_leaves_the_table() -> None:
    peer = Peer(echo=False)
    peer.send(peer.headers(1, BOTH))
    table = StreamTable(4)
    table.open[1] = peer.stream[1]

    table.close(1, by_us=True)

    assert {} == table.open
