"""`sentinel-ext healthcheck`: both ways, TCP and Unix sockets, and servers that misbehave."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import hpack
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from support.envoy import free_port

from sentinel_ext.address import Address
from sentinel_ext.cli import _probe
from sentinel_ext.client.health import HealthError, check
from sentinel_ext.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AUTHORIZATION = "envoy.service.auth.v3.Authorization"


class Server:
    """grpcio's health service; `port` and `path` are where it listens."""

    def __init__(self, folder: Path) -> None:
        self.health = health.HealthServicer()
        self._server = grpc.server(ThreadPoolExecutor(2))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.path = folder / "health.sock"
        self._server.add_insecure_port(f"unix:{self.path}")
        self._server.start()
        self.set("SERVING")

    def set(self, status: str) -> None:
        self.health.set(AUTHORIZATION, getattr(health_pb2.HealthCheckResponse, status))
        self.health.set("", getattr(health_pb2.HealthCheckResponse, status))

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture(scope="module")
def running(module_folder: Path) -> Iterator[Server]:
    server = Server(module_folder)
    yield server
    server.stop()


@pytest.fixture
def server(running: Server) -> Server:
    running.set("SERVING")
    return running


@pytest.fixture(params=["quick", "whole"])
def ask(request, run, capsys):
    """The quick way and the whole command: nobody must see a difference."""

    def whole(*words: str) -> tuple[int | None, str, str]:
        done = run("healthcheck", *words)
        return done.code, done.out, done.err

    def quickly(*words: str) -> tuple[int | None, str, str]:
        code = _probe.quickly(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return whole if request.param == "whole" else quickly


def test_both_ways_say_the_same(server, ask):
    address = f"127.0.0.1:{server.port}"

    assert (0, "SERVING\n", "") == ask("--address", address)
    assert (0, "SERVING\n", "") == ask("-a", f"unix://{server.path}", "--timeout=2s", "-s", "")
    assert (1, "SERVICE_UNKNOWN\n", "") == ask("-a", address, "--service", "nope")
    server.set("NOT_SERVING")
    assert (1, "NOT_SERVING\n", "") == ask("-a", address)
    nobody = f"127.0.0.1:{free_port()}"
    assert (1, "", f"{nobody}: connection refused\n") == ask("-a", nobody)


@pytest.mark.parametrize(
    "words",
    [
        (), ("--help",), ("-a",), ("-a", "nowhere"), ("-a", "h:1", "--json"),
        ("-a", "h:1", "--timeout", "soon"), ("-a", "h:1", "-s", "x" * 128), ("-a=h:1",), ("extra",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_is_unusual_is_left_to_the_whole_program(words):
    assert _probe.quickly(words) is None


@pytest.mark.parametrize("words", [("-a", "nowhere"), ("--timeout", "soon"), ("-s", "x" * 128), ("extra",)])
def test_wrong_arguments(run, words):
    assert 2 == run("healthcheck", *words).code


def test_the_environment_says_where_as_it_does_for_serve(server, run, monkeypatch, tmp_path):
    monkeypatch.setenv("GRPC_ADDRESS", f"127.0.0.1:{server.port}")
    assert 0 == run("healthcheck").code
    monkeypatch.setenv("WORKERS", "many")
    assert 2 == run("healthcheck").code
    monkeypatch.delenv("WORKERS")
    monkeypatch.delenv("GRPC_ADDRESS")
    (tmp_path / ".env").write_text(f"GRPC_ADDRESS=0.0.0.0:{server.port}\n")
    assert 0 == run("healthcheck").code


def test_workers_are_healthy_while_one_is(server, run, monkeypatch):
    """Their addresses follow each other; the first two are not there."""
    monkeypatch.setenv("GRPC_ADDRESS", f"127.0.0.1:{server.port - 2}")
    monkeypatch.setenv("WORKERS", "3")

    done = run("healthcheck", "--json")

    said = json.loads(done.out)
    assert (0, "SERVING") == (done.code, said["status"])
    assert "SERVING" == said["addresses"][f"127.0.0.1:{server.port}"]
    server.set("NOT_SERVING")
    assert 1 == run("healthcheck").code


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload)
    return struct.pack(">HBBBI", size >> 8, size & 255, kind, flags, stream) + payload


def trailers(*fields: tuple[str, str]) -> bytes:
    return frame(1, 5, 1, hpack.Encoder().encode([(":status", "200"), *fields]))


SETTINGS = frame(4, 0, 0, b"")
MESSAGE = frame(0, 0, 1, struct.pack(">BI", 0, 2) + b"\x08\x01")


def answered(data: bytes, *, closes: bool = True, timeout_s: float = 2.0) -> str:
    """Ask a server that says `data` whatever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
        done = threading.Event()

        def serve() -> None:
            caller, _ = listener.accept()
            with caller:
                caller.recv(1000)
                caller.sendall(data)
                if not closes:
                    done.wait(10)
                caller.shutdown(socket.SHUT_WR)
                while caller.recv(4096):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            return check(address, "", timeout_s, monotonic_ns)
        finally:
            done.set()
            thread.join(5)


def test_frames_of_all_kinds_are_borne():
    padded = frame(0, 8, 1, b"\x03" + struct.pack(">BI", 0, 2) + b"\x08\x01" + bytes(3))
    other = frame(6, 0, 0, bytes(8)) + frame(8, 0, 0, bytes(4)) + frame(99, 0, 0, b"?") + frame(0, 0, 3, b"x")

    assert "SERVING" == answered(SETTINGS + other + padded + trailers(("grpc-status", "0")))


def test_a_status_without_a_message_is_unknown():
    assert "UNKNOWN" == answered(SETTINGS + trailers(("grpc-status", "0")))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak HTTP/2"),
        (SETTINGS, "closed the connection"),
        (SETTINGS + frame(7, 0, 0, bytes(8)), "ended the call"),
        (SETTINGS + frame(3, 0, 1, bytes(4)), "ended the call"),
        (SETTINGS + trailers(("grpc-status", "14")), "grpc-status 14"),
        (SETTINGS + trailers(), "http 200"),
        (SETTINGS + trailers(("grpc-status", "\x1b[2J")), r"\x1b[2J"),
        (SETTINGS + frame(1, 5, 1, b"\xff\xff\xff"), "does not speak HTTP/2"),
        (SETTINGS + frame(0, 0, 1, bytes(16_000)) * 5, "sends much"),
        (frame(0, 0, 1, bytes(9))[:9], "closed the connection"),
    ],
    ids=[
        "empty",
        "http1",
        "silent",
        "goaway",
        "rst",
        "unavailable",
        "no grpc",
        "escape",
        "hpack",
        "flood",
        "cut",
    ],
)
def test_servers_that_misbehave_are_an_error_and_no_crash(data, said):
    with pytest.raises(HealthError) as told:
        answered(data)

    assert said in str(told.value)
    assert str(told.value).isprintable()


def test_a_server_that_says_nothing_is_waited_for_no_longer_than_told():
    with pytest.raises(HealthError, match=r"within 0\.1 s"):
        answered(SETTINGS, closes=False, timeout_s=0.1)


def test_a_server_that_trickles_is_cut_off_at_the_deadline():
    """Each frame comes in time, the end never does."""
    now = iter(range(0, 100_000_000_000, 400_000_000))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_trickle, args=(listener,), daemon=True)
        thread.start()
        with pytest.raises(HealthError, match="within 2 s"):
            check(Address("127.0.0.1", listener.getsockname()[1]), "", 2.0, lambda: next(now))
        thread.join(5)


def _trickle(listener: socket.socket) -> None:
    caller, _ = listener.accept()
    with caller:
        caller.sendall(SETTINGS * 100)
        while caller.recv(4096):
            pass


def test_a_probe_imports_neither_typer_nor_grpc(server):
    """They take 200 ms of CPU; a container with a tenth of a core has one second."""
    program = (
        "import sys\nfrom sentinel_ext.cli.entry import main\n"
        f"sys.argv = ['sentinel-ext', 'healthcheck', '-a', '127.0.0.1:{server.port}']\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert ended.code == 0, ended.code\n"
        "print(sorted({'typer', 'grpc', 'pydantic', 'rich', 'asyncio'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "SERVING\n[]\n" == done.stdout
