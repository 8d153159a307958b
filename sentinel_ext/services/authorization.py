"""envoy.service.auth.v3.Authorization: CheckRequest → caller, Decision → CheckResponse.

A denial is an OK RPC with a denied_response; the RPC itself never fails to deny. Our own fault is an
error_response, so that Envoy applies its failure_mode_allow (envoy.service.auth.v3.CheckResponse).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2
from google.protobuf.message import DecodeError

from sentinel_ext.core.decision import Decision
from sentinel_ext.services import check_response
from sentinel_ext.services.registry import Cancellable, RequestError, Unary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sentinel_ext.core.identify import Caller
    from sentinel_ext.core.tracecontext import Fields

    Decide = Callable[[Caller, Callable[[Decision | None], bool]], Decision | Cancellable]

SERVICE = "envoy.service.auth.v3.Authorization"

_CheckRequest = external_auth_pb2.CheckRequest


class CheckCaller:
    """A CheckRequest seen as core.identify.Caller. Every part may be missing; strings are hostile."""

    __slots__ = ("_attributes", "carried", "context_extensions", "headers")

    def __init__(self, request: external_auth_pb2.CheckRequest, carried: Fields = ()) -> None:
        """Wrap `request`, and what the proxy's call carried; absent messages read as empty ones."""
        self.carried = carried
        attributes = self._attributes = request.attributes
        http = attributes.request.http
        self.headers: Mapping[str, str] = http.headers or _header_map(http)
        self.context_extensions: Mapping[str, str] = attributes.context_extensions

    @property
    def principal(self) -> str:
        """The identity in the client's certificate, as Envoy verified it."""
        return str(self._attributes.source.principal)

    def claim(self, payload: str, name: str) -> str:
        """Read a claim that envoy.filters.http.jwt_authn put into its metadata under `payload`."""
        metadata = self._attributes.metadata_context.filter_metadata
        jwt = metadata.get("envoy.filters.http.jwt_authn")
        if jwt is None or payload not in jwt.fields:
            return ""
        claims = jwt.fields[payload].struct_value.fields
        if name not in claims:
            return ""
        value = claims[name]
        if value.number_value and value.number_value.is_integer():
            return str(int(value.number_value))  # an organisation's id is often a number
        return str(value.string_value)


class Authorization:
    """The service: `decide` is the engine's; `failed` hears of our own faults."""

    def __init__(self, decide: Decide, failed: Callable[[Exception], None], *, traced: bool = False) -> None:
        """Answer with what `decide` says; `traced` shows it which trace the proxy's call is in."""
        self._traced = traced
        self._decide = decide
        self._failed = failed
        self._encode = check_response.CheckEncoder().encode

    def methods(self) -> tuple[Unary, ...]:
        """Return what a server mounts."""
        carried = self.check if self._traced else None
        return (Unary(SERVICE, "Check", _decode, self.check, carried),)

    def check(
        self,
        request: external_auth_pb2.CheckRequest,
        reply: Callable[[bytes], bool],
        carried: Fields = (),
    ) -> bytes | Cancellable:
        """Answer with the bytes of a CheckResponse, now, or later through `reply`. Never raises."""

        def deliver(decision: Decision | None) -> bool:
            return reply(self._respond(decision))

        try:
            outcome = self._decide(CheckCaller(request, carried), deliver)
        except Exception as error:  # noqa: BLE001  our own fault must become an error_response
            self._failed(error)
            return check_response.ERROR
        return self._respond(outcome) if isinstance(outcome, Decision) else outcome

    def _respond(self, decision: Decision | None) -> bytes:
        if decision is None:
            return check_response.ERROR
        try:
            return self._encode(decision)
        except Exception as error:  # noqa: BLE001  as above
            self._failed(error)
            return check_response.ERROR


def _decode(data: bytes) -> external_auth_pb2.CheckRequest:
    try:
        return _CheckRequest.FromString(data)
    except DecodeError as error:
        raise RequestError("the request is not an envoy.service.auth.v3.CheckRequest") from error


def _header_map(http: attribute_context_pb2.AttributeContext.HttpRequest) -> dict[str, str]:
    """Read `header_map`, which Envoy fills instead when `encode_raw_headers` is set; repeats are joined."""
    headers: dict[str, str] = {}
    for header in http.header_map.headers:
        value = header.value or header.raw_value.decode("utf-8", "replace")
        key = header.key.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    return headers
