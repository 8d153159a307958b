"""A short run of the fuzzer; `python -m support.wire_fuzz --seconds 60` runs it longer."""

from __future__ import annotations

import pytest
from support import wire_fuzz

from sentinel_ext.wire.connection import Connection


@pytest.mark.parametrize("seed", [1, 2])
def test_no_mutation_of_a_session_raises_or_breaks_a_bound(seed: int) -> None:
    assert wire_fuzz.run(seed, seconds=30, most=500) == 500


def test_the_fuzzer_tells_the_case_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Connection.feed

    def broken(connection: Connection, data: bytes, now_ns: int) -> None:
        feed(connection, data, now_ns)
        if connection.last_stream_id > 5:
            raise IndexError("planted")

    monkeypatch.setattr(Connection, "feed", broken)

    with pytest.raises(AssertionError, match=r"seed 1 case \d+: IndexError"):
        wire_fuzz.run(1, seconds=30, most=100)


def test_a_case_is_the_same_each_time() -> None:
    def run() -> tuple[object, ...]:
        heard: list[object] = []
        for number in range(20):
            rng = wire_fuzz.random.Random(f"1:{number}")
            heard.append(wire_fuzz.mutate(rng, wire_fuzz.session(rng)))
        return tuple(heard)

    assert run() == run()
