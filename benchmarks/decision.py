"""What one allowed Check costs in process: `python -m benchmarks.decision --redis unix:///tmp/redis.sock`.

No socket to Envoy: bytes of a CheckRequest in, bytes of a CheckResponse out, with the store's batched call in
between. CPU time of this process, the best of several rounds: what the code costs when nothing else runs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from typing import TYPE_CHECKING

import uvloop
from envoy.service.auth.v3 import external_auth_pb2
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from sentinel_ext import clock
from sentinel_ext.core.controller import Controller
from sentinel_ext.core.decision import Decision
from sentinel_ext.core.identify import Identifier
from sentinel_ext.core.model import FailureMode, Mode, Plan, Stage, Tier
from sentinel_ext.core.pipeline import Pending, Pipeline
from sentinel_ext.core.policy import Policy, Source, SourceKind
from sentinel_ext.core.tenant import Tenants
from sentinel_ext.core.window import WindowReply
from sentinel_ext.engine import Engine
from sentinel_ext.services.authorization import Authorization, CheckCaller
from sentinel_ext.services.check_response import CheckEncoder
from sentinel_ext.settings import Settings
from sentinel_ext.store.batcher import Batcher
from sentinel_ext.store.factory import make_store
from sentinel_ext.telemetry.logging import DecisionLog
from sentinel_ext.telemetry.metrics import Metrics
from sentinel_ext.tracing import NoTracing, Tracing

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
CHECKS = 4_000

# What Envoy 1.40 sends for a small GET with our rendered configuration.
HEADERS = {
    ":method": "GET", ":path": "/orders/17", ":authority": "shop.example", ":scheme": "http",
    "x-request-id": "7f2a8f0e-57a6-4d1a-9a39-0c6ad5a3f2f1", "x-forwarded-proto": "http",
}  # fmt: skip


def policy() -> Policy:
    """Nobody is ever refused: the full path is what is measured."""
    plan = Plan("big", Tier.STANDARD, 1_000_000_000, 60_000_000, 1_000_000, 10**15, FailureMode.LOCAL)
    modes = {Stage.BUCKET: Mode.ENFORCE, Stage.WINDOW: Mode.ENFORCE}
    return Policy({"big": plan}, plan, {}, (), (Source(SourceKind.HEADER, "x-tenant-id"),), modes)


def requests(tenants: int) -> list[bytes]:
    """One CheckRequest for each tenant."""
    made = []
    for number in range(tenants):
        request = external_auth_pb2.CheckRequest()
        http = request.attributes.request.http
        http.method, http.path, http.host, http.protocol = "GET", "/orders/17", "shop.example", "HTTP/1.1"
        for name, value in {**HEADERS, "x-tenant-id": f"tenant-{number}"}.items():
            http.headers[name] = value
        request.attributes.source.address.socket_address.address = "127.0.0.1"
        request.attributes.destination.address.socket_address.address = "127.0.0.1"
        made.append(request.SerializeToString())
    return made


def make(sample: float | None, metrics: Metrics) -> NoTracing:
    """Tracing off (None), or on with this ratio; spans are made and written, but not sent."""
    if sample is None:
        return NoTracing()
    environment = {
        "ENABLE_TRACING": "true",
        "OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": f"{sample:f}",
    }
    settings = Settings.load(environment, None)
    assert settings.tracing is not None
    tracing = Tracing(settings.tracing, settings, metrics, 0)
    tracing.pipe._export = lambda spans: bool(encode_spans(spans).SerializeToString())
    return tracing


async def whole(url: str, tenants: int, batch: int, sample: float | None = None) -> dict[str, float]:
    """µs of CPU and of wall time for a whole Check, `batch` at a time; `loop_us` is the event loop's part."""
    rules, metrics = policy(), Metrics("bench")
    tracing = make(sample, metrics)
    await tracing.start()
    store = make_store(url, now_us=clock.monotonic_us, jitter=clock.random_unit, changed=lambda *_: None)
    batcher = Batcher(store, 1.0, metrics.store_called)
    await batcher.start()
    await store.start()
    while not store.is_available():
        await asyncio.sleep(0.01)
    identifier = tracing.identifier(rules.sources)
    pipeline = tracing.pipeline(rules, Controller("bench", rules, clock.monotonic_ns()))
    engine = Engine(pipeline, identifier, Tenants(rules), batcher, clock.monotonic_ns)
    engine.observers = (metrics.decided, DecisionLog(clock.monotonic_ns).decided, *tracing.observers)
    (method,) = Authorization(engine.decide, lambda _: None).methods()
    sent, done, left = requests(tenants), asyncio.Event(), 0

    def reply(_answer: bytes) -> bool:
        nonlocal left
        left -= 1
        if not left:
            done.set()
        return True

    best_cpu = best_loop = best_wall = 1e9
    for _ in range(ROUNDS):
        cpu, loop, wall = time.process_time(), time.thread_time(), time.perf_counter()
        for first in range(0, CHECKS, batch):
            left = batch
            done.clear()
            for number in range(first, first + batch):
                method.handle(method.decode(sent[number % tenants]), reply)
            await done.wait()
        best_cpu = min(best_cpu, time.process_time() - cpu)
        best_loop = min(best_loop, time.thread_time() - loop)
        best_wall = min(best_wall, time.perf_counter() - wall)
    await batcher.close()
    await store.close()
    await tracing.close()
    best = {"cpu_us": best_cpu, "loop_us": best_loop, "wall_us": best_wall}
    return {name: seconds / CHECKS * 1e6 for name, seconds in best.items()}


def parts() -> dict[str, float]:
    """µs of CPU for each part of a Check, measured alone."""
    rules, (data,) = policy(), requests(1)
    metrics, tenants = Metrics("bench"), Tenants(rules)
    identifier = Identifier(rules.sources, clock.random_hex)
    controller = Controller("bench", rules, clock.monotonic_ns())
    pipeline = Pipeline(rules, controller)
    encoder, log = CheckEncoder(), DecisionLog(clock.monotonic_ns)
    request = external_auth_pb2.CheckRequest.FromString(data)
    caller = CheckCaller(request)
    tenant = tenants.get("tenant-0", 0)
    check = identifier.check(caller, tenant)
    pending = pipeline.begin(check, clock.monotonic_ns())
    assert isinstance(pending, Pending)
    window = WindowReply(True, 17, 5_999_000, 0, 12345)
    decision = pipeline.resume(pending, window, clock.monotonic_ns())
    assert isinstance(decision, Decision)
    measured: dict[str, Callable[[], object]] = {
        "decode CheckRequest (upb)": lambda: external_auth_pb2.CheckRequest.FromString(data),
        "wrap as caller": lambda: CheckCaller(request),
        "identify": lambda: identifier.identity(caller),
        "tenant table": lambda: tenants.get("tenant-0", 0),
        "ids, trace, upstream": lambda: identifier.check(caller, tenant),
        "bucket, tier, breaker, query": lambda: pipeline.begin(check, clock.monotonic_ns()),
        "resume": lambda: pipeline.resume(pending, window, 0),
        "encode CheckResponse": lambda: encoder.encode(decision),
        "metrics": lambda: metrics.decided(decision, 900_000),
        "decision log (info)": lambda: log.decided(decision, 900_000),
    }
    return {name: cost_us(call) for name, call in measured.items()}


def cost_us(call: Callable[[], object], count: int = 20_000) -> float:
    """Best µs of CPU for one call, the loop's own cost taken off."""
    empty = best_of(lambda: None, count)
    return best_of(call, count) - empty


def best_of(call: Callable[[], object], count: int) -> float:
    """Best of a few rounds."""
    best = 1e9
    for _ in range(7):
        started = time.process_time()
        for _ in range(count):
            call()
        best = min(best, time.process_time() - started)
    return best / count * 1e6


def main() -> None:
    """Print the figures as a table, or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", default="memory://", help="the store's URL (default: %(default)s)")
    parser.add_argument("--tenants", type=int, default=100, help="different tenants (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=50, help="checks per turn (default: %(default)s)")
    parser.add_argument("--sample", type=float, help="tracing on, with this part of the checks sampled")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    gc.freeze()
    result = {
        "whole": uvloop.run(whole(options.redis, options.tenants, options.batch, options.sample)),
        "parts_us": parts(),
    }
    if options.json:
        json.dump(result, sys.stdout, indent=2)
        return
    whole_check = result["whole"]
    lines = [f"whole Check: {whole_check['cpu_us']:.1f} µs of CPU, {whole_check['wall_us']:.1f} µs wall"]
    lines += [f"  {name:<28} {cost:5.2f}" for name, cost in result["parts_us"].items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
