"""A trace through a real Envoy: its own spans around ours, and what the upstream is told."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.fleet import Fleet
from support.otlp import Receiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.otlp import Span
    from support.redis_server import RedisServer

pytestmark = pytest.mark.e2e

CLIENT = "00f067aa0ba902b7"
CHILDREN = {
    "token_bucket_check", "distributed_limiter_check", "pressure_check", "priority_check",
    "circuit_breaker_check",
}  # fmt: skip
INGRESS, ROUTER = "ingress", "router upstream egress"
EGRESS = "async envoy.service.auth.v3.Authorization.Check egress"
POLICY = """
plans: {gold: {limit: 1000, burst: 100}, none: {limit: 0}}
default_plan: gold
tenants: {blocked: none}
"""
# Envoy sends spans when it has five of them, or after five seconds.
FILLERS = 2


@pytest.fixture(scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


def environment(folder: Path, endpoint: str) -> dict[str, str]:
    (folder / "policy.yaml").write_text(POLICY)
    return {
        "REDIS_URL": "memory://",
        "POLICY_FILE": str(folder / "policy.yaml"),
        "ENABLE_TRACING": "true",
        "OTLP_ENDPOINT": endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
    }


@pytest.fixture(scope="module")
async def fleet(receiver: Receiver, module_folder: Path) -> AsyncIterator[Fleet]:
    arguments = ("--check-timeout-ms", "5000", "--otlp-address", f"127.0.0.1:{receiver.grpc_port}")
    settings = environment(module_folder, receiver.http)
    async with Fleet(module_folder, settings, config_arguments=arguments) as fleet:
        yield fleet


async def fill(fleet: Fleet) -> None:
    for _ in range(FILLERS):
        await fleet.get(headers={"x-tenant-id": "filler"})


async def traced(
    fleet: Fleet, receiver: Receiver, tenant: str, *names: str
) -> tuple[dict[str, str], dict[str, Span]]:
    trace_id = f"{time.monotonic_ns():032x}"
    reply = await fleet.get(
        headers={"x-tenant-id": tenant, "traceparent": f"00-{trace_id}-{CLIENT}-01", "tracestate": "v=1"}
    )
    await fill(fleet)
    arrived = json.loads(reply.body).get("headers", {}) if reply.status == 200 else reply.headers
    return arrived, await receiver.trace(trace_id, *names)


async def test_client_envoy_sentinel_and_upstream_are_one_chain(fleet: Fleet, receiver: Receiver) -> None:
    arrived, trace = await traced(
        fleet, receiver, "acme", INGRESS, EGRESS, ROUTER, "proxy_request", *CHILDREN
    )

    ours = trace["proxy_request"]
    assert CLIENT == trace[INGRESS].parent_id
    assert trace[INGRESS].span_id == trace[EGRESS].parent_id == trace[ROUTER].parent_id
    assert trace[EGRESS].span_id == ours.parent_id
    assert {ours.span_id} == {trace[name].parent_id for name in CHILDREN}
    assert f"00-{ours.trace_id}-{ours.span_id}-01" == arrived["traceparent"]
    assert "v=1" == arrived["tracestate"]
    assert trace[EGRESS].start <= ours.start <= ours.end <= trace[EGRESS].end
    assert ("sentinel", "test") == (ours.resource["service.name"], ours.resource["deployment.environment"])
    assert "envoy" == trace[INGRESS].resource["service.name"]


async def test_a_refusal_is_in_the_trace_and_in_the_log_under_the_same_ids(
    fleet: Fleet, receiver: Receiver
) -> None:
    headers, trace = await traced(fleet, receiver, "blocked", INGRESS, "proxy_request")

    ours = trace["proxy_request"]
    assert "deny" == ours.attributes["sentinel.verdict"]
    assert headers["x-correlation-id"] == ours.attributes["sentinel.correlation_id"]
    lines = map(json.loads, fleet.sentinels[0].log.read_text().splitlines())
    (line,) = [line for line in lines if line.get("decision_id") == ours.span_id]
    assert (ours.trace_id, ours.span_id) == (line["trace_id"], line["span_id"])


async def test_a_request_without_a_trace_begins_one(fleet: Fleet, receiver: Receiver) -> None:
    reply = await fleet.get(headers={"x-tenant-id": "acme"})
    _, trace_id, span_id, flags = json.loads(reply.body)["headers"]["traceparent"].split("-")
    await fill(fleet)
    trace = await receiver.trace(trace_id, INGRESS, "proxy_request")

    assert "01" == flags
    assert span_id == trace["proxy_request"].span_id
    assert "" == trace[INGRESS].parent_id


async def test_an_envoy_without_a_tracer_shows_the_clients_b3(receiver: Receiver, short_folder: Path) -> None:
    trace_id = f"{time.monotonic_ns():032x}"
    settings = {**environment(short_folder, receiver.grpc), "OTEL_TRACES_SAMPLER": "parentbased_always_off"}
    async with Fleet(short_folder, settings) as fleet:
        reply = await fleet.get(headers={"b3": f"{trace_id}-{CLIENT}-1"})
        other = await fleet.get()
        trace = await receiver.trace(trace_id, "proxy_request", *CHILDREN)
        metrics = await fleet.sentinels[0].metrics()
    ours = trace["proxy_request"]

    assert CLIENT == ours.parent_id
    assert f"00-{trace_id}-{ours.span_id}-01" == json.loads(reply.body)["headers"]["traceparent"]
    assert json.loads(other.body)["headers"]["traceparent"].endswith("-00")
    assert 0 == metrics['sentinel_spans_dropped_total{reason="queue_full"}']


async def test_each_worker_exports_for_itself_and_exemplars_survive_their_sum(
    receiver: Receiver, short_folder: Path, redis_server: RedisServer
) -> None:
    more = {"REDIS_URL": redis_server.url, "WORKERS": "2", "GRPC_ADDRESS": f"unix://{short_folder}/s.sock"}

    def instances() -> set[str]:
        """Of workers: another test's spans may still arrive."""
        found = [span.resource for span in receiver.spans if "sentinel.worker" in span.resource]
        return {resource["service.instance.id"] for resource in found}

    async with Fleet(short_folder, {**environment(short_folder, receiver.http), **more}) as fleet:
        trace_ids = set()
        while len(instances()) < 2:
            reply = await fleet.get()
            trace_ids.add(json.loads(reply.body)["headers"]["traceparent"].split("-")[1])
            assert len(trace_ids) < 500
        url = f"{fleet.sentinels[0].admin}/metrics"
        accept = {"accept": "application/openmetrics-text; version=1.0.0"}
        async with fleet.session.get(url, headers=accept) as response:
            families = list(text_string_to_metric_families(await response.text()))
    samples = [sample for family in families for sample in family.samples]

    assert 2 == len(instances())
    exemplars = [sample.exemplar for sample in samples if sample.exemplar is not None]
    assert exemplars
    assert {example.labels["trace_id"] for example in exemplars} <= trace_ids
