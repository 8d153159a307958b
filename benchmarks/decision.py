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
from contextlib import asynccontextmanager
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
from sentinel_ext.wire.head import VOLATILE, Head, admit
from sentinel_ext.wire.methods import Kind, Method, MethodTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

ROUNDS = 15
CHECKS = 4_000

# The fields of its call, in their order.
CALL = {
    ":method": "POST", ":path": "", ":scheme": "http", ":authority": "sentinel", "te": "trailers",
    "grpc-timeout": "200m", "content-type": "application/grpc", "traceparent": "", "x-envoy-internal": "true",
    "x-forwarded-for": "10.0.0.1", "x-envoy-expected-rq-timeout-ms": "200",
}  # fmt: skip
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


def heads(flags: str, count: int) -> list[Head]:
    """Header blocks of an Envoy that traces: each call in a trace of its own, with these `flags`."""
    (method,) = Authorization(lambda *_: None, lambda _: None).methods()
    table, made = MethodTable(), []
    table.add(Method(method.path.encode(), Kind.UNARY))
    for number in range(1, count + 1):
        traceparent = f"00-{number:032x}-{number:016x}-{flags}"
        fields = {**CALL, ":path": method.path, "traceparent": traceparent}
        made.append(admit([(name.encode(), value.encode()) for name, value in fields.items()], table))
        assert made[-1].refusal is None
    return made


@asynccontextmanager
async def running(
    url: str, tenants: int, batch: int, sample: float | None, flags: str | None
) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Give what sends a number of Checks, `batch` at a time, and waits for the answers.

    With `flags` the calls carry a traceparent that ends with them, as an Envoy that traces sends it.
    """
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
    (method,) = Authorization(engine.decide, lambda _: None, traced=tracing.is_on).methods()
    sent, done, left = requests(tenants), asyncio.Event(), 0
    decode, handle, handle_carried = method.decode, method.handle, method.handle_carried
    calls = heads(flags, tenants) if flags is not None else [Head()] * tenants

    def reply(_answer: bytes) -> bool:
        nonlocal left
        left -= 1
        if not left:
            done.set()
        return True

    async def check(count: int) -> None:
        nonlocal left
        for first in range(0, count, batch):
            left = batch
            done.clear()
            for number in range(first, first + batch):  # as server/calls.py does
                message = decode(sent[number % tenants])
                if handle_carried is None:
                    handle(message, reply)
                else:
                    head = calls[number % tenants]
                    handle_carried(message, reply, head.fields if head.kinds & VOLATILE else ())
            await done.wait()

    yield check
    await batcher.close()
    await store.close()
    await tracing.close()


async def whole(
    url: str, tenants: int, batch: int, sample: float | None = None, flags: str | None = None
) -> dict[str, float]:
    """µs of CPU and of wall time for a whole Check; `loop_us` is the event loop's part."""
    best_cpu = best_loop = best_wall = 1e9
    async with running(url, tenants, batch, sample, flags) as check:
        for _ in range(ROUNDS):
            cpu, loop, wall = time.process_time(), time.thread_time(), time.perf_counter()
            await check(CHECKS)
            best_cpu = min(best_cpu, time.process_time() - cpu)
            best_loop = min(best_loop, time.thread_time() - loop)
            best_wall = min(best_wall, time.perf_counter() - wall)
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
    parser.add_argument(
        "--carried", metavar="FLAGS", help="calls carry a traceparent with these flags: 00, 01"
    )
    parser.add_argument("--whole", action="store_true", help="measure the whole Check only")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    gc.freeze()
    measured = whole(options.redis, options.tenants, options.batch, options.sample, options.carried)
    result = {"whole": uvloop.run(measured), "parts_us": {} if options.whole else parts()}
    if options.json:
        json.dump(result, sys.stdout, indent=2)
        return
    whole_check = result["whole"]
    lines = [f"whole Check: {whole_check['cpu_us']:.1f} µs of CPU, {whole_check['wall_us']:.1f} µs wall"]
    lines += [f"  {name:<28} {cost:5.2f}" for name, cost in result["parts_us"].items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
