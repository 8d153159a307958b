"""Access log messages as an Envoy sends them, built of protobuf's own types; each part can be wrong."""

from __future__ import annotations

from typing import Any

from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2

from sentinel_ext.core.ended import Ended, Outcome, Ticket
from sentinel_ext.core.model import Tier

HTTP_NAMESPACE = "envoy.filters.http.ext_authz"
TCP_NAMESPACE = "envoy.filters.network.ext_authz"
TICKET = Ticket("i1", 0x2A, 3)
US = 1000


def metadata(number: int = 1, **changed: Any) -> dict[str, Any]:
    """What Check sent out; a field that is None is left out."""
    fields = {
        "tenant": "acme",
        "tier": "vital",
        "plan": "gold",
        "upstream": "orders",
        "decision_id": f"{number:016x}",
        "correlation_id": f"{number:032x}",
        "allowed": True,
        "stage": "window",
        "reason": "allowed",
        "ticket": str(TICKET),
        "ext_authz_duration": 3.0,  # Envoy puts it in
        **changed,
    }
    return {name: value for name, value in fields.items() if value is not None}


def common(
    entry: Any,
    fields: dict[str, Any] | None,
    *,
    namespace: str = HTTP_NAMESPACE,
    flags: tuple[str, ...] = (),
    times_us: tuple[int, int, int] = (1_000, 6_000, 7_000),
    kind: int = accesslog_pb2.DownstreamEnd,
    route: str = "all",
    **values: Any,
) -> None:
    """Fill the common properties; times are first upstream tx, first upstream rx, duration."""
    properties = entry.common_properties
    if fields is not None:
        properties.metadata.filter_metadata[namespace].update(fields)
    for flag in flags:
        if flag == "unauthorized_details":
            properties.response_flags.unauthorized_details.SetInParent()
        else:
            setattr(properties.response_flags, flag, True)
    names = ("time_to_first_upstream_tx_byte", "time_to_first_upstream_rx_byte", "duration")
    for name, value_us in zip(names, times_us, strict=True):
        if value_us:
            getattr(properties, name).FromNanoseconds(value_us * US)
    properties.access_log_type = kind
    properties.route_name = route
    properties.upstream_cluster = "upstream"
    properties.start_time.seconds = 4_000_000_000  # an Envoy with a clock of its own
    for name, value in values.items():
        setattr(properties, name, value)


def http_entry(
    fields: dict[str, Any] | None,
    *,
    status: int = 200,
    method: int = 1,
    details: str = "via_upstream",
    headers: dict[str, str] | None = None,
    trailers: dict[str, str] | None = None,
    **properties: Any,
) -> accesslog_pb2.HTTPAccessLogEntry:
    entry = accesslog_pb2.HTTPAccessLogEntry()
    common(entry, fields, **properties)
    entry.request.request_method = method
    entry.request.path = "/secret/path?token=x"
    entry.request.user_agent = "curl/8"
    if status:
        entry.response.response_code.value = status
    entry.response.response_code_details = details
    entry.response.response_headers.update(headers or {})
    entry.response.response_trailers.update(trailers or {})
    return entry


def tcp_entry(fields: dict[str, Any] | None, **properties: Any) -> accesslog_pb2.TCPAccessLogEntry:
    entry = accesslog_pb2.TCPAccessLogEntry()
    given = {"namespace": TCP_NAMESPACE, "kind": accesslog_pb2.TcpConnectionEnd, **properties}
    common(entry, fields, **given)
    entry.connection_properties.received_bytes = 10
    return entry


def message(*entries: Any, node: str = "") -> bytes:
    """Entries as one message; the first of a stream names its node."""
    made = als_pb2.StreamAccessLogsMessage()
    if node:
        made.identifier.node.id = node
        made.identifier.log_name = "sentinel"
    for entry in entries:
        if isinstance(entry, accesslog_pb2.TCPAccessLogEntry):
            made.tcp_logs.log_entry.append(entry)
        else:
            made.http_logs.log_entry.append(entry)
    return bytes(made.SerializeToString())


def ended(outcome: Outcome = Outcome.OK, latency_us: int | None = 5_000, **changed: Any) -> Ended:
    """What the entry above says."""
    values: dict[str, Any] = {"tenant": "acme", "tier": Tier.VITAL, "upstream": "orders", "ticket": TICKET}
    return Ended(**{**values, "outcome": outcome, "latency_us": latency_us, **changed})
