"""Envoy's own spans around Sentinel's: its OpenTelemetry tracer, over OTLP/gRPC."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.trace import v3 as trace
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstream_http
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.google.protobuf import Any

from sentinel_ext.envoy_config.clusters import PROTOCOL_OPTIONS, assignment, core_address, discovery

if TYPE_CHECKING:
    from sentinel_ext.address import Address
    from sentinel_ext.envoy_config.options import BootstrapOptions

OTLP = "otlp"
SERVICE = "envoy"


def tracing(options: BootstrapOptions) -> hcm.HttpConnectionManagerTracing | None:
    """Return the listener's tracing; a caller that sends a traceparent decides for itself."""
    if options.otlp is None:
        return None
    call = core.GrpcService(
        envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=OTLP), timeout=timedelta(milliseconds=250)
    )
    tracer = trace.TracingHttp(
        name="envoy.tracers.opentelemetry",
        typed_config=Any.pack(trace.OpenTelemetryConfig(grpc_service=call, service_name=SERVICE)),
    )
    return hcm.HttpConnectionManagerTracing(
        provider=tracer,
        random_sampling=envoy_type.Percent(value=options.trace_ratio * 100),
        # Requests to the upstream get a span of their own, beside the one of the Check.
        spawn_upstream_span=True,
        # Else Envoy overwrites the traceparent that Sentinel gave the request, and the upstream's spans would
        # not hang below the decision. Its calls to Sentinel carry Envoy's context all the same.
        no_context_propagation=True,
    )


def otlp_cluster(where: Address) -> cluster.Cluster:
    """Return the cluster `otlp`: the collector, HTTP/2."""
    http2 = upstream_http.HttpProtocolOptionsExplicitHttpConfig(
        http2_protocol_options=core.Http2ProtocolOptions()
    )
    protocol = upstream_http.HttpProtocolOptions(explicit_http_config=http2)
    return cluster.Cluster(
        name=OTLP,
        type=discovery(where.host, is_unix=where.is_unix),
        connect_timeout=timedelta(milliseconds=250),
        typed_extension_protocol_options={PROTOCOL_OPTIONS: Any.pack(protocol)},
        load_assignment=assignment(OTLP, core_address(where)),
    )
