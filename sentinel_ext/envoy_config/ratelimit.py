"""The `ratelimit` filter and what it asks about every request: tenant, path and remote address."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.ratelimit import v3 as service
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.http.ratelimit import v3 as ratelimit
from envoy_data_plane.google.protobuf import Any

from sentinel_ext.envoy_config.clusters import SENTINEL

if TYPE_CHECKING:
    from sentinel_ext.envoy_config.options import BootstrapOptions

RATELIMIT = "envoy.filters.http.ratelimit"


def make_filter(options: BootstrapOptions) -> Any:
    """Return the filter's configuration. Check's x-ratelimit headers stay: the filter's own are off."""
    call = core.GrpcService(
        envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=SENTINEL, skip_envoy_headers=True)
    )
    asked = service.RateLimitServiceConfig(grpc_service=call, transport_api_version=core.ApiVersion.V3)
    made = ratelimit.RateLimit(
        domain=options.ratelimit_domain,
        timeout=timedelta(milliseconds=options.check_timeout_ms),
        failure_mode_deny=not options.fail_open,
        rate_limit_service=asked,
        stat_prefix=SENTINEL,
    )
    return Any.pack(made)


def descriptors(options: BootstrapOptions) -> list[route.RateLimit]:
    """Return what is sent; rules limit what they name of it."""
    tenant = route.RateLimitActionRequestHeaders(
        header_name=options.tenant_header, descriptor_key="tenant", skip_if_absent=True
    )
    path = route.RateLimitActionRequestHeaders(
        header_name=":path", descriptor_key="path", skip_if_absent=True
    )
    return [
        route.RateLimit(actions=[route.RateLimitAction(request_headers=tenant)]),
        route.RateLimit(actions=[route.RateLimitAction(request_headers=path)]),
        route.RateLimit(actions=[route.RateLimitAction(remote_address=route.RateLimitActionRemoteAddress())]),
    ]
