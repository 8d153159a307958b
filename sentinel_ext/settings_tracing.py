"""Settings of tracing, a part of Settings: ours, and the OpenTelemetry variables that we act on ourselves.

What the exporter alone needs (OTEL_EXPORTER_OTLP_HEADERS, _TIMEOUT, _CERTIFICATE, _COMPRESSION and so on,
OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME) the OpenTelemetry SDK reads itself. A value of an OTEL_ variable
that cannot be read counts as not set, with a warning, as the OpenTelemetry specification wants it.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import msgspec
from pydantic_settings import BaseSettings

from sentinel_ext.settings_types import HttpUrl, Kind, Number, Whole, is_true, split_url

if TYPE_CHECKING:
    from collections.abc import Iterator

GRPC_PORT: Final = 4317
TRACES_PATH: Final = "v1/traces"
MAX_TEXT: Final = 2048
# A span is some 2 KB until it is sent: 200 MB at most.
MAX_QUEUED_SPANS: Final = 100_000
_GRPC_SCHEMES: Final = {"grpc": "http", "grpcs": "https"}
_MINUTES_MS: Final = 600_000
# OTEL_TRACES_SAMPLER: (goes by the caller's decision, ratio of the others; None is OTEL_TRACES_SAMPLER_ARG).
SAMPLERS: Final[dict[str, tuple[bool, float | None]]] = {
    "always_on": (False, 1.0),
    "always_off": (False, 0.0),
    "traceidratio": (False, None),
    "parentbased_always_on": (True, 1.0),
    "parentbased_always_off": (True, 0.0),
    "parentbased_traceidratio": (True, None),
}
_DEFAULT_SAMPLER: Final = "parentbased_always_on"
_SIZES: Final = {
    "otel_bsp_max_queue_size": (2048, Whole(1, MAX_QUEUED_SPANS, "spans")),
    "otel_bsp_max_export_batch_size": (512, Whole(1, MAX_QUEUED_SPANS, "spans")),
    "otel_bsp_schedule_delay": (5000, Whole(1, _MINUTES_MS, "milliseconds")),
}
_RATIO: Final = Number(0, 1, "part of the traces")


class OtlpUrl(HttpUrl):
    """Where spans go: grpc:// and grpcs:// besides http:// and https://; or None."""

    allowed = "http://host[:port][/path], https://..., grpc://host[:port] or grpcs://host[:port]"

    def parse(self, given: object) -> str | None:
        """Return the URL as it was given."""
        text = "" if given is None else str(given)
        scheme, _, rest = text.partition("://")
        if scheme not in _GRPC_SCHEMES:
            return super().parse(given)
        super().parse(f"http://{rest}")
        if split_url(text).path.strip("/"):
            raise ValueError("OTLP over gRPC has no path")
        return text


class StandardUrl(OtlpUrl):
    """Of a standard variable, which may be there for other programs: what is no URL counts as not set."""

    def parse(self, given: object) -> str | None:
        """Return the URL; host:port, which gRPC exporters take, is http://."""
        text = "" if given is None else str(given)
        try:
            return super().parse(text if "://" in text else f"http://{text}")
        except ValueError:
            return None


class Text(Kind):
    """Text for the OpenTelemetry SDK, or None."""

    allowed = f"text of up to {MAX_TEXT} characters"

    def parse(self, given: object) -> str | None:
        """Return the text."""
        if given is not None and len(str(given)) > MAX_TEXT:
            raise ValueError("")
        return None if given is None else str(given)


class Propagators(Text):
    """Names of propagators. The SDK loads them when it is imported, and dies of one that is not there."""

    allowed = (
        "tracecontext, baggage or none, with commas between them, or another whose package is installed; "
        "Sentinel's own spans continue W3C and B3 without it"
    )

    @staticmethod
    def missing(given: str) -> list[str]:
        """Return those of the names that are not installed, as the SDK reads them."""
        names = [name.strip() for name in given.split(",")]
        asked = names[: [name.lower() for name in [*names, "none"]].index("none")]
        return [name for name in asked if not entry_points(group="opentelemetry_propagator", name=name)]


class Target(msgspec.Struct, frozen=True):
    """Where spans are sent, and how.

    Attributes:
        protocol: `grpc` or `http`.
        url: for HTTP the whole one, path included; for gRPC http:// or https:// (TLS) with host and port.
    """

    protocol: str
    url: str


class TracingOptions(msgspec.Struct, frozen=True):
    """What the environment says of tracing, with the defaults of the OpenTelemetry specification.

    Attributes:
        target: None lets the SDK's exporter find its own, from OTEL_EXPORTER_OTLP_*.
        parent_based: go by the caller's sampling decision.
        ratio: of traces on which nobody has decided.
        queue_spans: that wait for the exporter; what comes beyond them is dropped.
        batch_spans: of one export.
        delay_ms: between exports, while batches are not full.
    """

    target: Target
    parent_based: bool
    ratio: float
    queue_spans: int
    batch_spans: int
    delay_ms: int


class TracingSettings(BaseSettings):
    """OpenTelemetry's own variables."""

    otel_sdk_disabled: Annotated[str | None, Text()] = None
    otel_traces_sampler: Annotated[str | None, Text()] = None
    otel_traces_sampler_arg: Annotated[str | None, Text()] = None
    otel_exporter_otlp_endpoint: Annotated[str | None, StandardUrl(optional=True)] = None
    otel_exporter_otlp_traces_endpoint: Annotated[str | None, StandardUrl(optional=True)] = None
    otel_exporter_otlp_protocol: Annotated[str | None, Text()] = None
    otel_exporter_otlp_traces_protocol: Annotated[str | None, Text()] = None
    otel_bsp_max_queue_size: Annotated[str | None, Text()] = None
    otel_bsp_max_export_batch_size: Annotated[str | None, Text()] = None
    otel_bsp_schedule_delay: Annotated[str | None, Text()] = None

    @property
    def _protocol(self) -> str:
        given = self.otel_exporter_otlp_traces_protocol or self.otel_exporter_otlp_protocol or ""
        return {"grpc": "grpc", "http/protobuf": "http"}.get(given.lower(), "")

    def target(self, own: str | None) -> Target:
        """Return where spans go: to `own`, the value of OTLP_ENDPOINT, before OpenTelemetry's variables."""
        if own is not None:
            return target_of(own, self._protocol)
        whole = self.otel_exporter_otlp_traces_endpoint
        base = whole or self.otel_exporter_otlp_endpoint or ""
        found = target_of(base, self._protocol)
        if found.protocol == "http" and whole is None:
            # Of the variable for all signals the path is a prefix (OTLP exporter specification).
            return Target("http", f"{base.rstrip('/')}/{TRACES_PATH}")
        return found

    def sampling(self) -> tuple[bool, float]:
        """Return whether callers' decisions count, and the ratio of the others."""
        name = (self.otel_traces_sampler or _DEFAULT_SAMPLER).lower()
        parent_based, ratio = SAMPLERS.get(name, SAMPLERS[_DEFAULT_SAMPLER])
        if ratio is None:
            ratio = 1.0 if self.otel_traces_sampler_arg is None else _ratio(self.otel_traces_sampler_arg)
        return parent_based, 1.0 if ratio is None else ratio

    def tracing_options(self, own: str | None) -> TracingOptions:
        """Return all of it; `own` is the value of OTLP_ENDPOINT."""
        sizes = {name: _size(name, getattr(self, name)) or default for name, (default, _) in _SIZES.items()}
        queue = sizes["otel_bsp_max_queue_size"]
        batch = min(queue, sizes["otel_bsp_max_export_batch_size"])
        delay = sizes["otel_bsp_schedule_delay"]
        return TracingOptions(self.target(own), *self.sampling(), queue, batch, delay)

    def tracing_warnings(self) -> Iterator[str]:
        """Tell OTEL_ variables that are not what they should be, one line each."""
        name = self.otel_traces_sampler
        if name is not None and name.lower() not in SAMPLERS:
            yield f"OTEL_TRACES_SAMPLER: {name!r} is not known here; {_DEFAULT_SAMPLER} is used"
        argument = self.otel_traces_sampler_arg
        if argument is not None and _ratio(argument) is None:
            yield f"OTEL_TRACES_SAMPLER_ARG: {argument!r} is not {_RATIO.allowed}; 1 is used"
        protocol = self.otel_exporter_otlp_traces_protocol or self.otel_exporter_otlp_protocol
        if protocol is not None and not self._protocol:
            yield f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol!r} is neither grpc nor http/protobuf; ignored"
        for field, (default, kind) in _SIZES.items():
            given = getattr(self, field)
            if given is not None and _size(field, given) is None:
                yield f"{field.upper()}: {given!r} is not {kind.allowed}; {default} is used"

    @property
    def is_sdk_disabled(self) -> bool:
        """OTEL_SDK_DISABLED is true."""
        return is_true(self.otel_sdk_disabled)


def target_of(url: str, protocol: str = "") -> Target:
    """Say how spans are sent to `url`.

    The scheme decides where it is grpc:// or grpcs://, a path is HTTP's, then `protocol` (`grpc`, `http` or
    "") decides, then the port: 4317 is gRPC's, everything else HTTP's, whose path is /v1/traces then.
    """
    parts = urlsplit(url)
    if parts.scheme in _GRPC_SCHEMES:
        where = parts.netloc if parts.port else f"{parts.netloc}:{GRPC_PORT}"
        return Target("grpc", f"{_GRPC_SCHEMES[parts.scheme]}://{where}")
    has_path = bool(parts.path.strip("/"))
    if not has_path and (protocol == "grpc" or (not protocol and parts.port == GRPC_PORT)):
        return Target("grpc", f"{parts.scheme}://{parts.netloc}")
    return Target("http", url if has_path else f"{url.rstrip('/')}/{TRACES_PATH}")


def _ratio(text: str) -> float | None:
    try:
        return _RATIO.parse(text)
    except ValueError:
        return None


def _size(name: str, text: str | None) -> int | None:
    try:
        return None if text is None else _SIZES[name][1].parse(text)
    except ValueError:
        return None
