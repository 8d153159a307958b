"""A fleet as users run it: Sentinels and Envoys as processes, one Redis, one upstream; all on loopback."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp import web
from support.envoy import EnvoyProcess, free_port
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

READY_S = 30.0


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: str
    seconds: float


class Upstream:
    """Echoes what arrives: path and headers."""

    def __init__(self) -> None:
        self.port = free_port()
        self.seen = 0

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._echo)
        self._runner = web.AppRunner(app, access_log=None, max_field_size=100_000)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024).start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._runner.cleanup()

    async def _echo(self, request: web.Request) -> web.Response:
        self.seen += 1
        return web.json_response(
            {"path": request.path_qs, "headers": {k.lower(): v for k, v in request.headers.items()}}
        )


class Sentinel:
    """`sentinel-ext serve` with an environment of its own.

    Attributes:
        grpc_server: which server a test run is about; the fixture of the same name sets it.
        program: what starts, before `serve`.
    """

    grpc_server = "lean"
    program: tuple[str, ...] = (sys.executable, "-m", "sentinel_ext")

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.grpc_port, self.admin_port = free_port(), free_port()
        self.environment = {
            "PATH": os.environ["PATH"],
            "GRPC_ADDRESS": f"127.0.0.1:{self.grpc_port}",
            "ADMIN_ADDRESS": f"127.0.0.1:{self.admin_port}",
            "DEBUG_GRPC_ADDRESS": "off",
            "GRPC_SERVER": self.grpc_server,
            **environment,
        }
        self.log = folder / f"sentinel-{self.grpc_port}.log"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.program, "serve"],
                env=self.environment,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )

    async def ready(self) -> None:
        deadline = time.monotonic() + READY_S
        async with aiohttp.ClientSession() as session:
            while True:
                assert self._process is not None
                assert self._process.poll() is None, self.log.read_text()
                try:
                    async with session.get(f"{self.admin}/readyz") as response:
                        if response.status == 200 and (await response.json())["store"]["available"]:
                            return
                except aiohttp.ClientError:
                    pass
                assert time.monotonic() < deadline, self.log.read_text()
                await asyncio.sleep(0.02)

    async def metrics(self) -> dict[str, float]:
        """Samples by `name{labels}`."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.admin}/metrics") as response:
            text = await response.text()
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._process = None

    def discard(self) -> None:
        """End it at once, after tests that are not about its end: a drain takes 1.2 s."""
        if self._process is not None:
            self.kill()

    def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM, as an orchestrator does; return the exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._process = None


@dataclass
class Fleet:
    """`size` pairs of Sentinel and Envoy in front of one upstream, the one that `make_upstream` returns."""

    folder: Path
    environment: dict[str, str]
    size: int = 1
    sentinels: list[Sentinel] = field(default_factory=list)
    envoys: list[EnvoyProcess] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    config_arguments: tuple[str, ...] = ()
    base: str = ""
    make_upstream: Callable[[], Any] = Upstream

    async def __aenter__(self) -> Self:
        self.upstream = await self.make_upstream().__aenter__()
        try:
            await self._start()
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        # Connections are kept, as gateways' clients do; no limit, so that the client is never the bottleneck.
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        return self

    async def _start(self) -> None:
        for _ in range(self.size):
            port = free_port()
            environment = {
                **self.environment,
                "PORT": str(port),
                "DOWNSTREAM_URL": f"http://127.0.0.1:{self.upstream.port}{self.base}",
            }
            self.ports.append(port)
            self.sentinels.append(Sentinel(self.folder, environment))
        for sentinel in self.sentinels:
            sentinel.start()
        for i, sentinel in enumerate(self.sentinels):
            await sentinel.ready()
            self.envoys.append(await asyncio.to_thread(self._envoy, sentinel, i))

    def _envoy(self, sentinel: Sentinel, number: int) -> EnvoyProcess:
        """Render the configuration by the command a user would call, and run Envoy with it."""
        path, admin_port = self.folder / f"envoy-{number}.yaml", free_port()
        command = [sys.executable, "-m", "sentinel_ext", "envoy-config", "--output", str(path)]
        command += ["--listen-address", "127.0.0.1", "--envoy-admin-address", f"127.0.0.1:{admin_port}"]
        subprocess.run(
            [*command, *self.config_arguments], env=sentinel.environment, cwd=self.folder, check=True
        )
        return EnvoyProcess(path, admin_port).start()

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if hasattr(self, "session"):
            await self.session.close()
        for envoy in self.envoys:
            envoy.stop()
        for sentinel in self.sentinels:
            sentinel.discard()
        await self.upstream.__aexit__()

    async def get(
        self, path: str = "/proxy/x", instance: int = 0, headers: dict[str, str] | None = None
    ) -> Reply:
        started = time.perf_counter()
        url = f"http://127.0.0.1:{self.ports[instance]}{path}"
        async with self.session.get(URL(url, encoded=True), headers=headers or {}) as response:
            body = await response.text()
            seconds = time.perf_counter() - started
            return Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, body, seconds)

    async def send(self, count: int, tenant: str, concurrency: int = 32) -> list[Reply]:
        """Send `count` requests, spread over the instances, `concurrency` at a time."""
        numbers = iter(range(count))
        replies: list[Reply] = []

        async def sender() -> None:
            for number in numbers:
                reply = await self.get(instance=number % self.size, headers={"x-tenant-id": tenant})
                replies.append(reply)

        await asyncio.gather(*(sender() for _ in range(concurrency)))
        return replies


def statuses(replies: list[Reply]) -> Counter[int]:
    return Counter(reply.status for reply in replies)
