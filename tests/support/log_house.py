"""The access log service with everything around it replaced by lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.log_messages import message

from sentinel_ext.core.policy import UpstreamRules
from sentinel_ext.services.access_log import AccessLogs

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.core.ended import Ended, Outcome, Result
    from sentinel_ext.core.model import Tier
    from sentinel_ext.services.registry import StreamHandler


class Call:
    """An open stream that remembers how it ended."""

    peer = "ipv4:192.0.2.7:4711"
    metadata = ()

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.finished: list[tuple[int, str]] = []

    def send(self, data: bytes) -> bool:
        self.sent.append(data)
        return True

    def finish(self, status: int = 0, text: str = "") -> bool:
        self.finished.append((status, text))
        return True


class House:
    """The service, and everything it told."""

    def __init__(self) -> None:
        self.upstreams: dict[str, UpstreamRules] = {}
        self.ended: list[Ended] = []
        self.requests: list[tuple[int, str, int, int | None]] = []
        self.slo: list[tuple[Any, ...]] = []
        self.faults: list[Exception] = []
        self.heard: list[tuple[str, int]] = []
        self.verdict: Callable[[Ended], Result | None] = lambda _end: None
        self.logs = AccessLogs(
            self._end, self, self.faults.append, lambda *said: self.heard.append(said), self.rules
        )
        self.call = Call()
        self.stream = self.open(self.call)

    def open(self, call: Call) -> StreamHandler:
        (method,) = self.logs.methods()
        return method.open(call)

    def rules(self, upstream: str) -> UpstreamRules:
        return self.upstreams.get(upstream, UpstreamRules())

    def _end(self, end: Ended) -> Result | None:
        self.ended.append(end)
        return self.verdict(end)

    def request(self, method: int, route: str, status: int, duration_us: int | None) -> None:
        self.requests.append((method, route, status, duration_us))

    def served(self, tier: Tier, outcome: Outcome, latency_us: int | None, slo_us: int) -> None:
        self.slo.append((tier, outcome, latency_us, slo_us))

    def refused(self, tier: Tier, reason: str) -> None:
        self.slo.append((tier, reason))

    def take(self, *entries: Any) -> dict[Result, int]:
        """Send the entries; give the results that are not zero."""
        self.stream.on_message(message(*entries, node="envoy-1"))
        return {result: count for result, count in self.logs.results.items() if count}
