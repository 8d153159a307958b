"""Tracing from the call to the collector: both servers, both protocols, and collectors that fail."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2
from envoy.service.ratelimit.v3 import rls_pb2
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.build import free_tcp_port
from support.fakes import FakeCaller
from support.otlp import Receiver

from sentinel_ext.address import Address
from sentinel_ext.app import Application
from sentinel_ext.policy.sources import load_all
from sentinel_ext.server.grpcio import GrpcioServer
from sentinel_ext.services.registry import HotStream, StreamKind, Unary
from sentinel_ext.settings import Settings
from sentinel_ext.telemetry.logging import LogWriter
from sentinel_ext.telemetry.metrics import DECISION_BUCKETS, Metrics
from sentinel_ext.telemetry.tracing import pipe
from sentinel_ext.telemetry.tracing.client import client_tracing
from sentinel_ext.tracing import NoTracing, Tracing, make_tracing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sentinel_ext.services.registry import OpenStream

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
CHECK = "/envoy.service.auth.v3.Authorization/Check"
LIMIT = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
CHILDREN = (
    "token_bucket_check", "distributed_limiter_check", "pressure_check", "priority_check",
    "circuit_breaker_check",
)  # fmt: skip
POLICY = """
plans: {gold: {limit: 5, window: 60s, burst: 100}, none: {limit: 0}}
default_plan: gold
tenants: {blocked: none}
ratelimit: {domain: edge, descriptors: [{key: path, rate_limit: {unit: hour, requests_per_unit: 1}}]}
"""


@pytest.fixture(scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


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


@pytest.fixture(scope="module", params=[("lean", "http"), ("lean", "grpc"), ("grpcio", "http")], ids="-".join)
async def house(request, receiver, module_folder) -> AsyncIterator[Running]:
    server, protocol = request.param
    url = getattr(receiver, protocol)
    async with running(module_folder, GRPC_SERVER=server, **tracing_to(url)) as house:
        yield house


def upstream_header(response, name: str) -> str:
    headers = {option.header.key: option.header.value for option in response.ok_response.headers}
    return headers.get(name, "")


def ids() -> tuple[str, str]:
    """A trace of a test's own, and its traceparent."""
    trace_id = f"{time.monotonic_ns():032x}"
    return trace_id, f"00-{trace_id}-{SPAN}-01"


async def test_a_sampled_check_is_a_span_with_five_children(house, receiver):
    trace_id, traceparent = ids()
    response = await house.check({"traceparent": traceparent, "x-tenant-id": "acme", "tracestate": "v=1"})
    trace = await receiver.trace(trace_id, "proxy_request", *CHILDREN)

    root = trace["proxy_request"]
    assert (SPAN, "server", "v=1", False) == (root.parent_id, root.kind, root.state, root.is_error)
    assert f"00-{trace_id}-{root.span_id}-01" == upstream_header(response, "traceparent")
    assert root.span_id == response.dynamic_metadata.fields["decision_id"].string_value
    assert {root.span_id} == {trace[name].parent_id for name in CHILDREN}
    assert all(root.start <= trace[name].start <= trace[name].end <= root.end for name in CHILDREN)
    assert ("acme", "gold") == (root.attributes["sentinel.tenant"], root.attributes["sentinel.plan"])
    assert "sentinel" == root.resource["service.name"]
    assert root.resource["service.instance.id"]


async def test_a_refusal_says_so(house, receiver):
    trace_id, traceparent = ids()
    response = await house.check({"traceparent": traceparent, "x-tenant-id": "blocked"})
    trace = await receiver.trace(trace_id, "proxy_request")

    assert 429 == response.denied_response.status.code
    ((event, attributes),) = trace["proxy_request"].events
    assert ("denied", "rate_limited") == (event, attributes["sentinel.reason"])
    assert "deny" == trace["proxy_request"].attributes["sentinel.verdict"]


async def test_b3_in_both_forms_goes_on(house, receiver):
    for number, form in enumerate(("single", "multi")):
        trace_id = f"{time.monotonic_ns():032x}"
        headers = {"b3": f"{trace_id}-{SPAN}-1"}
        if form == "multi":
            headers = {"x-b3-traceid": trace_id, "x-b3-spanid": SPAN, "x-b3-sampled": "1"}
        response = await house.check({**headers, "x-tenant-id": f"b3-{number}"})
        root = (await receiver.trace(trace_id, "proxy_request"))["proxy_request"]
        assert SPAN == root.parent_id
        assert f"00-{trace_id}-{root.span_id}-01" == upstream_header(response, "traceparent")


async def test_the_proxys_own_span_is_the_parent(house, receiver):
    trace_id, traceparent = ids()
    envoys = f"00-{trace_id}-{'e' * 16}-01"
    await house.check({"traceparent": traceparent}, metadata=(("traceparent", envoys),))

    assert "e" * 16 == (await receiver.trace(trace_id, "proxy_request"))["proxy_request"].parent_id


async def test_a_caller_that_does_not_sample_is_left_alone(house, receiver):
    trace_id, traceparent = ids()
    unsampled = traceparent[:-1] + "0"
    response = await house.check({"traceparent": unsampled})
    await house.check({"traceparent": traceparent})
    await receiver.trace(trace_id, "proxy_request")

    assert "" == upstream_header(response, "traceparent")
    assert 1 == sum(span.trace_id == trace_id and span.name == "proxy_request" for span in receiver.spans)


async def test_a_sampled_rate_limit_request_is_a_span(house, receiver):
    trace_id, traceparent = ids()
    value = trace_id
    first = await house.limit(value, metadata=(("traceparent", traceparent),))
    spans = await receiver.trace(trace_id, "rate_limit_request")
    second_id, second_parent = ids()
    second = await house.limit(value, metadata=(("traceparent", second_parent),))
    over = (await receiver.trace(second_id, "rate_limit_request"))["rate_limit_request"]

    ok = spans["rate_limit_request"]
    assert (1, 2) == (first.overall_code, second.overall_code)
    assert (SPAN, "server", "edge", "ok") == (
        ok.parent_id,
        ok.kind,
        ok.attributes["sentinel.domain"],
        ok.attributes["sentinel.verdict"],
    )
    assert "over_limit" == over.attributes["sentinel.verdict"]
    assert "denied" == over.events[0][0]


async def test_exported_spans_are_counted(house, receiver):
    trace_id, traceparent = ids()
    await house.check({"traceparent": traceparent})
    await receiver.trace(trace_id, "proxy_request")
    deadline = time.monotonic() + 10
    while not house.sample("sentinel_spans_exported_total"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)

    assert 0 == house.sample("sentinel_spans_dropped_total", reason="queue_full")


async def test_a_check_that_was_given_up_ends_as_cancelled(house, receiver):
    trace_id, traceparent = ids()
    caller = FakeCaller({"traceparent": traceparent})
    waiting = house.app.engine.decide(caller, lambda _decision: True)
    waiting.cancel()
    root = (await receiver.trace(trace_id, "proxy_request"))["proxy_request"]

    assert ("cancelled", True) == (root.attributes["sentinel.verdict"], root.is_error)


# --- Exemplars ---


async def scrape(house: Running, accept: str) -> tuple[str, str]:
    url = f"http://{house.app._settings.admin_address}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url, headers={"accept": accept}) as response:
        return response.content_type, await response.text()


def exemplars(text: str) -> list[Any]:
    return [
        sample.exemplar
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "sentinel_decision_duration_seconds_bucket" and sample.exemplar is not None
    ]


async def test_the_duration_histogram_leads_to_traces_for_who_asks_in_openmetrics(house, receiver):
    trace_id, traceparent = ids()
    for _ in range(20):
        await house.check({"x-tenant-id": "unsampled", "traceparent": traceparent[:-1] + "0"})
    response = await house.check({"traceparent": traceparent, "x-tenant-id": "exemplar"})
    decision_id = response.dynamic_metadata.fields["decision_id"].string_value
    kind, text = await scrape(house, "application/openmetrics-text; version=1.0.0")
    plain_kind, plain = await scrape(house, "text/plain")

    assert ("application/openmetrics-text", "text/plain") == (kind, plain_kind)
    found = exemplars(text)
    assert {"trace_id": trace_id, "span_id": decision_id} in [example.labels for example in found]
    assert all(0 < example.value < 10 for example in found)
    assert len(found) <= 2 * (len(DECISION_BUCKETS) + 1)
    assert trace_id not in plain


# --- Collectors that fail ---


async def answers_quickly(house: Running, count: int = 30) -> None:
    started = time.monotonic()
    for _ in range(count):
        await house.check({"traceparent": PARENT})
    assert time.monotonic() - started < 5


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


# --- grpcio's side ---


def echo() -> Unary:
    def handle(message: Any, _reply: Any) -> bytes:
        return b"echo " + message

    return Unary("sentinel.test.Echo", "Say", bytes, handle)


class OneMessage:
    """A stream that says one thing and ends."""

    def __init__(self, stream: OpenStream) -> None:
        self._stream = stream

    def on_message(self, message: bytes) -> None:
        self._stream.send(b"echo " + message)

    def on_half_close(self) -> None:
        self._stream.finish()

    def on_cancel(self) -> None:
        pass

    on_writable = on_drain = on_cancel


async def test_our_grpc_servers_and_clients_are_instrumented(receiver):
    settings = Settings.load({"REDIS_URL": "memory://", **tracing_to(receiver.http)}, None)
    tracing = make_tracing(settings, Metrics("1"), 0)
    assert isinstance(tracing, Tracing)
    await tracing.start()
    port = free_tcp_port()
    server = GrpcioServer(
        Address("127.0.0.1", port),
        [echo(), HotStream("sentinel.test.Echo", "Stream", StreamKind.BIDI, OneMessage)],
        interceptors=tracing.interceptors,
    )
    await server.start()
    seen = len(receiver.spans)

    def ask() -> list[bytes]:
        """As a command does, which knows no event loop."""
        with client_tracing(settings.tracing) as wrapped, grpc.insecure_channel(f"127.0.0.1:{port}") as bare:
            channel = wrapped(bare)
            said = channel.unary_unary("/sentinel.test.Echo/Say")(b"hi", timeout=10)
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
            stream = bare.stream_stream("/sentinel.test.Echo/Stream")(iter([b"s"]), timeout=10)
            return [said, *stream]

    assert [b"echo hi", b"echo s"] == await asyncio.to_thread(ask)
    await server.stop(0)
    await tracing.close()
    spans = [span for span in receiver.spans[seen:] if span.name.endswith("Echo/Say")]

    by_kind = {span.kind: span for span in spans}
    assert {"server", "client"} == by_kind.keys()
    assert by_kind["client"].span_id == by_kind["server"].parent_id
    assert by_kind["client"].trace_id == by_kind["server"].trace_id
    assert not any("Health" in span.name and span.kind == "server" for span in receiver.spans[seen:])


def test_a_client_without_tracing_keeps_its_channel():
    with client_tracing(None) as wrapped:
        assert "as it is" == wrapped("as it is")
