"""Tracing from the call to the collector: both servers, both protocols."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.fakes import FakeCaller
from support.otlp import Receiver
from support.traced import SPAN, ids, running, tracing_to, upstream_header

from sentinel_ext.telemetry.metrics import DECISION_BUCKETS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.traced import Running

CHILDREN = (
    "token_bucket_check", "distributed_limiter_check", "pressure_check", "priority_check",
    "circuit_breaker_check",
)  # fmt: skip


@pytest.fixture(scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module", params=[("lean", "http"), ("lean", "grpc"), ("grpcio", "http")], ids="-".join)
async def house(request, receiver, module_folder) -> AsyncIterator[Running]:
    server, protocol = request.param
    url = getattr(receiver, protocol)
    async with running(module_folder, GRPC_SERVER=server, **tracing_to(url)) as house:
        yield house


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


async def test_the_log_has_the_trace_of_sampled_rate_limit_requests_and_of_no_others(
    receiver, short_folder, caplog
):
    caplog.set_level(logging.DEBUG, "sentinel.ratelimit")
    traces = [ids() for _ in range(5)]
    async with running(short_folder, **tracing_to(receiver.http)) as house:
        sampled = [house.limit(trace, (("traceparent", parent),)) for trace, parent in traces]
        others = [house.limit(f"o{n}", (("traceparent", f"{p[:-1]}0"),)) for n, (_, p) in enumerate(traces)]
        await asyncio.gather(*(each for pair in zip(sampled, others, strict=True) for each in pair))
        spans = [(await receiver.trace(trace, "rate_limit_request")) for trace, _ in traces]

    logged = [record for record in caplog.records if record.name == "sentinel.ratelimit"]
    assert 10 == len(logged)
    named = {(record.trace_id, record.span_id) for record in logged if hasattr(record, "trace_id")}
    assert {
        (each["rate_limit_request"].trace_id, each["rate_limit_request"].span_id) for each in spans
    } == named


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
