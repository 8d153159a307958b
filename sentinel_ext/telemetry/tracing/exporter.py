"""The exporter of the OpenTelemetry SDK, the resource, and what the SDK says when something fails."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from sentinel_ext import __version__, clock
from sentinel_ext.telemetry.tracing.redacted import redacting
from sentinel_ext.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from sentinel_ext.settings_tracing import Target
    from sentinel_ext.telemetry.redaction import Redactor

SERVICE: Final = "sentinel"
_UNNAMED: Final = "unknown_service"
MAX_ERROR: Final = 500
_EXPORTERS: Final = "opentelemetry.exporter."


class KnownResource(Resource):
    """A resource whose hash is worked out once: the SDK's own writes JSON for every span."""

    def __hash__(self) -> int:
        """Equal resources are the same one here."""
        return id(self)


def make_resource(worker: int, workers: int, redactor: Redactor) -> Resource:
    """Say who we are: OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME, and what they leave out.

    Each worker is an instance of its own. All spans share it, so it is redacted once.
    """
    given = Resource.create()
    attributes = dict(given.attributes)
    if str(attributes.get(SERVICE_NAME, _UNNAMED)).startswith(_UNNAMED):
        attributes[SERVICE_NAME] = SERVICE
    instance = attributes.get(SERVICE_INSTANCE_ID)
    if instance is None:
        instance = clock.random_hex(16)
    elif workers > 1:
        instance = f"{instance}.{worker}"
    attributes[SERVICE_INSTANCE_ID] = instance
    attributes.setdefault(SERVICE_VERSION, __version__)
    if workers > 1:
        attributes["sentinel.worker"] = worker
    (shown,) = redactor.parts(attributes)
    return KnownResource(shown, given.schema_url)


def make_exporter(target: Target) -> SpanExporter:
    """Make the exporter for `target`; the SDK reads headers, certificates and timeouts from the environment.

    Connects to nothing yet.
    """
    if target.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as by_grpc  # noqa: PLC0415  one of both

        return by_grpc.OTLPSpanExporter(target.url, insecure=target.url.startswith("http://"))
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as by_http  # noqa: PLC0415  likewise

    return by_http.OTLPSpanExporter(target.url)


def sender(exporter: SpanExporter, redactor: Redactor) -> Callable[[Sequence[ReadableSpan]], bool]:
    """Return a function that exports and says whether the spans arrived.

    All spans go this way, whoever made them, and so it is here that what must not show is hidden.
    """
    redacted = redacting(redactor)

    def send(spans: Sequence[ReadableSpan]) -> bool:
        return exporter.export([redacted(span) for span in spans]) is SpanExportResult.SUCCESS

    return send


class LastWord(logging.Handler):
    """Keeps what the exporters said last: they log every failed try, several a second, and we once a minute.

    Other parts of the SDK are not kept: they quote clients (a tracestate that is none) and headers of the
    environment, which say nothing of why an export failed.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message."""
        if record.name.startswith(_EXPORTERS):
            self.text = printable(record.getMessage()[:MAX_ERROR])


def hear_sdk() -> LastWord:
    """Take the SDK's log lines in place of the log."""
    heard = LastWord()
    log = logging.getLogger("opentelemetry")
    log.handlers[:] = [heard]
    log.propagate = False
    return heard
