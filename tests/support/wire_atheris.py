"""Coverage-guided fuzzing of the wire: `make fuzz-guided`. libFuzzer's options pass through.

    cd tests && python -m support.wire_atheris -max_total_time=60

The first byte chooses limits and cutting, the rest is what a client sends behind a lawful beginning.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-not-found, unused-ignore]  # only `make fuzz-guided` installs it

with atheris.instrument_imports(include=["sentinel_ext.wire", "hpack"]):
    from support import wire_fuzz
    from support.wire_peer import Peer

    from sentinel_ext.wire import frames
    from sentinel_ext.wire.limits import ProcessBudget

HELLO = frames.PREFACE + frames.settings([]) + frames.SETTINGS_ACK
_listeners = wire_fuzz.Listeners()


def one_input(data: bytes) -> None:
    """Feed one input; raises where a bound is broken or the connection raised."""
    if not data:
        return
    choice, data = data[0], HELLO + data[1:]
    limits, cache = _listeners._all[choice % len(_listeners._all)]
    budget = ProcessBudget(max_reassembly=wire_fuzz.MAX_REASSEMBLY)
    peer = Peer(limits, echo=bool(choice & 0x40), budget=budget, cache=cache, hello=False)
    size = 7 if choice & 0x80 else len(data)
    for at in range(0, len(data), size):
        peer.connection.feed(data[at : at + size], peer.now_ns)
        wire_fuzz._check(peer)
    peer.connection.lost(peer.now_ns)
    for stream in peer.stream.values():
        peer.connection.release(stream)
    assert (budget.in_flight, budget.reassembly) == (0, 0), "slots or bytes leaked"


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
