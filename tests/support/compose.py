"""docker-compose.yml without an engine: read by Docker Compose itself, run as processes on loopback.

What a container would be told is what the processes are told: command, entrypoint, environment, mounted
files, health check. Only addresses (`redis:6379`), paths of mounts and names of programs are put in their
places here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from support.envoy import free_port
from support.image import stages
from support.otlp import Receiver
from support.redis_server import redis_binary

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
BESIDE = Path(sys.executable).parent
PATIENCE_S = 60.0
POLL_S = 0.3
# What the image of a service begins with, where the file says nothing.
ENTRYPOINTS = {"prometheus": ["prometheus"]}


def compose(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Docker Compose, the wheel's, on a file."""
    command = [str(BESIDE / "docker-compose"), "--file", str(file), *arguments]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}  # nobody's own Docker settings
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@functools.cache
def config() -> dict[str, Any]:
    """Return the file as Docker Compose understands it: anchors and short forms resolved, paths absolute."""
    done = compose(FILE, "config", "--format", "json")
    assert 0 == done.returncode, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def services() -> dict[str, dict[str, Any]]:
    return config()["services"]


def binds(service: dict[str, Any]) -> dict[str, Path]:
    """Return target → source of what is mounted from the checkout."""
    return {m["target"]: Path(m["source"]) for m in service.get("volumes", ()) if m["type"] == "bind"}


def mapped(value: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Change every mapping inside a document."""
    if isinstance(value, dict):
        return change({name: mapped(below, change) for name, below in value.items()})
    return [mapped(below, change) for below in value] if isinstance(value, list) else value


class Stack:
    """Redis, two Sentinels, the backend, Envoy and, where it is installed, Prometheus; Jaeger is a receiver.

    Attributes:
        receiver: the spans that would have gone to Jaeger.
        failed_before: the services whose health check failed before anything ran.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failed_before: set[str] = set()
        self._ports: dict[tuple[str, int], int] = {}
        self._children: list[subprocess.Popen[bytes]] = []
        self._files: dict[str, dict[str, Path]] = {name: binds(each) for name, each in services().items()}
        self._programs = {
            "envoy": str(BESIDE / "envoy"),
            "redis-server": redis_binary(),
            "redis-cli": shutil.which("redis-cli") or str(BESIDE / "redis-cli"),
            "python3": sys.executable,
            "sentinel-ext": str(BESIDE / "sentinel-ext"),
        }

    def port(self, service: str, port: int) -> int:
        """Return the loopback port that stands for a port of a service."""
        return self._ports.setdefault((service, port), free_port())

    def url(self, service: str, port: int) -> str:
        return f"http://127.0.0.1:{self.port(service, port)}"

    def moved(self, service: str, text: str) -> str:
        """Put the addresses and mounted paths of a text in their places here."""

        def place(match: re.Match[str]) -> str:
            owner = match[1] if match[1] in services() else service
            return f"127.0.0.1{match[2]}{self.port(owner, int(match[3]))}"

        names = "|".join([*services(), r"0\.0\.0\.0", r"127\.0\.0\.1"])
        text = re.sub(rf"\b({names})([:/])(\d+)\b", place, text)
        for target, source in self._files[service].items():
            text = re.sub(rf"(^|=){re.escape(target)}(/|$)", rf"\g<1>{source}\2", text)
        return text

    def use(self, name: str, program: str) -> None:
        """Run `program` where the file says `name`."""
        self._programs[name] = program

    def environment(self, service: str) -> dict[str, str]:
        """Return what a container would have in its environment; paths of the image's own are not here."""
        own = services()[service].get("environment", {})
        image = stages()[-1].variables() if "sentinel" in services()[service]["image"] else {}
        return {
            **{name: self.moved(service, value) for name, value in {**image, **own}.items()},
            "PATH": os.environ["PATH"],
        }

    def command(self, service: str, words: list[str]) -> list[str]:
        return [self._programs.get(words[0], words[0]), *(self.moved(service, word) for word in words[1:])]

    def is_healthy(self, service: str) -> bool:
        """Run the health check of a service."""
        kind, *words = services()[service]["healthcheck"]["test"]
        assert kind == "CMD"
        command = self.command(service, words)
        if words[0] == "redis-cli":  # it asks the port that is Redis' own
            command[1:1] = ["-p", str(self.port("redis", 6379))]
        done = subprocess.run(
            command,
            env=self.environment(service),
            cwd=self.folder,
            check=False,
            capture_output=True,
            timeout=30,
        )
        return done.returncode == 0

    async def start(self, service: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        """Start a service with what the file says and `arguments`; wait until its health check says so."""
        told = services()[service]
        image = [json.loads(stages()[-1].all(word)[0]) for word in ("ENTRYPOINT", "CMD")]
        words = [*(told.get("entrypoint") or ENTRYPOINTS.get(service, ())), *(told.get("command") or ())]
        words = words or [word for part in image for word in part]
        log = (self.folder / f"{service}.log").open("wb")
        child = subprocess.Popen(
            [*self.command(service, words), *arguments],
            env={**self.environment(service), **(environment or {})},
            cwd=self.folder, stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        self._children.append(child)
        deadline = time.monotonic() + PATIENCE_S
        while not await asyncio.to_thread(self.is_healthy, service):
            assert child.poll() is None, self.log(service)
            assert time.monotonic() < deadline, self.log(service)
            await asyncio.sleep(POLL_S)

    def log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text()

    async def __aenter__(self) -> Self:
        self.receiver = await Receiver().__aenter__()
        self._ports["jaeger", 4317] = self.receiver.grpc_port
        self._write_envoy()
        self._write_prometheus()
        checked = ["redis", "backend", "sentinel-1", "envoy"]
        self.failed_before = {name for name in checked if not self.is_healthy(name)}
        try:
            port = str(self.port("redis", 6379))
            await self.start("redis", "--port", port, "--bind", "127.0.0.1", "--dir", str(self.folder))
            # One machine has one port for people; spans come at once.
            alone = {"DEBUG_GRPC_ADDRESS": "off", "OTEL_BSP_SCHEDULE_DELAY": "100"}
            both = (self.start(name, environment=alone) for name in ("sentinel-1", "sentinel-2"))
            await asyncio.gather(self.start("backend"), *both)
            await self.start("envoy")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        for child in reversed(self._children):
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            try:
                await asyncio.to_thread(child.wait, 15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        await self.receiver.__aexit__()

    def _write_envoy(self) -> None:
        """Write the mounted configuration with loopback addresses, and mount that."""
        files = self._files["envoy"]
        document = yaml.safe_load(files["/etc/envoy/envoy.yaml"].read_text())

        def loopback(node: dict[str, Any]) -> dict[str, Any]:
            if "port_value" not in node:
                return node
            owner = node["address"] if node["address"] in services() else "envoy"
            return {"address": "127.0.0.1", "port_value": self.port(owner, node["port_value"])}

        files["/etc/envoy/envoy.yaml"] = self.folder / "envoy.yaml"
        files["/etc/envoy/envoy.yaml"].write_text(yaml.safe_dump(mapped(document, loopback)))

    def _write_prometheus(self) -> None:
        """Write the mounted configuration with loopback targets beside the mounted alerts, and mount that."""
        files = self._files["prometheus"]
        folder = self.folder / "prometheus"
        folder.mkdir()
        for target, source in list(files.items()):
            text = source.read_text()
            if target.endswith("prometheus.yml"):
                text = self.moved("prometheus", text).replace("scrape_interval: 5s", "scrape_interval: 1s")
            files[target] = folder / Path(target).name
            files[target].write_text(text)
        files["/prometheus"] = folder / "data"
