"""The listener: HTTP connection manager, ext_authz, access log, routes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.http.ext_authz import v3 as ext_authz
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation import v3 as early
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any

from sentinel_ext.envoy_config import ratelimit
from sentinel_ext.envoy_config.access_log import access_log
from sentinel_ext.envoy_config.clusters import SENTINEL, UPSTREAM
from sentinel_ext.envoy_config.tracing import tracing

if TYPE_CHECKING:
    from sentinel_ext.envoy_config.options import BootstrapOptions

EXT_AUTHZ = "envoy.filters.http.ext_authz"
JWT_AUTHN = "envoy.filters.http.jwt_authn"
PROXY_PREFIX = "/proxy"

# Only Sentinel may say these to the upstream. It overwrites them when it answers; when it cannot be reached
# and FAIL_OPEN lets the request pass, nothing would, so a client's own are taken off before anything else.
_ONLY_OURS = ("x-sentinel-tier",)


def make_listener(options: BootstrapOptions) -> listener.Listener:
    """Return the listener at `listen_host:port`."""
    where = core.SocketAddress(address=options.listen_host, port_value=options.port)
    manager = Any.pack(_connection_manager(options))
    chain = listener.FilterChain(
        filters=[listener.Filter(name="envoy.filters.network.http_connection_manager", typed_config=manager)]
    )
    return listener.Listener(
        name="ingress",
        address=core.Address(socket_address=where),
        filter_chains=[chain],
        # 1 MB by default; bounds what one slow client makes Envoy hold.
        per_connection_buffer_limit_bytes=32 * 1024,
    )


def _connection_manager(options: BootstrapOptions) -> hcm.HttpConnectionManager:
    strip = early.HeaderMutation(mutations=[mutation.HeaderMutation(remove=name) for name in _ONLY_OURS])
    return hcm.HttpConnectionManager(
        stat_prefix="ingress",
        # Edge settings of Envoy's own guide: take the peer as the client, believe no header about it,
        # compare paths in one spelling, bound what waits for a slow client.
        use_remote_address=True,
        normalize_path=True,
        common_http_protocol_options=core.HttpProtocolOptions(
            idle_timeout=timedelta(hours=1),
            # Many upstreams read x_sentinel_tier as x-sentinel-tier: a client could speak for Sentinel.
            headers_with_underscores_action=core.HttpProtocolOptionsHeadersWithUnderscoresAction.REJECT_REQUEST,
        ),
        request_headers_timeout=timedelta(seconds=10),
        stream_idle_timeout=timedelta(minutes=5),
        early_header_mutation_extensions=[
            core.TypedExtensionConfig(
                name="envoy.http.early_header_mutation.header_mutation", typed_config=Any.pack(strip)
            )
        ],
        access_log=[access_log()],
        tracing=tracing(options),
        route_config=_routes(options),
        http_filters=_filters(options),
    )


def _filters(options: BootstrapOptions) -> list[hcm.HttpFilter]:
    filters = [hcm.HttpFilter(name=EXT_AUTHZ, typed_config=Any.pack(_ext_authz(options)))]
    if options.ratelimit_domain:
        filters.append(hcm.HttpFilter(name=ratelimit.RATELIMIT, typed_config=ratelimit.make_filter(options)))
    last = hcm.HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(router.Router()))
    return [*filters, last]


def _ext_authz(options: BootstrapOptions) -> ext_authz.ExtAuthz:
    call = core.GrpcService(
        envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=SENTINEL, skip_envoy_headers=True),
        timeout=timedelta(milliseconds=options.check_timeout_ms),
    )
    sent = [matcher.StringMatcher(exact=name) for name in options.headers_sent]
    return ext_authz.ExtAuthz(
        transport_api_version=core.ApiVersion.V3,
        grpc_service=call,
        failure_mode_allow=options.fail_open,
        failure_mode_allow_header_add=True,
        # 403, the default, would hide an outage among denials.
        status_on_error=envoy_type.HttpStatus(code=envoy_type.StatusCode.ServiceUnavailable),
        stat_prefix=SENTINEL,
        allowed_headers=matcher.ListStringMatcher(patterns=sent),
        metadata_context_namespaces=[JWT_AUTHN],
    )


def _routes(options: BootstrapOptions) -> route.RouteConfiguration:
    base = urlsplit(options.downstream_url).path.rstrip("/")
    # The names label metrics: two spellings of one prefix are one route.
    routes = [
        _route(options, "proxy", route.RouteMatch(path=PROXY_PREFIX), f"{base}/"),
        _route(options, "proxy", route.RouteMatch(prefix=f"{PROXY_PREFIX}/"), f"{base}/"),
        # Rewriting "/" to "/" is left out, so that a path without a base stays as it came.
        _route(options, "all", route.RouteMatch(prefix="/"), f"{base}/" if base else ""),
    ]
    limits = ratelimit.descriptors(options) if options.ratelimit_domain else []
    host = route.VirtualHost(name="all", domains=["*"], routes=routes, rate_limits=limits)
    return route.RouteConfiguration(name="ingress", virtual_hosts=[host])


def _route(options: BootstrapOptions, name: str, match: route.RouteMatch, rewrite: str) -> route.Route:
    url = urlsplit(options.downstream_url)
    action = route.RouteAction(
        cluster=UPSTREAM,
        prefix_rewrite=rewrite,
        timeout=timedelta(milliseconds=options.request_timeout_ms),
    )
    if url.scheme == "https":
        # A server chosen by TLS name expects its own name; over plain HTTP the caller's Host is kept.
        action.host_rewrite_literal = url.netloc
    settings = ext_authz.CheckSettings(context_extensions={"upstream": options.upstream})
    return route.Route(
        name=name,
        match=match,
        route=action,
        typed_per_filter_config={EXT_AUTHZ: Any.pack(ext_authz.ExtAuthzPerRoute(check_settings=settings))},
    )
