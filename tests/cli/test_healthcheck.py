"""`sentinel-ext healthcheck`: both ways, TCP and Unix sockets, and servers that misbehave."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import grpc
import hpack
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from support.envoy import free_port
from support.lean_frames import SETTINGS, frame

from sentinel_ext.address import Address
from sentinel_ext.cli import _probe
from sentinel_ext.client.health import HealthError, check
from sentinel_ext.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What a busy machine adds to a deadline.
SLACK_S = 1.0
DRIP_S = 0.05
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


def trailers(*fields: tuple[str, str | bytes]) -> bytes:
    return frame(1, 5, 1, hpack.Encoder().encode([(":status", "200"), *fields]))


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
        (SETTINGS + trailers(("grpc-status", "255")), "answers grpc-status 255"),
        (SETTINGS + trailers(("grpc-status", "0xff")), "answers grpc-status 0xff"),
        (SETTINGS + trailers(("grpc-status", b"\xff\xfe")), r"answers grpc-status \xff\xfe"),
        (SETTINGS + trailers(("grpc-status", "")), "answers grpc-status (none)"),
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
        "255",
        "hexadecimal",
        "no ascii",
        "none",
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


@contextmanager
def dripping(folder: Path, count: int = 1) -> Iterator[Path]:
    """Sockets of workers that send a long frame, a byte now and then."""
    done, path = threading.Event(), folder / "drip.sock"

    def drip(listener: socket.socket) -> None:
        caller, _ = listener.accept()
        with caller, suppress(OSError):
            for byte in frame(0, 0, 1, bytes(1000)):
                caller.sendall(bytes([byte]))
                if done.wait(DRIP_S):
                    return

    with ExitStack() as stack:
        stack.callback(done.set)
        for index in range(count):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(f"{path}.{index}")
            listener.listen()
            threading.Thread(target=drip, args=(listener,), daemon=True).start()
        yield path


def test_a_server_that_drips_is_cut_off_at_the_deadline(ask, short_folder):
    """Every byte comes in time, the end never does."""
    with dripping(short_folder) as path:
        begun = time.monotonic()
        code, _, err = ask("-a", f"unix://{path}.0", "--timeout", "300ms")

    assert (1, f"no answer from unix://{path}.0 within 0.3 s\n") == (code, err)
    assert 0.3 <= time.monotonic() - begun < 0.3 + SLACK_S


def test_the_workers_have_one_deadline(run, monkeypatch, short_folder):
    monkeypatch.setenv("WORKERS", "3")
    with dripping(short_folder, 3) as path:
        monkeypatch.setenv("GRPC_ADDRESS", f"unix://{path}")
        begun = time.monotonic()
        done = run("healthcheck", "--timeout", "600ms")

    said = [f"unix://{path}.{at}: no answer from unix://{path}.{at} within 0.6 s" for at in range(3)]
    assert (1, said) == (done.code, done.err.splitlines())
    assert 0.6 <= time.monotonic() - begun < 0.6 + SLACK_S


def test_a_worker_that_hangs_does_not_take_the_time_of_one_that_serves(
    server, run, monkeypatch, short_folder
):
    with dripping(short_folder) as path:
        path.with_name(f"{path.name}.1").symlink_to(server.path)
        monkeypatch.setenv("GRPC_ADDRESS", f"unix://{path}")
        monkeypatch.setenv("WORKERS", "2")
        begun = time.monotonic()

        assert 0 == run("healthcheck", "--timeout", "5s").code
        assert time.monotonic() - begun < 4


def test_a_resolver_that_hangs_is_waited_for_no_longer_than_told(ask, monkeypatch):
    """It knows no deadline itself; a number is not looked up."""
    freed, real = threading.Event(), socket.getaddrinfo

    def hangs(host, *more, flags=0, **rest):
        if not flags & socket.AI_NUMERICHOST:
            freed.wait(10)
        return real(host, *more, flags=socket.AI_NUMERICHOST, **rest)

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    begun = time.monotonic()

    assert (1, "", "no answer from service.example:80 within 0.2 s\n") == ask(
        "-a", "service.example:80", "--timeout", "200ms"
    )
    assert time.monotonic() - begun < 0.2 + SLACK_S
    freed.set()


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
