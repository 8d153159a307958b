"""Mutated sessions against a connection: `feed` never raises, and what is held stays within its bounds.

    cd tests && python -m support.wire_fuzz --seconds 60 --seed 1

Case n of seed s is always the same; a failure prints both, and `--case n` runs it alone.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import random
import sys
import time
from typing import TYPE_CHECKING

from support.wire_peer import BOTH, DOWN, SECOND, UNARY, UP, Peer, block, fields, message, split

from sentinel_ext.wire import frames
from sentinel_ext.wire.codes import ErrorCode, Status
from sentinel_ext.wire.limits import KIB, Limits, ProcessBudget

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.wire.hpack import BlockCache
    from sentinel_ext.wire.stream import Stream

MAX_IN_FLIGHT = 50
MAX_STREAMS = 20
MAX_REASSEMBLY = 128 * KIB
# What one read may make us write before anybody takes it: far above what any bound allows to be sensible,
# far below what a loop would produce.
MAX_WRITTEN = 4 * 1024 * KIB
# Memory blocks that a run may leave behind, caches not counted: the Huffman table fills as it is used.
MAX_BLOCKS_LEFT = 5_000


def _limits(number: int) -> Limits:
    """Tight limits, so that mutations reach them."""
    return Limits(
        max_concurrent_streams=MAX_STREAMS,
        max_in_flight=MAX_IN_FLIGHT,
        max_message=64 * KIB,
        max_reassembly=MAX_REASSEMBLY,
        max_output=64 * KIB,
        stream_window=(1000, 65_535, 262_144)[number % 3],
        connection_window=(65_535, 1_000_000)[number % 2],
        rate_limits=number % 3 == 1,
        test_route=b"/" if number % 5 == 0 else b"",
        header_table_size=4096 if number % 4 == 3 else 0,
    )


class Listeners:
    """A few listeners, each with its limits and its cache, which all cases of a run share."""

    def __init__(self) -> None:
        self._all = [(limits, Peer.new_cache(limits)) for limits in map(_limits, range(12))]

    def pick(self, rng: random.Random) -> tuple[Limits, BlockCache | None]:
        """One of them, with its cache or without."""
        limits, cache = rng.choice(self._all)
        return limits, cache if rng.random() < 0.7 else None

    def forget(self) -> None:
        """Empty the caches: they fill up to bounds of their own, which other tests hold."""
        self._all = [(limits, Peer.new_cache(limits)) for limits, _ in self._all]


# Sessions.


def session(rng: random.Random) -> list[bytes]:
    """A lawful client's frames."""
    pieces = [frames.PREFACE, frames.settings([(frames.INITIAL_WINDOW_SIZE, rng.choice([0, 10, 65_535]))])]
    if rng.random() < 0.8:
        pieces.append(frames.SETTINGS_ACK)
    is_first = True
    for number in range(rng.randint(1, 8)):
        sid = 2 * number + 1
        head = block(
            fields(
                rng.choice([UNARY, UP, DOWN, BOTH, "/", "/no.Such/Method"]),
                *rng.sample(
                    [
                        ("grpc-encoding", "gzip"),
                        ("grpc-accept-encoding", "gzip"),
                        ("grpc-timeout", "100m"),
                        ("content-length", "12"),
                        ("x-data-bin", "AAEC"),
                        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                    ],
                    rng.randint(0, 3),
                ),
            )
        )
        pieces.append(
            frames.frame(frames.HEADERS, rng.choice([4, 4, 4, 5]), sid, (b"\x20" if is_first else b"") + head)
        )
        is_first = False
        for _ in range(rng.randint(0, 3)):
            data = rng.randbytes(rng.choice([0, 3, 200, 5000]))
            packed = gzip.compress(data)
            pieces.append(
                Peer.data(
                    sid,
                    rng.choice([message(data), frames.PREFIX.pack(1, len(packed)) + packed, data]),
                    end=rng.random() < 0.4,
                )
            )
        pieces.append(rng.choice(_EXTRAS)(rng, sid))
    return pieces


_EXTRAS: list[Callable[[random.Random, int], bytes]] = [
    lambda _, sid: Peer.data(sid, end=True),
    lambda rng, sid: frames.rst_stream(sid, rng.randint(0, 20)),
    lambda rng, sid: frames.window_update(rng.choice([0, sid]), rng.choice([1, 1000, 2**31 - 1])),
    lambda _, sid: frames.frame(frames.HEADERS, 5, sid, b"\x00\x01a\x01b"),
    lambda rng, _: frames.ping(rng.randbytes(8), ack=rng.random() < 0.3),
    lambda rng, _: frames.settings([(rng.randint(0, 10), rng.choice([0, 1, 16_384, 65_536, 2**31]))]),
    lambda rng, sid: frames.frame(frames.PRIORITY, 0, sid, frames.U32.pack(rng.choice([0, sid])) + b"\x01"),
    lambda rng, _: frames.goaway(0, rng.randint(0, 13), "bye"),
    lambda rng, sid: frames.frame(rng.randint(0, 255), rng.randint(0, 255), sid, rng.randbytes(8)),
    lambda _, __: b"",
]


def mutate(rng: random.Random, pieces: list[bytes]) -> bytes:
    """Break a session: its frames, then its bytes."""
    pieces = list(pieces)
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        rng.choice(_FRAME_MUTATIONS)(rng, pieces, rng.randrange(len(pieces)))
    data = bytearray(b"".join(pieces))
    for _ in range(rng.choice([0, 0, 1, 3, 20])):
        # Mostly behind the preface, or nothing else would ever be tried.
        first = min(len(frames.PREFACE), len(data)) if rng.random() < 0.95 else 0
        rng.choice(_BYTE_MUTATIONS)(rng, data, rng.randrange(first, len(data) + 1))
    return bytes(data)


def _repeat(rng: random.Random, pieces: list[bytes], at: int) -> None:
    pieces[at:at] = [pieces[at]] * rng.choice([2, 50, 300])


def _copy(rng: random.Random, pieces: list[bytes], at: int) -> None:
    pieces.insert(at, rng.choice(pieces))


def _move(rng: random.Random, pieces: list[bytes], at: int) -> None:
    other = rng.randrange(len(pieces))
    pieces[at], pieces[other] = pieces[other], pieces[at]


def _drop(_rng: random.Random, pieces: list[bytes], at: int) -> None:
    pieces[at] = b""


def _insert_frame(rng: random.Random, pieces: list[bytes], at: int) -> None:
    pieces.insert(at, rng.choice(_EXTRAS)(rng, rng.choice([0, 1, 2, 3, 99])))


_FRAME_MUTATIONS = [_repeat, _copy, _move, _drop, _insert_frame]


def _replace(rng: random.Random, data: bytearray, at: int) -> None:
    data[at : at + 1] = rng.randbytes(1)


def _insert(rng: random.Random, data: bytearray, at: int) -> None:
    data[at:at] = rng.randbytes(rng.choice([1, 4, 30]))


def _cut(rng: random.Random, data: bytearray, at: int) -> None:
    del data[at : at + rng.choice([1, 5, 100])]


def _flip(rng: random.Random, data: bytearray, at: int) -> None:
    if at < len(data):
        data[at] ^= 1 << rng.randrange(8)


_BYTE_MUTATIONS = [_replace, _insert, _cut, _flip]


# One case.


def run_case(seed: int, number: int, listeners: Listeners) -> None:
    """One session, mutated, in random pieces, with handlers that do anything.

    Raises:
        AssertionError: a bound is broken.
        Exception: whatever the connection raised; it must raise nothing.
    """
    rng = random.Random(f"{seed}:{number}")
    budget = ProcessBudget(max_reassembly=MAX_REASSEMBLY)
    limits, cache = listeners.pick(rng)
    peer = Peer(limits, echo=rng.random() < 0.5, budget=budget, cache=cache, hello=False)
    data = mutate(rng, session(rng))
    at = 0
    while at < len(data):
        size = rng.choice([1, 9, 100, 1000, len(data)])
        peer.connection.feed(data[at : at + size], peer.now_ns)
        at += size
        _act(rng, peer)
        _check(peer)
    peer.connection.lost(peer.now_ns)
    for stream in peer.stream.values():
        peer.connection.release(stream)
    assert (budget.in_flight, budget.reassembly) == (0, 0), "slots or bytes leaked"
    assert not peer.connection.open_streams


def _act(rng: random.Random, peer: Peer) -> None:
    """What handlers and the transport may do between two reads."""
    connection = peer.connection
    action = rng.random()
    if action < 0.05:
        rng.choice([connection.pause, connection.resume])()
    elif action < 0.1:
        peer.now_ns += rng.choice([1, SECOND, 40 * SECOND])
        connection.tick(peer.now_ns)
    elif action < 0.11:
        connection.drain("fuzz", peer.now_ns)
    elif action < 0.6 and peer.stream:
        stream = rng.choice(list(peer.stream.values()))
        _answer(rng, peer, stream)


def _answer(rng: random.Random, peer: Peer, stream: Stream) -> None:
    connection = peer.connection
    match rng.randint(0, 6):
        case 0:
            connection.reply(stream, rng.randbytes(rng.choice([0, 10, 40_000])))
        case 1:
            connection.fail(stream, Status.INTERNAL, "no", [("x-a", "b")], b"details")
        case 2:
            connection.send_message(stream, rng.randbytes(rng.choice([0, 10, 40_000])), compress=True)
        case 3:
            connection.finish(stream, Status.OK, "")
        case 4:
            connection.reset(stream, ErrorCode.CANCEL)
        case 5:
            connection.consumed(stream, rng.choice([0, 200, 100_000]))
        case _:
            connection.release(stream)


def _check(peer: Peer) -> None:
    connection = peer.connection
    data = connection.take()
    assert len(data) <= MAX_WRITTEN, "an answer without measure"
    split(data)
    assert 0 <= connection.open_streams <= MAX_STREAMS
    assert 0 <= connection.in_flight <= MAX_IN_FLIGHT
    assert 0 <= peer.budget.reassembly <= MAX_REASSEMBLY
    assert len(connection.counters) < 40


# Many cases.


def run(seed: int, seconds: float, most: int = sys.maxsize) -> int:
    """Run cases until the time is over or there are enough; returns how many.

    Raises:
        AssertionError: a case failed, with its number; or memory grew.
    """
    end = time.monotonic() + seconds
    listeners = Listeners()
    number = base = 0
    while number < most and time.monotonic() < end:
        try:
            run_case(seed, number, listeners)
        except Exception as error:
            raise AssertionError(f"seed {seed} case {number}: {error!r}") from error
        number += 1
        if number == 1000:
            base = _blocks(listeners)
    if base:
        grown = _blocks(listeners) - base
        assert grown <= MAX_BLOCKS_LEFT, f"{grown} memory blocks more than after a thousand cases"
    return number


def _blocks(listeners: Listeners) -> int:
    listeners.forget()
    gc.collect()
    return sys.getallocatedblocks()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", type=int, help="run this case only")
    options = parser.parse_args()
    if options.case is not None:
        run_case(options.seed, options.case, Listeners())
        print("passed")
    else:
        print(run(options.seed, options.seconds), "cases passed")


if __name__ == "__main__":
    main()
