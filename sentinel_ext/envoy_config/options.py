"""What a rendered Envoy bootstrap depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.address import Address
from sentinel_ext.core import tracecontext
from sentinel_ext.core.policy import SourceKind

if TYPE_CHECKING:
    from sentinel_ext.core.policy import Policy
    from sentinel_ext.settings import Settings

# Envoy's own default. A Python collector's pause or a burst must not look like an outage, which FAIL_OPEN
# would turn into a bypass; a frozen Sentinel is noticed by the health check instead.
CHECK_TIMEOUT_MS = 200
# Where Debian, Ubuntu, Alpine and Envoy's own images keep the system's roots.
CA_FILE = "/etc/ssl/certs/ca-certificates.crt"

# Beside what identifies tenants: ids and trace context, and what tells a gRPC call.
_ALWAYS_SENT = ("x-correlation-id", "traceparent", "x-request-id", "content-type")


class BootstrapOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `render` needs.

    Attributes:
        listen_host: where Envoy's listener binds; 0.0.0.0 because a gateway is there to be reached.
        port: Envoy's listener.
        downstream_url: what Envoy forwards to, with an optional base path.
        sentinels: where Envoy finds Sentinel; one address for each worker.
        headers_sent: request headers that Envoy shows Sentinel. No others: cookies and authorization stay.
        fail_open: let requests pass while Sentinel cannot be reached.
        envoy_admin: Envoy's admin interface.
        metrics: where Envoy shows its metrics to others, and nothing else; None for nowhere.
        upstream: what the requests go to, as policy, metrics and breaker name it.
        ratelimit_domain: ask the rate limit service, too, in this domain; "" does not.
        tenant_header: its value is the descriptor `tenant`.
        otlp: where Envoy sends spans of its own; None for none. `trace_ratio` of the requests without a
            traceparent is traced.
        ca_file: roots that an https upstream's certificate is checked against, where Envoy runs.
    """

    port: int
    downstream_url: str
    sentinels: tuple[Address, ...]
    headers_sent: tuple[str, ...]
    fail_open: bool
    request_timeout_ms: int
    check_timeout_ms: int = CHECK_TIMEOUT_MS
    listen_host: str = "0.0.0.0"  # noqa: S104  see above
    envoy_admin: Address = Address(host="127.0.0.1", port=9901)
    metrics: Address | None = None
    upstream: str = "default"
    ca_file: str = CA_FILE
    ratelimit_domain: str = ""
    tenant_header: str = "x-tenant-id"
    otlp: Address | None = None
    trace_ratio: float = 1.0


def options_from(  # noqa: PLR0913  what the settings do not say, by name
    settings: Settings,
    policy: Policy,
    *,
    listen_host: str = "0.0.0.0",  # noqa: S104  a gateway is there to be reached
    sentinels: tuple[Address, ...] = (),
    admin_address: Address | None = None,
    check_timeout_ms: int = CHECK_TIMEOUT_MS,
    ca_file: str = CA_FILE,
    ratelimit_domain: str = "",
    otlp: Address | None = None,
    metrics: Address | None = None,
) -> BootstrapOptions:
    """Take the options from the settings that Sentinel itself runs with.

    Args:
        sentinels: where Envoy finds Sentinel, if not at the workers' addresses (another container).
        admin_address: Envoy's admin interface.
        otlp: the collector for Envoy's own spans.
        metrics: where Envoy shows its metrics to others.
    """
    tenant_headers = [source.name for source in policy.sources if source.kind is SourceKind.HEADER]
    traced = settings.tracing
    trace_headers = () if traced is None else tracecontext.HEADERS
    return BootstrapOptions(
        port=settings.port,
        downstream_url=settings.downstream_url,
        sentinels=sentinels or settings.grpc_addresses,
        headers_sent=tuple(dict.fromkeys((*tenant_headers, *_ALWAYS_SENT, *trace_headers))),
        fail_open=settings.fail_open,
        request_timeout_ms=settings.request_timeout_ms,
        check_timeout_ms=check_timeout_ms,
        listen_host=listen_host,
        ca_file=ca_file,
        ratelimit_domain=ratelimit_domain,
        otlp=otlp,
        metrics=metrics,
        trace_ratio=1.0 if traced is None else traced.ratio,
        tenant_header=tenant_headers[0] if tenant_headers else settings.tenant_header,
        envoy_admin=admin_address or Address(host="127.0.0.1", port=9901),
    )
