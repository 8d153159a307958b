"""Tracing of a gRPC client of ours, such as a command that asks a running Sentinel."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sentinel_ext.telemetry.tracing.pipe import SpanPipe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import grpc
    from opentelemetry.sdk.trace import ReadableSpan

    from sentinel_ext.settings_tracing import TracingOptions


@asynccontextmanager
async def client_tracing(
    options: TracingOptions | None,
) -> AsyncIterator[Sequence[grpc.aio.ClientInterceptor]]:
    """Trace calls of a channel; what was recorded is exported at the end, for two seconds at most.

    Use: `async with client_tracing(settings.tracing) as interceptors, grpc.aio.insecure_channel(target,
    interceptors=interceptors) as channel: ...`

    Args:
        options: the property `tracing` of Settings; None is off, and there are no interceptors.
    """
    if options is None:
        yield ()
        return
    from sentinel_ext.telemetry.tracing import exporter, instrumentation  # noqa: PLC0415  only who traces pays

    heard, sink = exporter.hear_sdk(), exporter.make_exporter(options.target)
    pipe: SpanPipe[ReadableSpan, ReadableSpan] = SpanPipe(
        options, lambda span: (span,), exporter.sender(sink), sink.shutdown
    )
    pipe.last_error = lambda: heard.text
    pipe.start()
    provider = instrumentation.make_provider(options, exporter.make_resource(0, 1), pipe.put)
    try:
        yield instrumentation.client_interceptors(provider)
    finally:
        await pipe.close()
