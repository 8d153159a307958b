"""Tracing of a gRPC client of ours: a command that asks a running Sentinel."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sentinel_ext.telemetry.tracing.intact import ensure_intact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import grpc
    from opentelemetry.sdk.trace import ReadableSpan

    from sentinel_ext.settings_tracing import TracingOptions

# What a command waits at its end for the collector; a collector that is away costs it no more.
EXPORT_S: Final = 2.0
# A command makes a call or two; a view that refreshes for hours keeps its latest.
MAX_SPANS: Final = 256


@contextmanager
def client_tracing(options: TracingOptions | None) -> Iterator[Callable[[grpc.Channel], grpc.Channel]]:
    """Trace calls of a channel; what was recorded is exported at the end, for EXPORT_S at most.

    Use: `with client_tracing(settings.tracing) as wrapped: channel = wrapped(grpc.insecure_channel(target))`

    Args:
        options: the property `tracing` of Settings; None is off, and channels stay as they are.

    Raises:
        StartError: what is installed cannot trace.
    """
    if options is None:
        yield lambda channel: channel
        return
    ensure_intact()
    from sentinel_ext.telemetry.tracing import exporter, instrumentation  # noqa: PLC0415  only who traces pays

    exporter.hear_sdk()
    spans: list[ReadableSpan] = []

    def keep(span: ReadableSpan, _count: int) -> None:
        spans.append(span)
        del spans[:-MAX_SPANS]

    provider = instrumentation.make_provider(options, exporter.make_resource(0, 1), keep)
    try:
        yield instrumentation.traced_channel(provider)
    finally:
        if spans:
            sink = exporter.make_exporter(options.target)
            # A daemon: a collector that hangs does not keep the command.
            sending = threading.Thread(target=exporter.sender(sink), args=(spans,), daemon=True)
            sending.start()
            sending.join(EXPORT_S)
