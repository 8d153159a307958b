"""What a real Envoy 1.40 logs about each kind of end, and what we make of it (docs/access-log.md)."""

from __future__ import annotations

import asyncio
import copy
import statistics
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import grpc.aio
import pytest
from google.protobuf import json_format
from prometheus_client import CollectorRegistry, generate_latest
from support.envoy import free_port
from support.lean import SERVICE, serving, until
from support.logged import TICKET, Logged, Upstream, logging_envoy

from sentinel_ext.core.ended import Ended, Outcome, Result
from sentinel_ext.core.model import Tier
from sentinel_ext.server.calls import PENDING, Call, HotUnary
from sentinel_ext.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

NAMESPACE = "envoy.filters.http.ext_authz"
OK, FAILED, OVERFLOW, IGNORED = Outcome.OK, Outcome.FAILED, Outcome.OVERFLOW, Outcome.IGNORED
HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}
# What the rendered configuration lacks: routes and clusters for each way to fail.
ROUTES: list[dict[str, Any]] = [
    {"name": "dead", "match": {"prefix": "/dead"}, "route": {"cluster": "dead"}},
    {"name": "empty", "match": {"prefix": "/empty"}, "route": {"cluster": "empty"}},
    {"name": "full", "match": {"prefix": "/full"}, "route": {"cluster": "full"}},
    {"name": "grpc", "match": {"prefix": f"/{SERVICE}"}, "route": {"cluster": "grpc"}},
    {"name": "direct", "match": {"prefix": "/direct"}, "direct_response": {"status": 503}},
    {"name": "lost", "match": {"prefix": "/lost"}, "route": {"cluster_header": "x-nobody-sends-it"}},
    {"name": "timeout", "match": {"prefix": "/timeout"}, "route": {"cluster": "upstream", "timeout": "0.2s"}},
    {"name": "idle", "match": {"prefix": "/idle"}, "route": {"cluster": "upstream", "idle_timeout": "0.2s"}},
    {
        "name": "long",
        "match": {"prefix": "/long"},
        "route": {"cluster": "upstream", "max_stream_duration": {"max_stream_duration": "0.2s"}},
    },
    {
        "name": "retry",
        "match": {"prefix": "/retry"},
        "route": {"cluster": "upstream", "retry_policy": {"retry_on": "5xx,reset", "num_retries": 2}},
    },
]


def extend(resources: dict[str, Any], ports: dict[str, int]) -> None:
    """Add ROUTES before ours, and their clusters."""
    (listener,) = resources["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    host = manager["route_config"]["virtual_hosts"][0]
    host["routes"] = ROUTES + host["routes"]
    ours = next(cluster for cluster in resources["clusters"] if cluster["name"] == "upstream")
    for name, port in ports.items():
        cluster = copy.deepcopy(ours)
        cluster["name"] = cluster["load_assignment"]["cluster_name"] = name
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        endpoint["endpoint"]["address"]["socket_address"]["port_value"] = port
        if name == "empty":
            del cluster["load_assignment"]["endpoints"]
        elif name == "full":
            cluster["circuit_breakers"] = {"thresholds": [{"max_requests": 0, "max_pending_requests": 0}]}
        elif name == "grpc":
            cluster["typed_extension_protocol_options"] = HTTP2
        resources["clusters"].append(cluster)


def answer(data: bytes, call: Call) -> Any:
    """End a gRPC call with the status that the request names; none is success, -1 no end."""
    if data == b"-1":
        call.on_cancel(lambda: None)
        return PENDING
    if not data:
        return b"fine"
    call.fail(Status(int(data)), "on demand")
    return PENDING


class House:
    """Envoy, the service that reads its log, and clients."""

    def __init__(self, port: int, logged: Logged, session: aiohttp.ClientSession) -> None:
        self.port = port
        self.logged = logged
        self.session = session

    async def get(self, path: str, timeout_s: float = 10.0, **headers: str) -> int:
        """The status; 0 when there was none, or no whole answer."""
        try:
            async with self.session.get(
                f"http://127.0.0.1:{self.port}{path}",
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def call(self, data: bytes, path: str = f"/{SERVICE}/Answer", timeout_s: float = 10.0) -> int:
        """The gRPC status that the client sees."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            try:
                await channel.unary_unary(path)(data, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                return int(error.code().value[0])
            return 0

    async def entry(self, made: Any) -> Any:
        """Do what makes one entry, and give it."""
        before = len(self.logged.kept.entries)
        await made
        await until(lambda: len(self.logged.kept.entries) > before)
        (entry,) = self.logged.kept.entries[before:]
        return entry

    def last(self) -> Ended:
        return self.logged.kept.ended[-1]


@pytest.fixture(scope="module")
async def house(module_folder: Path) -> AsyncIterator[House]:
    logged = Logged()
    async with (
        Upstream() as upstream,
        serving(hot=(HotUnary(SERVICE, "Answer", answer),)) as (_, where),
    ):
        ports = {"dead": free_port(), "empty": 1, "full": upstream.port, "grpc": int(where.split(":")[1])}
        async with (
            logging_envoy(module_folder, logged, upstream.port, lambda tree: extend(tree, ports)) as port,
            aiohttp.ClientSession() as session,
        ):
            yield House(port, logged, session)
    assert [] == logged.kept.faults


def flags_of(entry: Any) -> set[str]:
    return {field.name for field, _ in entry.common_properties.response_flags.ListFields()}


def metadata_of(entry: Any) -> dict[str, Any]:
    metadata = entry.common_properties.metadata.filter_metadata
    return dict(json_format.MessageToDict(metadata[NAMESPACE])) if NAMESPACE in metadata else {}


async def test_an_allowed_request_comes_back_with_its_metadata_cluster_and_route(house):
    entry = await house.entry(house.get("/ok"))

    metadata = metadata_of(entry)
    assert ("acme", "vital", "orders", True) == tuple(
        metadata[name] for name in ("tenant", "tier", "upstream", "allowed")
    )
    common = entry.common_properties
    assert ("upstream", "all") == (common.upstream_cluster, common.route_name)
    latency_ns = (
        common.time_to_first_upstream_rx_byte.ToNanoseconds()
        - common.time_to_first_upstream_tx_byte.ToNanoseconds()
    )
    assert Ended("acme", Tier.VITAL, "orders", TICKET, OK, latency_ns // 1000) == house.last()
    assert 0 < latency_ns < common.duration.ToNanoseconds()


@pytest.mark.parametrize(("path", "status"), [("/deny", 429), ("/error", 503)])
async def test_a_request_that_we_refused_comes_back_with_its_metadata_and_is_no_end(house, path, status):
    before = len(house.logged.kept.ended)
    denied = house.logged.logs.results[Result.DENIED]

    entry = await house.entry(house.get(path))

    assert {"unauthorized_details"} == flags_of(entry)
    assert status == entry.response.response_code.value
    assert ("acme", False) == (metadata_of(entry)["tenant"], metadata_of(entry)["allowed"])
    assert "" == entry.common_properties.upstream_cluster
    assert before == len(house.logged.kept.ended)
    assert denied + 1 == house.logged.logs.results[Result.DENIED]


async def test_an_answer_without_metadata_is_counted_as_such(house):
    before = house.logged.logs.results[Result.NO_METADATA]

    entry = await house.entry(house.get("/silent/ok"))

    assert {} == metadata_of(entry)
    assert before + 1 == house.logged.logs.results[Result.NO_METADATA]


@pytest.mark.parametrize(
    ("path", "status", "flags", "outcome"),
    [
        ("/x/404", 404, set(), OK),
        ("/x/429", 429, set(), OK),
        ("/x/500", 500, set(), OK),
        ("/x/502", 502, set(), FAILED),
        ("/x/503", 503, set(), FAILED),
        ("/x/504", 504, set(), FAILED),
        ("/below/503", 503, set(), OVERFLOW),
        ("/x/close", 503, {"upstream_connection_termination"}, FAILED),
        ("/x/reset", 503, {"upstream_connection_termination"}, FAILED),
        ("/x/cut", 200, {"upstream_protocol_error"}, FAILED),
        ("/x/garbage", 502, {"upstream_protocol_error"}, FAILED),
        ("/dead", 503, {"upstream_connection_failure"}, FAILED),
        ("/empty", 503, {"no_healthy_upstream"}, FAILED),
        ("/full", 503, {"upstream_overflow"}, OVERFLOW),
        ("/timeout/hang", 504, {"upstream_request_timeout"}, FAILED),
        ("/idle/hang", 504, {"stream_idle_timeout"}, FAILED),
        ("/long/hang", 504, set(), FAILED),
        ("/retry/503", 503, {"upstream_retry_limit_exceeded"}, FAILED),
        (
            "/retry/close",
            503,
            {"upstream_connection_termination", "upstream_retry_limit_exceeded"},
            FAILED,
        ),
        ("/direct", 503, set(), IGNORED),
        ("/lost", 503, {"no_cluster_found"}, IGNORED),
    ],
)
async def test_how_a_request_ended_is_judged(house, path, status, flags, outcome):
    entry = await house.entry(house.get(path))

    assert (status, flags) == (entry.response.response_code.value, flags_of(entry))
    assert True is metadata_of(entry)["allowed"]
    assert (outcome, TICKET) == (house.last().outcome, house.last().ticket)
    assert house.last().latency_us is not None


async def test_a_client_that_leaves_is_no_failure(house):
    entry = await house.entry(house.get("/x/hang", timeout_s=0.3))

    assert (0, {"downstream_connection_termination"}) == (entry.response.response_code.value, flags_of(entry))
    assert IGNORED is house.last().outcome
    assert 0.25e6 < house.last().latency_us < 5e6


async def test_a_client_that_resets_its_stream_is_no_failure(house):
    entry = await house.entry(house.call(b"-1", timeout_s=0.3))

    assert {"downstream_remote_reset"} <= flags_of(entry)
    assert IGNORED is house.last().outcome


async def test_the_latency_is_of_the_last_attempt(house):
    entry = await house.entry(house.get("/retry/503"))

    common = entry.common_properties
    assert 3 == common.upstream_request_attempt_count
    assert house.last().latency_us < common.duration.ToMicroseconds() / 2


async def test_the_latency_is_the_upstreams(house):
    await house.entry(house.get("/x/late"))

    assert 0.24e6 < house.last().latency_us < 2e6


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(b"", OK), (b"4", FAILED), (b"5", OK), (b"8", FAILED), (b"12", OK), (b"13", OK), (b"14", FAILED)],
)
async def test_a_grpc_call_is_judged_by_its_status(house, status, outcome):
    entry = await house.entry(house.call(status))

    assert 200 == entry.response.response_code.value
    where = entry.response.response_headers if status else entry.response.response_trailers
    assert {"grpc-status": status.decode() or "0"} == dict(where)
    assert outcome is house.last().outcome


async def test_a_refused_grpc_call_is_ours_whatever_it_looks_like(house):
    before = len(house.logged.kept.ended)

    entry = await house.entry(house.call(b"", "/deny"))

    assert (200, "14") == (entry.response.response_code.value, entry.response.response_headers["grpc-status"])
    assert {"unauthorized_details"} == flags_of(entry)
    assert before == len(house.logged.kept.ended)


async def test_bytes_that_are_no_text_cost_no_entry(house):
    """A client may send any byte above 0x7f in a header; protobuf's strings may not hold it."""
    before = len(house.logged.kept.ended)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    head = b"host: x\r\nuser-agent: \xff\xc0\r\nreferer: \xfe\r\nx-forwarded-for: \xfd\r\nconnection: close"
    writer.write(b"GET /ok HTTP/1.1\r\n" + head + b"\r\n\r\n")
    assert b"HTTP/1.1 200 OK" in await reader.read()
    writer.close()
    await until(lambda: len(house.logged.kept.ended) > before)

    print(f"als bytes: {house.logged.kept.unreadable} messages that als_pb2 refuses")
    assert 0 == house.logged.logs.garbled
    assert 1 == house.logged.logs.streams


async def test_an_entry_arrives_within_a_flush_interval(house):
    delays = []
    for _ in range(30):
        before = len(house.logged.kept.heard)
        await house.get("/ok")
        ended = time.monotonic()
        await until(lambda before=before: len(house.logged.kept.heard) > before)
        delays.append(house.logged.kept.heard[before][0] - ended)
    median, worst = statistics.median(delays), max(delays)
    print(f"als flush: median {median * 1e3:.0f} ms, worst {worst * 1e3:.0f} ms")

    assert median < 0.12
    assert worst < 0.5


async def test_a_thousand_requests_end_once_each(house):
    kept, results = house.logged.kept, house.logged.logs.results
    before, counted = len(kept.ended), results[Result.COUNTED]
    numbers = iter(range(1000))

    async def sender() -> None:
        for _ in numbers:
            assert 200 == await house.get("/ok")

    await asyncio.gather(*(sender() for _ in range(16)))
    await until(lambda: len(kept.ended) >= before + 1000)

    assert (1000, 1000) == (len(kept.ended) - before, results[Result.COUNTED] - counted)
    assert 0 == results[Result.DUPLICATE]
    assert house.logged.logs.messages < 1000


async def test_metrics_tell_routes_by_name_and_never_by_path(house):
    await house.entry(house.get("/named/ok"))
    registry = CollectorRegistry()
    house.logged.red.register(registry)

    text = generate_latest(registry).decode()

    assert 'sentinel_http_requests_total{method="GET",route="by-extension",status="200"} 1.0' in text
    assert 'sentinel_http_requests_total{method="GET",route="dead",status="503"}' in text
    assert 'sentinel_http_requests_total{method="POST",route="grpc",status="200"}' in text
    assert 'sentinel_http_request_duration_seconds_count{route="timeout"}' in text
    assert 'sentinel_slo_requests_total{tier="vital"}' in text
    assert "/named" not in text


async def test_a_second_access_log_counts_nothing_twice(short_folder: Path) -> None:
    logged = Logged()

    def double(resources: dict[str, Any]) -> None:
        manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        second = copy.deepcopy(manager["access_log"][0])
        second["typed_config"]["common_config"]["log_name"] = "second"
        manager["access_log"].append(second)

    async with (
        Upstream() as upstream,
        logging_envoy(short_folder, logged, upstream.port, double) as port,
        aiohttp.ClientSession() as session,
    ):
        house = House(port, logged, session)
        for _ in range(10):
            assert 200 == await house.get("/ok")
        await until(lambda: sum(logged.logs.results.values()) == 20)

        assert (10, 10) == (logged.logs.results[Result.COUNTED], logged.logs.results[Result.DUPLICATE])
        assert 10 == len(logged.kept.ended)


async def test_entries_that_tell_of_a_request_that_goes_on_are_no_end(short_folder: Path) -> None:
    logged = Logged()

    def chatty(resources: dict[str, Any]) -> None:
        manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        manager["access_log_options"] = {
            "access_log_flush_interval": "0.1s",
            "flush_access_log_on_new_request": True,
        }

    async with (
        Upstream() as upstream,
        logging_envoy(short_folder, logged, upstream.port, chatty) as port,
        aiohttp.ClientSession() as session,
    ):
        house = House(port, logged, session)
        assert 200 == await house.get("/x/late")
        await until(lambda: logged.logs.results[Result.COUNTED] == 1)

        assert 2 <= logged.logs.results[Result.INTERMEDIATE]
        assert 1 == len(logged.kept.ended)
