"""An Envoy whose `ratelimit` filter asks Sentinel, as a user of envoyproxy/ratelimit has it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support.envoy import EnvoyProcess, free_port

if TYPE_CHECKING:
    from pathlib import Path

_TYPE = "type.googleapis.com/envoy"
_HCM = f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def header(name: str, key: str) -> dict[str, Any]:
    return {"request_headers": {"header_name": name, "descriptor_key": key, "skip_if_absent": True}}


def descriptor(*actions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"actions": list(actions), **more}


# What each path sends; the header x-user is on all of them.
ROUTES: dict[str, list[dict[str, Any]]] = {
    "/two": [descriptor(header("x-user", "user")), descriptor(header("x-team", "team"))],
    "/nested": [descriptor(header("x-user", "user"), header("x-team", "team"))],
    "/heavy": [descriptor(header("x-user", "user"), hits_addend={"number": 5})],
    "/refund": [descriptor(header("x-user", "user"), hits_addend={"number": 2, "is_negative_hits": True})],
    "/": [descriptor(header("x-user", "user"))],
}


def cluster(name: str, port: int, *, http2: bool = False) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    made: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if http2:
        made["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return made


def start(
    folder: Path, sentinel_port: int, upstream_port: int, *, deny: bool = False, name: str = "rl"
) -> tuple[EnvoyProcess, int]:
    """Start it; return it and its port. `deny` is failure_mode_deny."""
    port, admin_port = free_port(), free_port()
    service = {"transport_api_version": "V3", "grpc_service": {"envoy_grpc": {"cluster_name": "sentinel"}}}
    limit_filter = {
        "@type": f"{_TYPE}.extensions.filters.http.ratelimit.v3.RateLimit",
        "domain": "shop",
        "failure_mode_deny": deny,
        "timeout": "5s",
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        "rate_limit_service": service,
    }
    # Costs (hits_addend) are only looked at here, not in a route's own rate_limits.
    per_route = f"{_TYPE}.extensions.filters.http.ratelimit.v3.RateLimitPerRoute"
    routes = [
        {
            "match": {"prefix": path},
            "route": {"cluster": "upstream"},
            "typed_per_filter_config": {
                "envoy.filters.http.ratelimit": {"@type": per_route, "rate_limits": limits}
            },
        }
        for path, limits in ROUTES.items()
    ]
    log = {
        "@type": f"{_TYPE}.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
        "common_config": {
            "log_name": "rl",
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": "sentinel"}},
            "buffer_flush_interval": "0.1s",
        },
    }
    manager = {
        "@type": _HCM,
        "access_log": [{"name": "envoy.access_loggers.http_grpc", "typed_config": log}],
        "stat_prefix": "rl",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {"name": "envoy.filters.http.ratelimit", "typed_config": limit_filter},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}.extensions.filters.http.router.v3.Router"},
            },
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    bootstrap = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
        "static_resources": {
            "listeners": [
                {
                    "name": "in",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [chain],
                }
            ],
            "clusters": [cluster("sentinel", sentinel_port, http2=True), cluster("upstream", upstream_port)],
        },
    }
    path = folder / f"envoy-{name}.json"
    path.write_text(json.dumps(bootstrap))
    return EnvoyProcess(path, admin_port).start(), port
