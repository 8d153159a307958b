"""The two clusters: Sentinel, and what it protects."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstream_http
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any

if TYPE_CHECKING:
    from sentinel_ext.address import Address
    from sentinel_ext.envoy_config.options import BootstrapOptions

SENTINEL = "sentinel"
UPSTREAM = "upstream"
AUTHORIZATION = "envoy.service.auth.v3.Authorization"

# Envoy's defaults of 1024 would throttle Sentinel's calls before Sentinel decides anything: every request
# through the proxy is one call, and a throttled call counts as an error. High enough never to be met.
_MANY = 1_000_000
PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def sentinel_cluster(options: BootstrapOptions) -> cluster.Cluster:
    """Return the cluster `sentinel`: HTTP/2, health-checked, never throttled."""
    first = options.sentinels[0]
    keepalive = core.KeepaliveSettings(interval=timedelta(seconds=30), timeout=timedelta(seconds=5))
    http2 = upstream_http.HttpProtocolOptionsExplicitHttpConfig(
        http2_protocol_options=core.Http2ProtocolOptions(connection_keepalive=keepalive)
    )
    protocol = upstream_http.HttpProtocolOptions(explicit_http_config=http2)
    return cluster.Cluster(
        name=SENTINEL,
        type=discovery(first.host, is_unix=first.is_unix),
        connect_timeout=timedelta(milliseconds=250),
        typed_extension_protocol_options={PROTOCOL_OPTIONS: Any.pack(protocol)},
        health_checks=[_health_check()],
        # Nobody healthy means nobody: the default would send calls to dead instances in "panic".
        common_lb_config=cluster.ClusterCommonLbConfig(
            healthy_panic_threshold=envoy_type.Percent(value=0),
            # The default merges changes of a second: a Sentinel that said NOT_SERVING would still be asked.
            update_merge_window=timedelta(0),
        ),
        circuit_breakers=_unthrottled(),
        load_assignment=assignment(SENTINEL, *map(core_address, options.sentinels)),
    )


def upstream_cluster(options: BootstrapOptions) -> cluster.Cluster:
    """Return the cluster `upstream`: what DOWNSTREAM_URL names, over TLS for https."""
    url = urlsplit(options.downstream_url)
    host = url.hostname or ""
    port = url.port or (443 if url.scheme == "https" else 80)
    where = core.Address(socket_address=core.SocketAddress(address=host, port_value=port))
    return cluster.Cluster(
        name=UPSTREAM,
        type=discovery(host),
        connect_timeout=timedelta(seconds=1),
        dns_lookup_family=cluster.ClusterDnsLookupFamily.ALL,
        # Sentinel decides how much the upstream gets; a second, blunter limit here would hide its decisions.
        circuit_breakers=_unthrottled(),
        load_assignment=assignment(UPSTREAM, where),
        transport_socket=_tls(host, options.ca_file) if url.scheme == "https" else None,
    )


def core_address(address: Address) -> core.Address:
    """Return `address` as Envoy's type."""
    if address.is_unix:
        return core.Address(pipe=core.Pipe(path=address.path))
    return core.Address(socket_address=core.SocketAddress(address=address.host, port_value=address.port))


def discovery(host: str, *, is_unix: bool = False) -> cluster.ClusterDiscoveryType:
    """Say how Envoy finds `host`: as it is, or by DNS."""
    if is_unix:
        return cluster.ClusterDiscoveryType.STATIC
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return cluster.ClusterDiscoveryType.STRICT_DNS
    return cluster.ClusterDiscoveryType.STATIC


def _health_check() -> core.HealthCheck:
    """Notice a frozen or draining Sentinel in about a second."""
    return core.HealthCheck(
        timeout=timedelta(milliseconds=500),
        interval=timedelta(seconds=1),
        unhealthy_threshold=2,
        healthy_threshold=1,
        # Envoy asks an idle cluster once a minute by default; the first request must not find a dead one.
        no_traffic_interval=timedelta(seconds=1),
        grpc_health_check=core.HealthCheckGrpcHealthCheck(service_name=AUTHORIZATION),
    )


def _unthrottled() -> cluster.CircuitBreakers:
    thresholds = cluster.CircuitBreakersThresholds(
        max_connections=_MANY, max_pending_requests=_MANY, max_requests=_MANY, max_retries=_MANY
    )
    return cluster.CircuitBreakers(thresholds=[thresholds])


def assignment(name: str, *addresses: core.Address) -> endpoint.ClusterLoadAssignment:
    """Return the endpoints of the cluster `name`."""
    every = [endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=address)) for address in addresses]
    return endpoint.ClusterLoadAssignment(
        cluster_name=name, endpoints=[endpoint.LocalityLbEndpoints(lb_endpoints=every)]
    )


def _tls(host: str, ca_file: str) -> core.TransportSocket:
    """Verify the certificate against the roots in `ca_file` and the host's name."""
    name = tls.SubjectAltNameMatcher(
        san_type=tls.SubjectAltNameMatcherSanType.DNS, matcher=matcher.StringMatcher(exact=host)
    )
    roots = tls.CertificateValidationContext(
        trusted_ca=core.DataSource(filename=ca_file),
        match_typed_subject_alt_names=[name],
    )
    context = tls.UpstreamTlsContext(
        sni=host,
        common_tls_context=tls.CommonTlsContext(validation_context=roots),
    )
    return core.TransportSocket(name="envoy.transport_sockets.tls", typed_config=Any.pack(context))
