"""A listener that shows Envoy's metrics and nothing else of its admin interface."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any

from sentinel_ext.envoy_config.clusters import assignment, core_address, discovery

if TYPE_CHECKING:
    from sentinel_ext.address import Address

ADMIN = "envoy_admin"
METRICS = "metrics"
PATH = "/stats/prometheus"


def metrics_listener(where: Address) -> listener.Listener:
    """Return the listener `metrics`: GET of exactly PATH goes to the admin interface, all else is 404.

    The admin interface can also end Envoy, and shows its configuration: it stays on loopback.
    """
    get = route.HeaderMatcher(name=":method", string_match=matcher.StringMatcher(exact="GET"))
    only = route.Route(
        name=METRICS,
        match=route.RouteMatch(path=PATH, headers=[get]),
        route=route.RouteAction(cluster=ADMIN, timeout=timedelta(seconds=10)),
    )
    host = route.VirtualHost(name=METRICS, domains=["*"], routes=[only])
    manager = hcm.HttpConnectionManager(
        stat_prefix=METRICS,
        request_headers_timeout=timedelta(seconds=10),
        route_config=route.RouteConfiguration(name=METRICS, virtual_hosts=[host]),
        http_filters=[
            hcm.HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(router.Router()))
        ],
    )
    chain = listener.FilterChain(
        filters=[
            listener.Filter(
                name="envoy.filters.network.http_connection_manager", typed_config=Any.pack(manager)
            )
        ]
    )
    return listener.Listener(
        name=METRICS,
        address=core_address(where),
        filter_chains=[chain],
        per_connection_buffer_limit_bytes=32 * 1024,
    )


def admin_cluster(admin: Address) -> cluster.Cluster:
    """Return the cluster `envoy_admin`: Envoy's own admin interface."""
    return cluster.Cluster(
        name=ADMIN,
        type=discovery(admin.host, is_unix=admin.is_unix),
        connect_timeout=timedelta(milliseconds=250),
        load_assignment=assignment(ADMIN, core_address(admin)),
    )
