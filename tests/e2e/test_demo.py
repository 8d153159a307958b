"""`sentinel-ext demo` as a user runs it: real Envoy, real Redis, and nothing left of it afterwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.prometheus import program
from support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.e2e

PATIENCE_S = 60.0
TIERS = {"acme": "vital", "globex": "standard", "trial-7": "economy"}
UP = "sending on"


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on; held together, so that they differ."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Demo:
    """One run, on ports and in a temporary folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "t"
        self.temporary.mkdir()
        self.port, upstream, grpc, admin, debug, self.envoy_admin, self.prometheus = free_ports(7)
        self.environment = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "TMPDIR": str(self.temporary),
            "PORT": str(self.port),
            "DOWNSTREAM_URL": f"http://localhost:{upstream}",
            "GRPC_ADDRESS": f"127.0.0.1:{grpc}",
            "ADMIN_ADDRESS": f"127.0.0.1:{admin}",
            "DEBUG_GRPC_ADDRESS": f"127.0.0.1:{debug}",
            # Also where CI asks for colours: these are files, not terminals.
            "FORCE_COLOR": "1",
        }

    def start(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "sentinel_ext", "demo", *arguments]
        command += ["--envoy-admin-address", f"127.0.0.1:{self.envoy_admin}"]
        command += ["--prometheus-address", f"127.0.0.1:{self.prometheus}"]
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            self.process = subprocess.Popen(
                command,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def run(self, *arguments: str) -> int:
        self.start(*arguments)
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.out + self.err or self.process.poll() is not None, f"no {text!r}")
        assert text in self.out + self.err

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()

    def processes(self) -> dict[int, str]:
        """Every living process that knows this run's folder, by id: its command line.

        It stands in the environment that all inherit; Redis writes over its own, but works in it.
        """
        mark = str(self.temporary).encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes()
                    if mark in (entry / "environ").read_bytes() + command + os.fsencode(
                        (entry / "cwd").readlink()
                    ):
                        found[int(entry.name)] = command.replace(b"\0", b" ").decode()
                except OSError:
                    continue  # ended meanwhile
        return found

    def pid_of(self, word: str) -> int:
        (pid,) = [pid for pid, command in self.processes().items() if word in command]
        return pid

    def shared_memory(self) -> list[str]:
        """What it maps of files that a killed Envoy leaves behind; other tests' Envoys have some, too."""
        maps = [Path(f"/proc/{pid}/maps").read_text().splitlines() for pid in self.processes()]
        return [line for lines in maps for line in lines if "/dev/shm/envoy" in line]

    def assert_nothing_is_left(self) -> None:
        assert self.processes() == {}
        assert list(self.temporary.iterdir()) == []


@pytest.fixture
def demo(tmp_path_factory):
    # A short name: the path of a Unix socket has 107 bytes.
    demo = Demo(tmp_path_factory.mktemp("demo"))
    yield demo
    process = getattr(demo, "process", None)
    if process is not None and process.poll() is None:
        process.kill()
        process.wait()


def assert_is_whole(summary: dict[str, Any]) -> None:
    assert {name: numbers["tier"] for name, numbers in summary["tenants"].items()} == TIERS
    for numbers in summary["tenants"].values():
        assert set(numbers) == {"tier", "sent", "allowed", "limited", "shed"}  # no errors
        assert numbers["allowed"] > 0
        assert numbers["allowed"] + numbers["limited"] + numbers["shed"] == numbers["sent"]
    assert summary["tenants"]["acme"]["limited"] == 0
    assert summary["tenants"]["trial-7"]["limited"] > 0
    assert summary["envoy_version"].startswith("1.")
    assert int(summary["redis_version"].split(".")[0]) >= 6


def test_once_with_json_prints_one_object_and_leaves_nothing(demo: Demo) -> None:
    assert demo.run("--once", "--json") == 0, demo.err

    assert_is_whole(json.loads(demo.out))
    assert demo.out.count("\n") == 1
    assert "waiting for Envoy" in demo.err
    assert "\x1b" not in demo.err
    demo.assert_nothing_is_left()


def test_a_long_demo_shows_what_passes_until_ctrl_c(demo: Demo) -> None:
    demo.start()
    demo.wait_for(UP)

    request = urllib.request.Request(
        f"http://127.0.0.1:{demo.port}/proxy/hello", headers={"x-tenant-id": "acme"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["x-ratelimit-limit"] == "1000"
        seen = json.load(answer)
    shared_memory = demo.shared_memory()
    demo.process.send_signal(signal.SIGINT)

    assert demo.wait() == 0, demo.err
    assert seen["path"] == "/hello"
    assert seen["headers"]["x-sentinel-tier"] == "vital"
    assert {"x-correlation-id", "traceparent"} <= set(seen["headers"])
    assert [] == shared_memory
    assert f"curl -i -H 'x-tenant-id: acme' http://127.0.0.1:{demo.port}/proxy/hello" in demo.out
    assert demo.out.count("tenant ") == 2  # after the sample, and at the end
    assert "\x1b" not in demo.out
    assert demo.err == ""
    demo.assert_nothing_is_left()


def test_with_prometheus_it_scrapes_sentinel_and_envoy_and_knows_the_alerts(demo: Demo) -> None:
    demo.environment["PATH"] = f"{Path(program('prometheus')).parent}:{os.defpath}"
    url = f"http://127.0.0.1:{demo.prometheus}"

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"{url}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    demo.start("--with-prometheus", "--json")
    demo.wait_for(UP)
    targets = {each["labels"]["job"]: each["health"] for each in ask("targets")["activeTargets"]}
    alerts = [rule for group in ask("rules?type=alert")["groups"] for rule in group["rules"]]
    until(lambda: ask("query?query=sum(sentinel_decisions_total)")["result"], "nothing was scraped")
    decisions = float(ask("query?query=sum(sentinel_decisions_total)")["result"][0]["value"][1])
    demo.process.send_signal(signal.SIGINT)

    assert demo.wait() == 0, demo.err
    assert {"sentinel": "up", "envoy": "up"} == targets
    assert "SentinelInstanceDown" in {rule["name"] for rule in alerts}
    assert decisions > 0
    assert f"{url}/alerts" in demo.err
    assert json.loads(demo.out)["prometheus_version"][0] in "23"
    demo.assert_nothing_is_left()


def test_a_missing_prometheus_is_told_before_anything_starts(demo: Demo) -> None:
    demo.environment["PATH"] = str(demo.folder)

    assert demo.run("--once", "--with-prometheus") == 2

    assert demo.err.startswith("sentinel-ext: --with-prometheus: prometheus is not on PATH: install ")
    assert demo.out == ""
    demo.assert_nothing_is_left()


def test_sigterm_ends_a_json_demo_with_its_summary(demo: Demo) -> None:
    demo.start("--json")
    demo.wait_for(UP)
    assert demo.out == ""

    demo.process.terminate()

    assert demo.wait() == 0, demo.err
    assert_is_whole(json.loads(demo.out))
    demo.assert_nothing_is_left()


@pytest.mark.parametrize("moment", ["waiting for Redis", "waiting for Sentinel", "waiting for Envoy"])
def test_ctrl_c_while_it_starts_leaves_nothing(demo: Demo, moment: str) -> None:
    demo.start("--json")
    demo.wait_for(moment)

    demo.process.send_signal(signal.SIGINT)

    assert demo.wait() == 128 + signal.SIGINT
    assert demo.out == ""
    demo.assert_nothing_is_left()


def test_sigkill_takes_every_child_with_it(demo: Demo) -> None:
    demo.start()
    demo.wait_for(UP)
    assert len(demo.processes()) == 4

    demo.process.kill()
    demo.wait()

    until(lambda: not demo.processes(), f"left: {demo.processes()}")


@pytest.mark.parametrize(
    ("name", "word"), [("Envoy", "envoy.yaml"), ("Sentinel", "sentinel_ext serve"), ("Redis", "redis-server")]
)
def test_a_dead_child_ends_the_demo_with_its_name(demo: Demo, name: str, word: str) -> None:
    demo.start()
    demo.wait_for(UP)

    os.kill(demo.pid_of(word), signal.SIGKILL)

    assert demo.wait() == 1
    assert demo.err.startswith(f"sentinel-ext: {name} was ended by SIGKILL; ")
    demo.assert_nothing_is_left()


def test_addresses_in_use_are_all_named_before_anything_starts(demo: Demo) -> None:
    admin = int(demo.environment["ADMIN_ADDRESS"].rpartition(":")[2])
    with socket.create_server(("127.0.0.1", demo.port)), socket.create_server(("127.0.0.1", admin)):
        assert demo.run("--once") == 1

    first, second = demo.err.splitlines()
    assert first.startswith(f"sentinel-ext: 127.0.0.1:{demo.port} (PORT, Envoy) is in use: ")
    assert second.endswith("set ADMIN_ADDRESS to another")
    assert demo.out == ""
    demo.assert_nothing_is_left()


def test_a_sentinel_that_cannot_start_is_told_with_its_own_words(demo: Demo) -> None:
    (demo.folder / "file").touch()
    demo.environment["GRPC_ADDRESS"] = f"unix://{demo.folder}/file"

    assert demo.run("--once") == 1

    first, *words = demo.err.splitlines()
    assert first.startswith("sentinel-ext: Sentinel ended with exit code 1; ")
    assert all(line.startswith("sentinel-ext:   Sentinel | ") for line in words)
    assert f"{demo.folder}/file exists and is not a socket" in words[-1]
    demo.assert_nothing_is_left()


def test_a_redis_url_of_the_users_is_used_and_left_running(demo: Demo) -> None:
    folder = demo.folder / "redis"
    folder.mkdir()
    server = RedisServer(folder).start()
    try:
        demo.environment["REDIS_URL"] = server.url
        assert demo.run("--once", "--json") == 0, demo.err

        assert_is_whole(json.loads(demo.out))
        with server.client() as client:
            assert any(b"acme" in key for key in client.scan_iter())
    finally:
        server.stop()
    demo.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("REDIS_URL", "redis://:secret@127.0.0.1:{port}", "but no Redis answers there"),
        ("DOWNSTREAM_URL", "https://localhost:{port}", "but nothing accepts connections there"),
    ],
)
def test_a_given_part_that_is_not_there_is_named(demo: Demo, variable: str, value: str, words: str) -> None:
    demo.environment[variable] = value.format(port=free_ports(1)[0])

    assert demo.run("--once") == 1

    assert demo.err.startswith(f"sentinel-ext: {variable} is ")
    assert words in demo.err
    assert "secret" not in demo.err + demo.out
    demo.assert_nothing_is_left()


def test_a_wrong_policy_ends_with_exit_code_2_before_anything_starts(demo: Demo) -> None:
    (demo.folder / "policy.yaml").write_text("plans: {gold: {limit: -1}}\n")
    demo.environment["POLICY_FILE"] = "policy.yaml"

    assert demo.run("--once") == 2

    assert "policy.yaml" in demo.err
    assert demo.out == ""
    demo.assert_nothing_is_left()


def test_requests_without_a_decision_are_told_as_failures(demo: Demo) -> None:
    """While Sentinel is frozen Envoy lets requests pass, and the demo does not call that allowed."""
    demo.start()
    demo.wait_for(UP)
    sentinel = demo.pid_of("sentinel_ext serve")

    os.kill(sentinel, signal.SIGSTOP)
    time.sleep(2)  # two requests of each tenant's trickle at least
    os.kill(sentinel, signal.SIGCONT)
    demo.process.terminate()

    assert demo.wait() == 0
    assert "requests failed; the first: HTTP 200 without a decision of Sentinel" in demo.out
    demo.assert_nothing_is_left()
