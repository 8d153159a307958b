"""WORKERS processes under one supervisor: started, watched, restarted, drained; one admin address for all.

Each worker is a whole `serve` with an address of its own (port + i, or socket path .i), because SO_REUSEPORT
spreads the few connections of an Envoy badly. Its admin pages are on a loopback socket that the supervisor
opened and keeps, so a restarted worker goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sentinel_ext.core.merging import BreakerWord, outweighs
from sentinel_ext.errors import StartError
from sentinel_ext.overview import WorkersOverview
from sentinel_ext.server.admin import AdminServer
from sentinel_ext.server.breakers import BreakerPages, StoreAwayError, UnknownUpstreamError
from sentinel_ext.server.live_status import StatusPages
from sentinel_ext.server.ratelimits import NoSuchLimitError, RateLimitPages
from sentinel_ext.telemetry.summing import WorkerMetrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from prometheus_client import Metric

    from sentinel_ext.settings import Settings

POLL_S = 1.0
# A worker that is busy answers late, one that hangs never does; a scrape waits for neither.
ASK_TIMEOUT_S = 1.0
RESTART_FIRST_S = 0.1
RESTART_MAX_S = 5.0
# What a worker's own drain takes at most (app.py: 5 s, 3 s of grace, 2 s for handlers), and then some.
STOP_S = 12.0

logger = logging.getLogger("sentinel.workers")


class Worker:
    """One worker's process, over its restarts."""

    def __init__(self, index: int, count: int) -> None:
        """Open its admin socket; nothing is started."""
        self.index = index
        self.restarts = 0
        self.is_ready = False
        self.details: dict[str, Any] = {}
        self.process: asyncio.subprocess.Process | None = None
        self._count = count
        self._admin = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._admin.getsockname()[1]}"

    async def start(self) -> None:
        """Start the process. It drains when its standard input ends: when the supervisor is gone."""
        descriptor = self._admin.fileno()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sentinel_ext", "worker",
            "--index", str(self.index), "--count", str(self._count), "--admin-descriptor", str(descriptor),
            stdin=asyncio.subprocess.PIPE, pass_fds=(descriptor,), start_new_session=True,
        )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """Send a signal if the process runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    def close(self) -> None:
        """Close the admin socket."""
        self._admin.close()


class WorkerRateLimits:
    """Rate limits over admin HTTP: all workers have the same rules and one store, so any may answer."""

    def __init__(self, ask: Callable[..., Awaitable[tuple[int, dict[str, Any]]]]) -> None:
        """Ask a worker with `ask(path, body)`."""
        self._ask = ask

    async def shown(self) -> dict[str, Any]:
        """See server/ratelimits.py."""
        return (await self._ask("/ratelimits"))[1]

    async def reset(self, domain: str, entries: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """See server/ratelimits.py."""
        return await self._act("/ratelimits/reset", {"domain": domain, "entries": list(entries)})

    async def refund(self, domain: str, entries: Sequence[tuple[str, str]], hits: int) -> dict[str, Any]:
        """See server/ratelimits.py."""
        body = {"domain": domain, "entries": list(entries), "hits": hits}
        return await self._act("/ratelimits/refund", body)

    async def _act(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        status, answer = await self._ask(path, body)
        if status == 200:
            return answer
        if status == 404:
            raise NoSuchLimitError
        raise StoreAwayError(str(answer.get("error", "no worker answered")))


class Supervisor(Collector):
    """Keeps the workers up until SIGTERM or SIGINT."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; nothing is started."""
        self._settings = settings
        self._workers = [Worker(index, settings.workers) for index in range(settings.workers)]
        self._metrics = WorkerMetrics(settings.workers)
        self._stopping = asyncio.Event()
        pages = (
            BreakerPages(self, may_act=settings.admin_actions),
            RateLimitPages(WorkerRateLimits(self._ask_any), may_act=settings.admin_actions),
        )
        front = StatusPages(WorkersOverview(self._statuses, self.readiness), _failed)
        self._admin = AdminServer(settings.admin_address, self._scrape, self, pages, front)

    async def run(self) -> None:
        """Serve until a signal; then let all workers drain. A second signal ends the drain's wait.

        Raises:
            StartError: a worker could not start; its own message stands above.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_TIMEOUT_S))
        keepers = [asyncio.create_task(self._keep(worker)) for worker in self._workers]
        poller = asyncio.create_task(self._poll())
        try:
            await self._admin.start()
            stopped = asyncio.create_task(stop.wait())
            ends: set[asyncio.Task[Any]] = {stopped, poller, *keepers}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
        finally:
            self._stopping.set()
            await self._stop(keepers, stop)
            poller.cancel()
            await asyncio.wait({poller})
            await self._admin.stop()
            await self._session.close()
            for worker in self._workers:
                worker.close()
        for keeper in keepers:
            keeper.result()

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Ready while some worker is: Envoy's health checks choose between them.

        The store counts as available when every worker reaches it.
        """
        workers = [
            {"ready": worker.is_ready, "restarts": worker.restarts, **worker.details}
            for worker in self._workers
        ]
        reached = [worker.details.get("store", {}).get("available", False) for worker in self._workers]
        ready = not self._stopping.is_set() and any(worker.is_ready for worker in self._workers)
        return ready, {
            "draining": self._stopping.is_set(),
            "store": {"url": self._settings.redis_url.redacted, "available": all(reached)},
            "workers": workers,
        }

    async def _statuses(self) -> list[bytes]:
        async def ask(worker: Worker) -> bytes:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._session.get(f"{worker.url}/status") as response:
                    return await response.read() if response.status == 200 else b""
            return b""

        return await asyncio.gather(*map(ask, self._workers))

    async def breakers(self) -> list[dict[str, Any]]:
        """Ask the workers; each knows the upstreams that it was asked for, and all share the breakers."""
        found: dict[str, dict[str, Any]] = {}
        for worker in self._workers:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError):
                async with self._session.get(f"{worker.url}/breakers") as response:
                    for breaker in (await response.json())["breakers"]:
                        known = found.setdefault(breaker["upstream"], breaker)
                        if outweighs(_word(breaker), _word(known)):
                            found[breaker["upstream"]] = breaker
        return list(found.values())

    async def force(self, upstream: str, mode: str) -> dict[str, Any]:
        """Let a worker that knows the upstream do it, for all instances.

        Raises:
            UnknownUpstreamError, StoreAwayError: see server/breakers.py.
        """
        problem = ""
        for worker in self._workers:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError):
                url = f"{worker.url}/breakers/{quote(upstream, safe='')}"
                async with self._session.post(url, json={"mode": mode}) as response:
                    answer: dict[str, Any] = await response.json()
                    if response.status == 200:
                        return answer
                    if response.status != 404:
                        problem = str(answer.get("error", ""))
        if problem:
            raise StoreAwayError(problem)
        raise UnknownUpstreamError(upstream)

    async def _ask_any(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Ask the first worker that answers; (0, {}) if none does."""
        for worker in self._workers:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError):
                method = "GET" if body is None else "POST"
                async with self._session.request(method, worker.url + path, json=body) as response:
                    return response.status, await response.json()
        return 0, {}

    async def _keep(self, worker: Worker) -> None:
        """Start the worker again whenever it ends.

        Raises:
            StartError: it ended before it was ever ready.
        """
        pause, was_ready = RESTART_FIRST_S, False
        while not self._stopping.is_set():
            await worker.start()
            assert worker.process is not None  # noqa: S101  start() made it
            code = await worker.process.wait()
            was_ready, is_first = was_ready or worker.is_ready, not was_ready and not worker.is_ready
            if worker.is_ready:
                pause = RESTART_FIRST_S
            worker.is_ready, worker.details = False, {}
            self._metrics.ended(worker.index)
            if self._stopping.is_set():
                return
            if is_first:
                raise StartError(f"worker {worker.index} could not start: exit code {code}")
            worker.restarts += 1
            logger.error("worker ended", extra={"worker": worker.index, "code": code, "restart_in_s": pause})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(RESTART_MAX_S, pause * 2)

    def _reload(self) -> None:
        """Pass SIGHUP on: every worker reads the files for itself."""
        for worker in self._workers:
            worker.signal(signal.SIGHUP)

    async def _stop(self, keepers: list[asyncio.Task[None]], stop: asyncio.Event) -> None:
        stop.clear()
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        hurry = asyncio.create_task(stop.wait())
        ended = asyncio.gather(*keepers, return_exceptions=True)
        either: set[asyncio.Future[Any]] = {hurry, ended}
        await asyncio.wait(either, timeout=STOP_S, return_when=asyncio.FIRST_COMPLETED)
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        await asyncio.wait({ended}, timeout=STOP_S if hurry.done() else 0)
        for worker in self._workers:
            worker.signal(signal.SIGKILL)
        hurry.cancel()
        await ended

    async def _poll(self) -> None:
        """Ask every worker how it is, and what it counted: the last word of one that dies later."""
        while True:
            await asyncio.gather(*(self._ask(worker) for worker in self._workers))
            waits_for_start = not all(worker.is_ready for worker in self._workers)
            await asyncio.sleep(POLL_S / 10 if waits_for_start else POLL_S)

    async def _ask(self, worker: Worker) -> None:
        try:
            async with self._session.get(f"{worker.url}/readyz") as response:
                details = await response.json()
                worker.is_ready = bool(details.pop("ready"))
                worker.details = details
            await self._read_metrics(worker)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            worker.is_ready = False

    async def _read_metrics(self, worker: Worker) -> None:
        # Only OpenMetrics has exemplars; it is three times as dear to read.
        is_open = self._settings.tracing is not None
        headers = {"accept": "application/openmetrics-text; version=1.0.0"} if is_open else {}
        async with self._session.get(f"{worker.url}/metrics", headers=headers) as response:
            self._metrics.update(worker.index, await response.text(), is_openmetrics=is_open)

    async def _scrape(self) -> Supervisor:
        await asyncio.gather(*(self._ask(worker) for worker in self._workers))
        return self

    def collect(self) -> Iterator[Metric]:
        """All workers' metrics as one, and the supervisor's own."""
        yield from self._metrics.collect()
        ready = sum(worker.is_ready for worker in self._workers)
        yield GaugeMetricFamily("sentinel_workers_ready", "Workers that are ready.", value=ready)
        restarts = sum(worker.restarts for worker in self._workers)
        yield CounterMetricFamily("sentinel_worker_restarts", "Workers started again.", value=restarts)


def _failed(error: Exception) -> None:
    logger.error("internal error", exc_info=error)


def _word(breaker: dict[str, Any]) -> BreakerWord:
    return BreakerWord(*(breaker[name] for name in BreakerWord._fields))
