"""The access log that tells Sentinel how each request ended (docs/access-log.md)."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.access_loggers.grpc import v3 as grpc_log
from envoy_data_plane.google.protobuf import Any

from sentinel_ext.envoy_config.clusters import SENTINEL

LOG_NAME: Final = "sentinel"

# Entries feed a control loop, and each millisecond in the buffer is delay in that loop: with the default of
# a second it oscillates, up to 250 ms it holds.
FLUSH_MS: Final = 100
# Some 70 entries. The default of 16 KiB would cut a busy flush into a message for every 18 entries; and as
# entries beyond the buffer are lost while no stream can be had, a restart of Sentinel is bridged a little.
BUFFER_BYTES: Final = 64 * 1024

# Of a gRPC call the status that matters is here, its HTTP status is 200 whatever happens.
_GRPC_STATUS: Final = "grpc-status"
# A refusal by another Sentinel, nearer to the upstream, is no failure of the upstream.
_REASON: Final = "x-sentinel-reason"


def access_log() -> accesslog.AccessLog:
    """Return the log of the connection manager: to the cluster that is asked for decisions, too."""
    common = grpc_log.CommonGrpcAccessLogConfig(
        log_name=LOG_NAME,
        transport_api_version=core.ApiVersion.V3,
        grpc_service=core.GrpcService(
            envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=SENTINEL, skip_envoy_headers=True)
        ),
        buffer_flush_interval=timedelta(milliseconds=FLUSH_MS),
        buffer_size_bytes=BUFFER_BYTES,
    )
    config = grpc_log.HttpGrpcAccessLogConfig(
        common_config=common,
        additional_response_headers_to_log=[_GRPC_STATUS, _REASON],
        additional_response_trailers_to_log=[_GRPC_STATUS],
    )
    return accesslog.AccessLog(
        name="envoy.access_loggers.http_grpc",
        # What a health_check filter answered is no traffic; without such a filter nothing is left out.
        filter=accesslog.AccessLogFilter(not_health_check_filter=accesslog.NotHealthCheckFilter()),
        typed_config=Any.pack(config),
    )
