"""`sentinel-ext bench`: half a second against a real Sentinel, and what it says of others."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2
from support.decision_server import HOSTILE
from support.envoy import free_port
from support.fleet import Sentinel
from support.odd_peer import odd_peer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICY = """
version: 1
plans:
  few: {limit: 40, window: 60s, burst: unlimited}
  all: {limit: unlimited, burst: unlimited}
tenants:
  few: {plan: few}
  all: {plan: all}
"""
CONNECTIONS, IN_FLIGHT = 2, 5
OPEN = CONNECTIONS * IN_FLIGHT
LOAD = ("-s", "500ms", "-c", str(CONNECTIONS), "-m", str(IN_FLIGHT))


@pytest.fixture(scope="module")
def sentinel(module_folder: Path) -> Iterator[Sentinel]:
    policy = module_folder / "policy.yaml"
    policy.write_text(POLICY)
    served = Sentinel(module_folder, {"REDIS_URL": "memory://", "POLICY_FILE": str(policy)})
    served.start()
    asyncio.run(served.ready())
    yield served
    served.discard()


def decided(sentinel: Sentinel) -> float:
    """How many decisions the service itself has counted."""
    found = asyncio.run(sentinel.metrics())
    return sum(count for name, count in found.items() if name.startswith("sentinel_decisions_total"))


def test_the_figures_hold_together_and_with_what_the_service_counted(sentinel, run, monkeypatch):
    monkeypatch.setenv("GRPC_ADDRESS", f"127.0.0.1:{sentinel.grpc_port}")
    before = decided(sentinel)

    done = run("bench", *LOAD, "-t", "all", "--json")

    said, counted = json.loads(done.out), decided(sentinel) - before
    assert (0, [CONNECTIONS, IN_FLIGHT]) == (done.code, [said["connections"], said["concurrency"]])
    assert ["connections x 5 in flight to 127.0.0.1", "measuring for 0.5 s", "done"] == [
        line.lstrip("2 ").partition(f":{sentinel.grpc_port}")[0] for line in done.err.splitlines()
    ]
    requests, elapsed = said["requests"], said["seconds"]
    assert 0.5 <= elapsed < 5
    assert said["requests_per_s"] == pytest.approx(requests / elapsed, rel=0.01)
    assert {"0": requests} == said["grpc_status"]
    # An answer and its trailers may stand on both sides of where measuring begins or ends.
    assert ["200 allowed"] == list(said["verdicts"])
    assert requests == pytest.approx(said["verdicts"]["200 allowed"], abs=2 * OPEN)
    # Warming up counts there, too.
    assert 0 < requests <= counted
    p50, p99, p999 = (said["latency_ms"][name] for name in ("p50", "p99", "p99.9"))
    assert 0 < p50 <= p99 <= p999 <= 1000 * (elapsed + 1)
    # So many are open at a time that half of them take at least half of their share (Little's law).
    assert requests * p50 / 1000 / 2 <= OPEN * (elapsed + p999 / 1000)


def test_people_read_the_same_figures_and_what_was_refused(sentinel, run):
    done = run("bench", *LOAD, "-t", "few", "-a", f"127.0.0.1:{sentinel.grpc_port}")

    lines = dict(re.split(r"  +", line, maxsplit=1) for line in done.out.splitlines())
    found = re.fullmatch(r"([0-9]+) in ([0-9.]+) s, ([0-9]+) per second", lines["requests"])
    requests, elapsed, per_s = map(float, found.groups())
    times = [float(each) for each in re.findall(r"([0-9.]+) ms", lines["latency"])]
    assert 0 == done.code
    assert per_s == pytest.approx(requests / elapsed, rel=0.05)
    assert [3, sorted(times)] == [len(times), times]
    # Forty were allowed before measuring began.
    refused = re.fullmatch(r"([0-9]+) \(100\.0%\)", lines["429 rate_limited"])
    assert requests == pytest.approx(int(refused[1]), abs=2 * OPEN)


def test_nobody_there_and_somebody_else_there_are_told(sentinel, run):
    nobody = f"127.0.0.1:{free_port()}"

    away, admin = (run("bench", *LOAD, "-a", at) for at in (nobody, f"127.0.0.1:{sentinel.admin_port}"))

    assert (1, "") == (away.code, away.out)
    assert (
        f"sentinel-ext: nothing answers at {nobody} (connection refused): is `sentinel-ext serve` running? "
        "`--address` or GRPC_ADDRESS name another"
    ) == away.err.splitlines()[-1]
    assert (1, "") == (admin.code, admin.out)
    assert "Traceback" not in admin.err
    assert "sentinel-ext: the server" in admin.err.splitlines()[-1]


def test_a_server_that_hangs_is_no_result(run):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = run("bench", "-s", "100ms", "--json", "-a", f"127.0.0.1:{listener.getsockname()[1]}")

    said = json.loads(done.out)
    assert (1, 0, None) == (done.code, said["requests"], said["latency_ms"]["p50"])


@pytest.mark.parametrize(
    ("status", "said"),
    [(b"255", "255"), (b"0xff", "0xff"), (b"\xff\x1b[2J", r"\xff\x1b[2J"), (b"", "(none)")],
    ids=["255", "hexadecimal", "hostile", "none"],
)
def test_odd_statuses_are_told_by_every_client(run, status, said):
    """Bench counts them; those of the library that others use never show one as it is."""
    with odd_peer(status, (b"grpc-message", b"%1B[2J\xe2\x80\xae")) as address:
        done = run("bench", "-s", "100ms", "-c", "1", "-m", "1", "-a", address)
        asked = [run(*words, "-a", address) for words in (("tenants", "--timeout", "2s"), ("watch",))]
        probed = run("healthcheck", "-a", address, "--timeout", "2s")

    assert 1 == done.code
    assert re.search(rf"^grpc-status {re.escape(said)}  [0-9]+$", done.out, re.MULTILINE)
    assert f"the server answers grpc-status {said}\n" == probed.err
    for each in (done, probed, *asked):
        assert 1 == each.code
        assert "Traceback" not in each.err
        assert all(line.isprintable() for line in (each.out + each.err).split("\n"))


def test_a_hostile_reason_is_shown_escaped(run):
    response = external_auth_pb2.CheckResponse()
    header = response.denied_response.headers.add().header
    header.key, header.value = "x-sentinel-reason", HOSTILE
    answer = response.SerializeToString()
    server = grpc.server(ThreadPoolExecutor(1))
    methods = {"Check": grpc.unary_unary_rpc_method_handler(lambda _request, _context: answer)}
    name = "envoy.service.auth.v3.Authorization"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        done = run("bench", "-s", "100ms", "-c", "1", "-m", "1", "-a", f"127.0.0.1:{port}")
    finally:
        server.stop(None).wait()

    assert 0 == done.code
    assert r"403 [red]x[/red]\x1b[2J\n\x7f\x9b\u202e\u2066evil" in done.out
    assert all(line.isprintable() for line in done.out.split("\n"))
