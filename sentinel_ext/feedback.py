"""The feedback loop, wired: access logs in, overload control and breakers, and what is seen of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sentinel_ext import clock
from sentinel_ext.control import Control
from sentinel_ext.core.breaker import Force
from sentinel_ext.core.controller import Controller
from sentinel_ext.core.identify import DEFAULT_UPSTREAM
from sentinel_ext.server.breakers import StoreAwayError, UnknownUpstreamError
from sentinel_ext.services.access_log import AccessLogs
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.factory import make_shared
from sentinel_ext.telemetry.load import LoadCollector
from sentinel_ext.telemetry.logging import BreakerLog
from sentinel_ext.telemetry.red import LogCollector, Red

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.core.circuit import Circuit, Transition
    from sentinel_ext.core.controller import Protected
    from sentinel_ext.core.ended import Ended, Result
    from sentinel_ext.core.policy import Policy, UpstreamRules
    from sentinel_ext.core.timeline import Key
    from sentinel_ext.host import HostSignals
    from sentinel_ext.services.registry import HotStream
    from sentinel_ext.settings import Settings
    from sentinel_ext.store.base import Store
    from sentinel_ext.telemetry.metrics import Metrics

logger = logging.getLogger("sentinel.breaker")


class Feedback:
    """One instance's part of the loop.

    Attributes:
        controller: what the request path asks.
        control: the loops beside it.
        watchers: told of each change of a breaker.
        logs: the access log service, once its methods were asked for.
    """

    def __init__(
        self, settings: Settings, policy: Policy, store: Store, metrics: Metrics, host: HostSignals
    ) -> None:
        """Wire the parts; nothing is started."""
        instance = clock.random_hex(4)
        self.controller = Controller(instance, policy, clock.monotonic_ns())
        for name in (DEFAULT_UPSTREAM, *policy.upstreams):
            self.controller.upstream(name)  # a breaker that is open must be known before the first request
        self.control = Control(
            self.controller,
            store,
            make_shared(store, instance, now_us=clock.monotonic_us),
            host,
            clock.monotonic_ns,
            settings.store_timeout_ms / 1000,
        )
        self.watchers: tuple[Callable[[Protected, Transition], None], ...] = ()
        self.logs: AccessLogs | None = None
        self._red = Red()
        self._policy = policy
        self._metrics = metrics
        self._loads = LoadCollector(self.controller)
        self._log = BreakerLog()
        self.control.transitions = self._changed
        metrics.registry.register(self._loads)

    def replace(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._policy = policy
        self.controller.replace(policy)
        for name in policy.upstreams:
            self.controller.upstream(name)

    def methods(self, failed: Callable[[Exception], None]) -> tuple[HotStream, ...]:
        """Return the access log service, to be mounted; `failed` hears of our own faults."""
        red = self._red
        self.logs = logs = AccessLogs(self._ended, red, failed, self._heard, self._rules)
        red.register(self._metrics.registry)
        self._metrics.registry.register(LogCollector(logs))
        self.control.streams = lambda: logs.streams
        self.control.failed = failed
        return logs.methods()

    def totals(self) -> dict[Key, int]:
        """Return what access logs told so far, for core/timeline.py."""
        found, logs = self._red.totals(), self.logs
        if logs is not None:
            found["log_message",], found["log_garbled",] = logs.messages, logs.garbled
            for result, count in logs.results.items():
                found["log_entry", result.value] = count
        return found

    def _rules(self, upstream: str) -> UpstreamRules:
        return self._policy.upstream(upstream)

    # Breakers for people (server/breakers.py).

    def details(self) -> dict[str, Any]:
        """Return what /readyz tells of it."""
        controller = self.controller
        return {
            "pressure": {"score": round(controller.pressure, 1), "level": controller.level.level},
            "breakers": {
                name: protected.circuit.state.value
                for name, protected in controller.upstreams.items()
                if protected.circuit is not None
            },
        }

    async def breakers(self) -> list[dict[str, Any]]:
        """Return the breakers as /breakers shows them."""
        return [
            _shown(name, protected.circuit)
            for name, protected in self.controller.upstreams.items()
            if protected.circuit is not None
        ]

    async def force(self, upstream: str, mode: str) -> dict[str, Any]:
        """Force a breaker, for all instances.

        Raises:
            UnknownUpstreamError, StoreAwayError: it is not done, or perhaps not.
        """
        try:
            circuit = await self.control.force(upstream, Force(mode))
        except KeyError as error:
            raise UnknownUpstreamError(upstream) from error
        except StoreError as error:
            raise StoreAwayError(str(error)) from error
        logger.warning("breaker forced", extra={"upstream": upstream, "mode": mode})
        return _shown(upstream, circuit)

    def _ended(self, ended: Ended) -> Result:
        result = self.controller.ended(ended, clock.monotonic_ns())
        protected = self.controller.upstreams.get(ended.upstream)
        if protected is not None:
            self.control.look(protected)
        return result

    def _heard(self, stream: str, entries: int) -> None:
        self.controller.heard(stream, entries, clock.monotonic_ns())

    def _changed(self, protected: Protected, transition: Transition) -> None:
        self._loads.changed(protected, transition)
        self._log.changed(protected, transition)
        for changed in self.watchers:
            changed(protected, transition)


def _shown(name: str, circuit: Circuit) -> dict[str, Any]:
    view = circuit.view
    return {
        "upstream": name,
        "state": circuit.state.value,
        "forced": view.forced.value,
        "reason": None if view.reason is None else view.reason.value,
        "retry_ms": circuit.refusal_ms(clock.monotonic_ns()),
        "epoch": circuit.epoch,
        "backoff_level": view.level,
        "window": {"ok": view.ok, "failed": view.failed, "slow": view.slow},
        "consecutive_failures": view.consecutive,
        "permits": view.permits,
        "without_store": circuit.is_local,
    }
