"""Tracing of a gRPC client of ours: a command that asks a running Sentinel."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from sentinel_ext.telemetry.redaction import Redactor
from sentinel_ext.telemetry.tracing.intact import ensure_intact, sdk_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import grpc
    from opentelemetry.sdk.trace import ReadableSpan

    from sentinel_ext.settings_tracing import TracingOptions

# What a command waits at its end for the collector; a collector that is away costs it no more.
EXPORT_S: Final = 2.0
# A command makes a call or two; a view that refreshes for hours keeps its latest.
MAX_SPANS: Final = 256


@contextmanager
def client_tracing(
    options: TracingOptions | None, redact: Sequence[str] = ()
) -> Iterator[Callable[[grpc.Channel], grpc.Channel]]:
    """Trace calls of a channel; what was recorded is exported at the end, for EXPORT_S at most.

    Use: `with client_tracing(settings.tracing, settings.log_redact or ()) as wrapped:
    channel = wrapped(grpc.insecure_channel(target))`

    Args:
        options: the property `tracing` of Settings; None is off, and channels stay as they are.
        redact: names whose values never show (telemetry/redaction.py).

    Raises:
        StartError: what is installed cannot trace.
        SettingsError: the SDK refuses what its own variables say.
    """
    if options is None:
        yield lambda channel: channel
        return
    ensure_intact()
    spans: list[ReadableSpan] = []

    def keep(span: ReadableSpan, _count: int) -> None:
        spans.append(span)
        del spans[:-MAX_SPANS]

    with sdk_settings():
        from sentinel_ext.telemetry.tracing import exporter, instrumentation  # noqa: PLC0415  only who traces pays

        exporter.hear_sdk()
        redactor = Redactor(redact)
        provider = instrumentation.make_provider(options, exporter.make_resource(0, 1, redactor), keep)
        send = exporter.sender(exporter.make_exporter(options.target), redactor)
        traced = instrumentation.traced_channel(provider)
    try:
        yield traced
    finally:
        if spans:
            # A daemon: a collector that hangs does not keep the command.
            sending = threading.Thread(target=_quietly, args=(send, spans), daemon=True)
            sending.start()
            sending.join(EXPORT_S)


def _quietly(send: Callable[[Sequence[ReadableSpan]], bool], spans: Sequence[ReadableSpan]) -> None:
    """Like a collector that is away: what the command was asked for is there, so nothing is said."""
    with suppress(Exception):
        send(spans)
