"""Collectors that fail, and tracing that is off: neither costs an answer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from support.build import free_tcp_port
from support.otlp import Receiver
from support.traced import PARENT, running, tracing_to, upstream_header

from sentinel_ext.settings import Settings
from sentinel_ext.telemetry.metrics import Metrics
from sentinel_ext.telemetry.tracing import pipe
from sentinel_ext.tracing import NoTracing, make_tracing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.traced import Running


@pytest.fixture(scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


async def seconds(house: Running, traceparent: str, count: int = 30) -> float:
    started = time.monotonic()
    for _ in range(count):
        await house.check({"traceparent": traceparent})
    return time.monotonic() - started


async def answers_quickly(house: Running) -> None:
    """As quickly as it answers who is not sampled, on whatever machine this is."""
    unsampled = await seconds(house, f"{PARENT[:-1]}0")

    assert await seconds(house, PARENT) < 10 * unsampled + 0.15


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_a_collector_that_is_away_costs_spans_and_no_answers(scheme, short_folder, monkeypatch):
    monkeypatch.setattr(pipe, "FLUSH_S", 0.2)
    url = f"{scheme}://127.0.0.1:{free_tcp_port()}"
    more = {"OTEL_BSP_MAX_QUEUE_SIZE": "60", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "6"}
    async with running(short_folder, **tracing_to(url, **more)) as house:
        await answers_quickly(house)
        assert house.sample("sentinel_spans_waiting") <= 60
        assert house.sample("sentinel_spans_dropped_total", reason="queue_full") > 0
        started = time.monotonic()
    assert time.monotonic() - started < 6
    assert 0 == house.sample("sentinel_spans_exported_total")
    assert house.app.tracing.pipe.dropped.total() >= 30


async def test_a_collector_that_hangs_holds_neither_answers_nor_the_end(receiver, short_folder):
    receiver.gate.clear()
    try:
        async with running(short_folder, **tracing_to(receiver.http, OTEL_BSP_MAX_QUEUE_SIZE="60")) as house:
            await answers_quickly(house)
            assert house.sample("sentinel_spans_dropped_total", reason="queue_full") > 0
            started = time.monotonic()
        assert time.monotonic() - started < 6
    finally:
        receiver.gate.set()


async def test_a_collector_that_refuses_is_counted(receiver, short_folder):
    receiver.status = 400
    try:
        async with running(short_folder, **tracing_to(receiver.http)) as house:
            await house.check({"traceparent": PARENT})
            deadline = time.monotonic() + 10
            while not house.sample("sentinel_span_export_failures_total"):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
            assert 6 == house.sample("sentinel_spans_dropped_total", reason="export_failed")
            assert "400" in house.app.tracing.pipe.last_error()
    finally:
        receiver.status = 200


# --- Off ---


@pytest.mark.parametrize("more", [{}, {**tracing_to("http://c:4318"), "OTEL_SDK_DISABLED": "true"}])
def test_off_is_off(more):
    settings = Settings.load({"REDIS_URL": "memory://", **more}, None)

    assert NoTracing is type(make_tracing(settings, Metrics("1"), 0))


def test_off_exporters_and_instrumentation_are_not_even_imported():
    """Parts of the SDK are there all the same: redis-py imports them where they are installed."""
    code = "import sys, sentinel_ext.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own = "opentelemetry.exporter", "opentelemetry.instrumentation", "sentinel_ext.telemetry.tracing.spans"

    assert "sentinel_ext.app" in done.stdout
    assert not any(name.startswith(own) for name in done.stdout.split())


async def test_off_the_callers_sampled_traceparent_stands(short_folder):
    async with running(short_folder) as house:
        response = await house.check({"traceparent": PARENT}, metadata=(("traceparent", PARENT),))

    assert "" == upstream_header(response, "traceparent")
    assert house.app.metrics.registry.get_sample_value("sentinel_spans_exported_total") is None
