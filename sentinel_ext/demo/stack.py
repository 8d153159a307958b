"""The parts of the demo in their order: Redis, the upstream, Sentinel, Envoy, and Prometheus if wanted."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from sentinel_ext.address import MAX_SOCKET_PATH_BYTES
from sentinel_ext.demo import ports, probes, prometheus
from sentinel_ext.demo.preflight import LISTEN_HOST
from sentinel_ext.demo.upstream import echoing
from sentinel_ext.envoy_config import options_from, render
from sentinel_ext.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from sentinel_ext.demo.board import Board
    from sentinel_ext.demo.preflight import Setup
    from sentinel_ext.demo.processes import Crew

# What `redis_version` says when REDIS_URL is memory://.
NO_REDIS = "none (memory://)"
# SET KEEPTTL (store/redis.py). Ubuntu 20.04 has 5.
MIN_REDIS = 6


def require_redis(version: str, remedy: str) -> None:
    """Refuse a Redis that lacks commands of the store's scripts; an unknown version passes.

    Raises:
        StartError: it is too old.
    """
    major = version.partition(".")[0]
    if major.isdigit() and int(major) < MIN_REDIS:
        raise StartError(f"Redis is {version}, but Sentinel needs {MIN_REDIS}.0 or newer: {remedy}")


class Stack:
    """Starts the parts one after the other, and remembers what is known only once they run.

    The parts themselves belong to `crew` and its exits, which the caller closes.

    Attributes:
        redis_socket: where the Redis that was started listens; None when it was not started here.
    """

    def __init__(self, setup: Setup, board: Board, crew: Crew, session: aiohttp.ClientSession) -> None:
        """Know everything; start nothing."""
        self.envoy_version = ""
        self.redis_version = ""
        self.prometheus_version = ""
        self.redis_socket: Path | None = None
        self._setup = setup
        self._settings = setup.settings
        self._folder = crew.folder
        self._board = board
        self._crew = crew
        self._session = session

    async def start(self) -> None:
        """Start everything; return when a request passes through all of it.

        Raises:
            StartError: a part did not start; says which and why.
        """
        redis_url = await self._start_redis()
        await self._start_upstream()
        await self._start_sentinel(redis_url)
        await self._start_envoy()
        if self._setup.prometheus is not None:
            await self._start_prometheus(self._setup.prometheus)

    async def _start_redis(self) -> str:
        secret = self._settings.redis_url
        if self._setup.redis_server is None:
            with self._board.step("Redis"):
                self.redis_version = await self._given_redis(secret.reveal())
            require_redis(self.redis_version, "set REDIS_URL to another, or unset it")
            self._board.done("Redis", f"{self.redis_version} at {secret.redacted}, as REDIS_URL says")
            return secret.reveal()
        socket = self._folder / "redis.sock"
        if len(os.fsencode(socket)) > MAX_SOCKET_PATH_BYTES:
            raise StartError(f"{self._folder} is too long a path for a Unix socket: set TMPDIR=/tmp")
        url = f"unix://{socket}"
        # A Unix socket in a private folder: no port to collide with, nobody else's to read. Nothing is saved.
        with self._board.step("Redis"):
            child = await self._crew.start("Redis", [
                str(self._setup.redis_server), "--port", "0", "--unixsocket", str(socket),
                "--unixsocketperm", "700", "--dir", str(self._folder), "--save", "", "--appendonly", "no",
            ])  # fmt: skip
            await child.wait_ready(lambda: probes.redis_answers(url))
            self.redis_version = await probes.redis_version(url)
        require_redis(self.redis_version, f"remove {self._setup.redis_server} from PATH, or set REDIS_URL")
        self.redis_socket = socket
        self._board.done("Redis", f"{self.redis_version} at {url}")
        return url

    async def _given_redis(self, url: str) -> str:
        if url.startswith("memory:"):
            return NO_REDIS
        try:
            return await probes.redis_version(url)
        except probes.UnusableRedisError as error:
            where = self._settings.redis_url.redacted
            raise StartError(
                f"REDIS_URL is {where}, but {error}: start that Redis, or unset REDIS_URL to get one"
            ) from error

    async def _start_upstream(self) -> None:
        address, url = self._setup.upstream, self._settings.downstream_url
        if address is None:
            with self._board.step("upstream"):
                if not await probes.upstream_accepts(url):
                    raise StartError(f"DOWNSTREAM_URL is {url}, but nothing accepts connections there")
            self._board.done("upstream", f"{url}, as DOWNSTREAM_URL says")
            return
        try:
            sockets = ports.listen(address.host, address.port)
        except OSError as error:
            raise StartError(f"the upstream cannot listen on {address}: {error.strerror}") from error
        await self._crew.exits.enter_async_context(echoing(sockets))
        self._board.done("upstream", f"{url}, started here: answers with what it received")

    async def _start_sentinel(self, redis_url: str) -> None:
        # The child gets all of the parent's environment: PATH, locale, proxies, and every Sentinel variable.
        environment = os.environ.copy()  # noqa: TID251  passed on, not read: only settings.py reads it
        environment |= {"REDIS_URL": redis_url, "POLICY_FILE": str(self._setup.policy_file)}
        admin = probes.Admin(self._settings.admin_address)
        with self._board.step("Sentinel"):
            child = await self._crew.start(
                "Sentinel", [sys.executable, "-m", "sentinel_ext", "serve"], environment
            )
            await child.wait_ready(admin.is_ready)
        self._board.done("Sentinel", f"gRPC at {', '.join(map(str, self._settings.grpc_addresses))}")

    async def _start_envoy(self) -> None:
        setup = self._setup
        options = options_from(
            self._settings, setup.policy, listen_host=LISTEN_HOST, admin_address=setup.envoy_admin
        )
        bootstrap = self._folder / "envoy.yaml"
        # Rendering loads Envoy's types, which takes a second: in a thread, so that Ctrl-C is still heard.
        bootstrap.write_text(await asyncio.to_thread(render, options, "yaml"), encoding="utf-8")
        envoy = probes.Envoy(self._session, setup.envoy_admin, setup.listener)
        with self._board.step("Envoy"):
            # Hot restart would leave a file in /dev/shm behind, and its base id collides with other Envoys.
            child = await self._crew.start("Envoy", [
                str(setup.envoy), "-c", str(bootstrap), "--disable-hot-restart",
                "--concurrency", "1", "-l", "warning",
            ])  # fmt: skip
            await child.wait_ready(envoy.is_ready)
            self.envoy_version = await envoy.version()
        with self._board.step("a request through all of it"):
            await child.wait_ready(envoy.is_deciding)
        self._board.done("Envoy", f"{self.envoy_version} at {setup.listener}")

    async def _start_prometheus(self, wanted: prometheus.Prometheus) -> None:
        config = prometheus.configuration(self._settings.admin_address, self._setup.envoy_admin)
        (self._folder / "prometheus.yaml").write_text(config, encoding="utf-8")
        probe = prometheus.Probe(self._session, wanted.url)
        with self._board.step("Prometheus"):
            child = await self._crew.start("Prometheus", wanted.arguments(self._folder))
            await child.wait_ready(probe.is_scraping)
            self.prometheus_version = await probe.version()
        self._board.done(
            "Prometheus", f"{self.prometheus_version} at {wanted.url}, scrapes Sentinel and Envoy"
        )
