"""The DecisionService and Check as callers see them: plain values to bytes and back; knows no channel."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

import msgspec
from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from sentinel_ext._pb.sentinel.v1 import decision_service_pb2 as api

if TYPE_CHECKING:
    from collections.abc import Mapping


SERVICE: Final = "sentinel.v1.DecisionService"
CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
_TIMESTAMP: Final = "google.protobuf.Timestamp"


class RequestTextError(ValueError):
    """What was given is not the request it should be; the message says where."""


class Method(msgspec.Struct, frozen=True):
    """One method of the DecisionService.

    Attributes:
        name: `Explain`.
    """

    name: str
    request: type[Message]
    response: type[Message]

    @property
    def path(self) -> str:
        """The HTTP/2 `:path`."""
        return f"/{SERVICE}/{self.name}"

    def encode(self, fields: Mapping[str, Any]) -> bytes:
        """Write a request, given as protobuf's JSON mapping has it (field names in either spelling).

        Raises:
            RequestTextError: a field is unknown, or holds what it cannot hold.
        """
        message = self.request()
        try:
            json_format.ParseDict(dict(fields), message)
            return message.SerializeToString()
        except (json_format.ParseError, ValueError, RecursionError) as error:
            # It comes in lines, with the known fields below.
            raise RequestTextError(" ".join(str(error).split())) from None

    def decode(self, data: bytes) -> dict[str, Any]:
        """Read a response.

        Raises:
            google.protobuf.message.DecodeError: it is none.
        """
        return plain(self.response.FromString(data))


METHODS: Final[dict[str, Method]] = {
    method.name: Method(
        method.name,
        getattr(api, method.input_type.name),
        getattr(api, method.output_type.name),
    )
    for method in api.DESCRIPTOR.services_by_name["DecisionService"].methods
}


def plain(message: Message) -> dict[str, Any]:
    """Return a message as what JSON can hold, every field under its name in the .proto file.

    Numbers are numbers (protobuf's own mapping writes 64 bits as text), times RFC 3339, and what is absent
    None; of a oneof only the member that is set appears.
    """
    values: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if not field.has_presence or message.HasField(field.name):
            values[field.name] = _field(field, getattr(message, field.name))
        elif field.containing_oneof is None or len(field.containing_oneof.fields) == 1:
            values[field.name] = None
    return values


def _field(field: Any, value: Any) -> Any:  # noqa: ANN401  a FieldDescriptor, and whatever it describes
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        held = field.message_type.fields_by_name["value"]
        return {str(key): _single(held, each) for key, each in sorted(value.items())}
    if field.is_repeated:
        return [_single(field, each) for each in value]
    return _single(field, value)


def _single(field: Any, value: Any) -> Any:  # noqa: ANN401
    if field.message_type is not None:
        if field.message_type.full_name == _TIMESTAMP:
            return _time(value)
        return plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        # JSON has no word for it.
        return None
    return value


def _time(value: Any) -> str | None:  # noqa: ANN401  a Timestamp
    try:
        return str(value.ToJsonString())
    except ValueError:
        # Beyond the year 9999, or nanoseconds out of range.
        return None


def explain_check(text: str) -> dict[str, Any]:
    """Read a CheckRequest in JSON, as grpcurl and Envoy print it, into the fields of an ExplainRequest.

    Raises:
        RequestTextError: it is none.
    """
    return _checked({"check": _parsed(text)})


def explain_rate_limit(text: str) -> dict[str, Any]:
    """Read a RateLimitRequest in JSON, likewise.

    Raises:
        RequestTextError: it is none.
    """
    return _checked({"rate_limit": _parsed(text)})


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestTextError(f"is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise RequestTextError("is not a JSON object")
    return found


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    METHODS["Explain"].encode(fields)
    return fields


def check_request(tenant_header: str, tenant: str, method: str, path: str, upstream: str) -> bytes:
    """Return a CheckRequest as Envoy would send it for a plain request of `tenant`."""
    request = external_auth_pb2.CheckRequest()
    attributes = request.attributes
    attributes.source.address.socket_address.address = "192.0.2.17"
    attributes.source.address.socket_address.port_value = 51_234
    if upstream:
        attributes.context_extensions["upstream"] = upstream
    http = attributes.request.http
    http.id, http.method, http.path, http.protocol = "7310917", method, path, "HTTP/1.1"
    http.host, http.scheme = "bench.example", "http"
    http.headers.update(
        {
            ":authority": "bench.example",
            ":method": method,
            ":path": path,
            ":scheme": "http",
            "accept": "*/*",
            "user-agent": "sentinel-ext-bench",
            tenant_header: tenant,
        }
    )
    return bytes(request.SerializeToString(deterministic=True))


def verdict_of(data: bytes) -> str:
    """Say in a word what a CheckResponse says: `200 allowed`, `429 rate_limited`, `error` for neither."""
    try:
        response = external_auth_pb2.CheckResponse.FromString(data)
    except DecodeError:
        return "no CheckResponse"
    kind = response.WhichOneof("http_response")
    if kind == "ok_response":
        return "200 allowed"
    if kind != "denied_response":
        return "error"
    denied = response.denied_response
    reasons = (each.header.value for each in denied.headers if each.header.key == "x-sentinel-reason")
    return f"{denied.status.code or 403} {next(reasons, 'denied')}"
