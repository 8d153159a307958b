"""The composition root: the only module that knows all parts. Start, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sentinel_ext import __version__, clock
from sentinel_ext.core.tenant import Tenants
from sentinel_ext.debugging import Debugging
from sentinel_ext.engine import Engine
from sentinel_ext.feedback import Feedback
from sentinel_ext.gauges import publish_gauges, publish_wire
from sentinel_ext.host import HostSignals
from sentinel_ext.live import LivePolicy
from sentinel_ext.overview import Overview
from sentinel_ext.policy.sources import load_all
from sentinel_ext.ratelimits import RateLimiting
from sentinel_ext.server.admin import AdminServer
from sentinel_ext.server.breakers import BreakerPages
from sentinel_ext.server.grpcio import GrpcioServer
from sentinel_ext.server.lean import LeanServer
from sentinel_ext.server.live_status import StatusPages
from sentinel_ext.server.ratelimits import RateLimitPages
from sentinel_ext.services.authorization import Authorization
from sentinel_ext.store.batcher import Batcher
from sentinel_ext.store.factory import make_store
from sentinel_ext.store.presence import Presence
from sentinel_ext.telemetry.config import publish_config
from sentinel_ext.telemetry.logging import LogWriter, decision_logs
from sentinel_ext.telemetry.metrics import Metrics
from sentinel_ext.tracing import make_tracing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import CollectorRegistry

    from sentinel_ext.core.decision import StoreFault
    from sentinel_ext.core.policy import Policy
    from sentinel_ext.services.registry import HotStream, Unary
    from sentinel_ext.settings import Settings
    from sentinel_ext.store.base import Store

# Between NOT_SERVING and GOAWAY. Envoy's health check in our configurations asks every second, and later on a
# busy machine: so until nobody has asked for a decision for a while, but not for ever.
DRAIN_S = 1.2
DRAIN_QUIET_S = 0.3
DRAIN_MAX_S = 5.0
DRAIN_POLL_S = 0.1
# A Check takes milliseconds; what has not ended by then never will.
GRACE_S = 3.0
# Small objects die young here; fewer young collections cost less than they find (docs/performance.md).
GC_THRESHOLD = 50_000

logger = logging.getLogger("sentinel")


class Place(msgspec.Struct, frozen=True):
    """Which process of how many this is, when a supervisor runs WORKERS of them.

    Attributes:
        admin: the listening socket for this worker's admin pages.
        lifeline: a descriptor that reads end-of-file when the supervisor is gone.
    """

    index: int = 0
    count: int = 1
    admin: socket.socket | None = None
    lifeline: int | None = None


class Application:
    """One Sentinel instance."""

    def __init__(
        self, settings: Settings, policy: Policy, logs: LogWriter, place: Place | None = None
    ) -> None:
        """Wire everything; nothing is started."""
        self._settings, self._policy, self._logs = settings, policy, logs
        self._place = place or Place()
        self._draining = False
        self.metrics = Metrics(__version__)
        self.tracing = make_tracing(settings, self.metrics, self._place.index)
        self._store = self._make_store()
        self._host = HostSignals(Path("/"), clock.monotonic_ns())
        self._batcher = Batcher(self._store, settings.store_timeout_ms / 1000, self._store_called)
        name = f"{socket.gethostname()}:{clock.random_hex(4)}"
        self._presence = Presence(self._store, name, at_least=self._place.count)
        self._tenants = Tenants(policy)
        self.feedback = Feedback(settings, policy, self._store, self.metrics, self._host)
        self.engine = self._make_engine(policy)
        controller, called = self.feedback.controller, self._store_called
        self.ratelimits = RateLimiting(
            settings, policy.ratelimit, self._store, self.metrics, controller, called
        )
        self.ratelimits.set_instances(lambda: self._presence.instances)
        parts = (self._tenants, self._store, self.feedback, self.engine, self.ratelimits)
        self.debugging = Debugging(name, policy, *parts, may_act=settings.admin_actions)
        self.debugging.modes.apply = self._go_by
        self.debugging.publish(self.metrics)
        checks = Authorization(self.engine.decide, self._failed, traced=self.tracing.is_on).methods()
        limits = self.ratelimits.methods(self._failed, self.tracing.limits)
        self._servers = self._make_servers((*checks, *limits, *self.feedback.methods(self._failed)))
        self._overview = self._make_overview()
        self._admin = self._make_admin()
        self._live = self._make_live()
        publish_config(self.metrics, self._live)
        publish_gauges(self.metrics, self._store, self._presence, self._tenants, self.engine, logs)

    def _make_overview(self) -> Overview:
        totals = (self.metrics.totals, self.ratelimits.metrics.totals, self.feedback.totals)
        made = Overview(self.readiness, self.debugging.inspector, self.feedback, self._host, totals)
        made.failed, made.names = self._failed, self._presence.names
        return made

    def _make_store(self) -> Store:
        settings = self._settings
        return make_store(
            settings.redis_url.reveal(),
            now_us=clock.monotonic_us,
            jitter=clock.random_unit,
            changed=self._store_changed,
            username=settings.redis_username,
            password_file=settings.redis_password_file,
            sentinel_password_file=settings.redis_sentinel_password_file,
        )

    def _make_engine(self, policy: Policy) -> Engine:
        identifier = self.tracing.identifier(policy.sources)
        pipeline = self.tracing.pipeline(policy, self.feedback.controller)
        engine = Engine(pipeline, identifier, self._tenants, self._batcher, clock.monotonic_ns)
        engine.instances = self.feedback.control.instances = lambda: self._presence.instances
        engine.failed, engine.given_up = self._failed, self.tracing.given_up
        engine.permits = self.feedback.control
        logs = decision_logs(clock.monotonic_ns, self._settings.log_allowed_ratio)
        engine.observers = (self.metrics.decided, *logs, *self.tracing.observers)
        return engine

    def _make_admin(self) -> AdminServer:
        may_act = self._settings.admin_actions
        pages = (
            BreakerPages(self.feedback, may_act=may_act),
            RateLimitPages(self.ratelimits, may_act=may_act),
        )
        where = self._place.admin or self._settings.admin_address
        front = StatusPages(self._overview, self._failed)
        return AdminServer(where, self._scraped, self, pages, front)

    def _make_live(self) -> LivePolicy:
        policy_file, folder = self._settings.policy_file, self._settings.ratelimit_config_dir
        live = LivePolicy(
            () if policy_file is None else (policy_file,),
            () if folder is None else (folder,),
            lambda: load_all(self._settings),
            self.replace,
            clock.wall_s,
            seen=self._policy.digest or None,
        )
        live.failed = self._failed
        return live

    def replace(self, policy: Policy) -> None:
        """Go by another policy of the files from now on; requests under way end under theirs."""
        self._policy = policy
        self.debugging.replace(policy)
        self.ratelimits.replace(policy.ratelimit)

    def _go_by(self, policy: Policy) -> None:
        """Go by the policy with the modes that an operator set."""
        self.feedback.replace(policy)
        pipeline = self.tracing.pipeline(policy, self.feedback.controller)
        self.engine.replace(policy, pipeline, self.tracing.identifier(policy.sources))

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain and return. A second signal ends the drain's wait.

        Raises:
            StartError: an address cannot be had; what was started is stopped again.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._live.reload)
        if self._place.lifeline is not None:
            loop.add_reader(self._place.lifeline, self._lifeline_moved, stop)
        try:
            await self._start()
            await stop.wait()
            stop.clear()
            await self._drain(stop)
        finally:
            await self._stop_background()

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Ready: policy loaded, and the store answers or some plan can do without it.

        Only when every plan that is given to somebody is `closed` does a lost store make an instance useless.
        """
        available = self._store.is_available()
        path = self._settings.policy_file
        return not self._draining and (available or not self._policy.needs_store), {
            "draining": self._draining,
            "policy": {"file": None if path is None else str(path), "plans": len(self._policy.plans)},
            "store": {"url": self._settings.redis_url.redacted, "available": available},
            "instances": self._presence.instances,
            "config": self._live.details(),
            "stages": self.debugging.modes.shown(),
            **self.ratelimits.details(),
            **self.feedback.details(),
        }

    def _make_servers(self, methods: Sequence[Unary | HotStream]) -> list[LeanServer | GrpcioServer]:
        """The hot port, and the debug port with the same services on grpcio."""
        settings, address = self._settings, self._settings.grpc_addresses[self._place.index]
        servers: list[LeanServer | GrpcioServer] = []
        if settings.grpc_server == "lean":
            lean = LeanServer(address)
            lean.add(methods)
            lean.add_reflection()
            lean.on_trip = self.metrics.wire_tripped
            publish_wire(self.metrics, lean)
            servers.append(lean)
        else:
            servers.append(GrpcioServer(address, methods, interceptors=self.tracing.interceptors))
        if settings.debug_address is not None and self._place.index == 0:
            people = (*methods, *self.debugging.methods(self._failed))
            where, variable = settings.debug_address, "DEBUG_GRPC_ADDRESS"
            servers.append(GrpcioServer(where, people, variable, self.tracing.interceptors))
        return servers

    def _store_called(self, seconds: float, entries: int, fault: StoreFault | None) -> None:
        self.metrics.store_called(seconds, entries, fault)
        self._host.store_called(seconds)

    def _lifeline_moved(self, stop: asyncio.Event) -> None:
        """The supervisor writes nothing; end-of-file says that it is gone."""
        assert self._place.lifeline is not None  # noqa: S101  only then is this called
        if not os.read(self._place.lifeline, 1024):
            asyncio.get_running_loop().remove_reader(self._place.lifeline)
            stop.set()

    async def _scraped(self) -> CollectorRegistry:
        return self.metrics.registry

    async def _start(self) -> None:
        await self.tracing.start()
        await self._batcher.start()
        await self._store.start()
        await self._presence.start()
        await self.ratelimits.start()
        await self.feedback.control.start()
        await self.debugging.start()
        await self._live.start()
        await self._overview.start()
        await self._admin.start()
        for started, server in enumerate(self._servers):
            try:
                await server.start()
            except BaseException:
                for earlier in self._servers[:started]:
                    await earlier.stop(0)
                await self._admin.stop()
                raise
        # What lives now lives as long as the process: keep it out of every collection (56 ms for a full one
        # over 800,000 objects, 0.0 ms after).
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 50)
        logger.info(
            "serving",
            extra={
                "version": __version__,
                "grpc": str(self._settings.grpc_addresses[self._place.index]),
                "server": self._settings.grpc_server,
                "admin": str(self._settings.admin_address),
                "store": self._settings.redis_url.redacted,
            },
        )

    async def _drain(self, hurry: asyncio.Event) -> None:
        logger.info("draining")
        self._draining = True
        for server in self._servers:
            await server.refuse_new()
        await self._turned_away(hurry)
        grace_s = 0 if hurry.is_set() else GRACE_S
        await asyncio.gather(*(server.stop(grace_s) for server in self._servers))
        await self._admin.stop()
        logger.info("stopped")

    async def _turned_away(self, hurry: asyncio.Event) -> None:
        """Return when proxies have turned away: a listener closed earlier costs requests."""
        waited = quiet = 0.0
        decided = self._decisions
        while waited < DRAIN_S or (quiet < DRAIN_QUIET_S and waited < DRAIN_MAX_S):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_POLL_S):
                    await hurry.wait()
                    return
            waited += DRAIN_POLL_S
            before, decided = decided, self._decisions
            quiet = quiet + DRAIN_POLL_S if decided == before else 0.0

    @property
    def _decisions(self) -> int:
        return self.metrics.decision_count + self.ratelimits.metrics.count

    async def _stop_background(self) -> None:
        await self._live.close()
        await self._overview.close()
        await self.debugging.close()
        await self.feedback.control.close()
        await self._presence.close()
        await self.ratelimits.close()
        await self._batcher.close()
        await self._store.close()
        await self.tracing.close()

    def _store_changed(self, up: bool, why: str) -> None:
        if up:
            logger.info("store connected", extra={"store": self._settings.redis_url.redacted})
        else:
            logger.warning(
                "store lost; plans go by their on_store_failure",
                extra={"store": self._settings.redis_url.redacted, "why": why},
            )

    def _failed(self, error: Exception) -> None:
        self.metrics.failed()
        logger.error("internal error", exc_info=error)
