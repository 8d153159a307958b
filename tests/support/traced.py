"""An Application without its process, traced, and what tests say to it."""

from __future__ import annotations

import gc
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
from envoy.service.auth.v3 import external_auth_pb2
from envoy.service.ratelimit.v3 import rls_pb2
from support.build import free_tcp_port

from sentinel_ext.app import Application
from sentinel_ext.policy.sources import load_all
from sentinel_ext.settings import Settings
from sentinel_ext.telemetry.logging import LogWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
CHECK = "/envoy.service.auth.v3.Authorization/Check"
LIMIT = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
POLICY = """
plans: {gold: {limit: 5, window: 60s, burst: 100}, none: {limit: 0}}
default_plan: gold
tenants: {blocked: none}
ratelimit: {domain: edge, descriptors: [{key: path, rate_limit: {unit: hour, requests_per_unit: 1}}]}
"""


class Running:
    """An Application without its process, and a channel to it."""

    def __init__(self, app: Application, channel: grpc.aio.Channel) -> None:
        self.app, self.channel = app, channel

    async def check(self, headers=None, metadata=()) -> external_auth_pb2.CheckResponse:
        request = external_auth_pb2.CheckRequest()
        request.attributes.request.http.headers.update(headers or {})
        call = self.channel.unary_unary(
            CHECK,
            request_serializer=external_auth_pb2.CheckRequest.SerializeToString,
            response_deserializer=external_auth_pb2.CheckResponse.FromString,
        )
        return await call(request, metadata=metadata, timeout=10)

    async def limit(self, value="x", metadata=()) -> rls_pb2.RateLimitResponse:
        request = rls_pb2.RateLimitRequest(domain="edge")
        request.descriptors.add().entries.add(key="path", value=value)
        call = self.channel.unary_unary(
            LIMIT,
            request_serializer=rls_pb2.RateLimitRequest.SerializeToString,
            response_deserializer=rls_pb2.RateLimitResponse.FromString,
        )
        return await call(request, metadata=metadata, timeout=10)

    def sample(self, name: str, **labels: str) -> float:
        return self.app.metrics.registry.get_sample_value(name, labels)


@asynccontextmanager
async def running(folder, **environment: str) -> AsyncIterator[Running]:
    (folder / "policy.yaml").write_text(POLICY)
    port = free_tcp_port()
    settings = Settings.load(
        {
            "REDIS_URL": "memory://", "GRPC_ADDRESS": f"127.0.0.1:{port}", "DEBUG_GRPC_ADDRESS": "off",
            "ADMIN_ADDRESS": f"127.0.0.1:{free_tcp_port()}", "POLICY_FILE": str(folder / "policy.yaml"),
            "OTEL_BSP_SCHEDULE_DELAY": "20", **environment,
        },
        None,
    )  # fmt: skip
    thresholds = gc.get_threshold()
    app = Application(settings, load_all(settings), _NoLogs())
    await app._start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Running(app, channel)
    finally:
        for server in app._servers:
            await server.stop(0)
        await app._admin.stop()
        await app._stop_background()
        # As they were: what a process sets for itself is not for the tests that follow.
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(0.005)


class _NoLogs(LogWriter):
    dropped = 0

    def __init__(self) -> None:
        """Leave the root logger to pytest."""


def tracing_to(url: str, **more: str) -> dict[str, str]:
    return {"ENABLE_TRACING": "true", "OTLP_ENDPOINT": url, **more}


def upstream_header(response, name: str) -> str:
    headers = {option.header.key: option.header.value for option in response.ok_response.headers}
    return headers.get(name, "")


def ids() -> tuple[str, str]:
    """A trace of a test's own, and its traceparent."""
    trace_id = f"{time.monotonic_ns():032x}"
    return trace_id, f"00-{trace_id}-{SPAN}-01"
