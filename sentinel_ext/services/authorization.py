"""envoy.service.auth.v3.Authorization: CheckRequest → caller, Decision → CheckResponse.

A denial is an OK RPC with a denied_response; the RPC itself never fails to deny. Our own fault is an
error_response, so that Envoy applies its failure_mode_allow (envoy.service.auth.v3.CheckResponse).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2

from sentinel_ext.core.decision import Decision
from sentinel_ext.services import answer
from sentinel_ext.services.registry import Cancellable, RequestError, Unary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sentinel_ext.core.identify import Caller

    Decide = Callable[[Caller, Callable[[Decision | None], bool]], Decision | Cancellable]

SERVICE = "envoy.service.auth.v3.Authorization"

_CheckRequest = external_auth_pb2.CheckRequest
_CheckResponse = external_auth_pb2.CheckResponse
# Overwrite: a client or upstream must not be able to leave its own x-ratelimit-* or x-sentinel-* beside ours.
_OVERWRITE = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_DENIED_CODE = {429: code_pb2.RESOURCE_EXHAUSTED, 503: code_pb2.UNAVAILABLE}


class CheckCaller:
    """A CheckRequest seen as core.identify.Caller. Every part may be missing; strings are hostile."""

    __slots__ = ("_attributes", "context_extensions", "headers", "principal")

    def __init__(self, request: external_auth_pb2.CheckRequest) -> None:
        """Wrap `request`; absent messages read as empty ones."""
        self._attributes = request.attributes
        http = request.attributes.request.http
        self.headers: Mapping[str, str] = http.headers or _header_map(http)
        self.context_extensions: Mapping[str, str] = request.attributes.context_extensions
        self.principal: str = request.attributes.source.principal

    def claim(self, payload: str, name: str) -> str:
        """Read a claim that envoy.filters.http.jwt_authn put into its metadata under `payload`."""
        metadata = self._attributes.metadata_context.filter_metadata
        jwt = metadata.get("envoy.filters.http.jwt_authn")
        if jwt is None or payload not in jwt.fields:
            return ""
        claims = jwt.fields[payload].struct_value.fields
        return str(claims[name].string_value) if name in claims else ""


class Authorization:
    """The service: `decide` is the engine's; `failed` hears of our own faults."""

    def __init__(self, decide: Decide, failed: Callable[[Exception], None]) -> None:
        """Answer with what `decide` says."""
        self._decide = decide
        self._failed = failed

    def methods(self) -> tuple[Unary, ...]:
        """Return what a server mounts."""
        return (Unary(SERVICE, "Check", _decode, _encode, self.check, _CheckResponse),)

    def check(
        self, request: external_auth_pb2.CheckRequest, reply: Callable[[Any], bool]
    ) -> external_auth_pb2.CheckResponse | Cancellable:
        """Answer now, or later through `reply`. Never raises."""

        def deliver(decision: Decision | None) -> bool:
            return reply(self._respond(decision))

        try:
            outcome = self._decide(CheckCaller(request), deliver)
        except Exception as error:  # noqa: BLE001  our own fault must become an error_response
            self._failed(error)
            return error_response()
        return self._respond(outcome) if isinstance(outcome, Decision) else outcome

    def _respond(self, decision: Decision | None) -> external_auth_pb2.CheckResponse:
        if decision is None:
            return error_response()
        try:
            return allowed_response(decision) if decision.allowed else denied_response(decision)
        except Exception as error:  # noqa: BLE001  as above
            self._failed(error)
            return error_response()


def allowed_response(decision: Decision) -> external_auth_pb2.CheckResponse:
    """Return ok_response with headers for upstream and client, and the metadata that ALS brings back."""
    response = _CheckResponse()
    ok = response.ok_response
    _add_headers(ok.headers, answer.upstream_headers(decision))
    _add_headers(ok.response_headers_to_add, answer.client_headers(decision))
    _describe(response.dynamic_metadata, decision)
    return response


def denied_response(decision: Decision) -> external_auth_pb2.CheckResponse:
    """Return denied_response: status, headers and a problem+json body."""
    response = _CheckResponse()
    status = answer.http_status(decision.reason)
    response.status.code = _DENIED_CODE[status]
    denied = response.denied_response
    denied.status.code = status  # envoy.type.v3.StatusCode has HTTP's numbers
    _add_headers(denied.headers, [*answer.client_headers(decision), ("content-type", answer.PROBLEM_TYPE)])
    denied.body = answer.problem_body(decision)
    _describe(response.dynamic_metadata, decision)
    return response


def error_response() -> external_auth_pb2.CheckResponse:
    """Return the answer for a fault of our own: counts as an error at Envoy, honours failure_mode_allow."""
    response = _CheckResponse()
    response.status.code = code_pb2.INTERNAL
    response.error_response.status.code = 503
    return response


def _decode(data: bytes) -> external_auth_pb2.CheckRequest:
    try:
        return _CheckRequest.FromString(data)
    except DecodeError as error:
        raise RequestError("the request is not an envoy.service.auth.v3.CheckRequest") from error


def _encode(response: external_auth_pb2.CheckResponse) -> bytes:
    data: bytes = response.SerializeToString()
    return data


def _add_headers(options: Any, headers: list[tuple[str, str]]) -> None:  # noqa: ANN401  a repeated field
    for key, value in headers:
        options.add(header={"key": key, "value": value}, append_action=_OVERWRITE)


def _describe(metadata: Any, decision: Decision) -> None:  # noqa: ANN401  google.protobuf.Struct
    """Fill in what must come back when the request ends: nothing is guessed then (DESIGN §3)."""
    check = decision.check
    fields: dict[str, Any] = {
        "tenant": check.tenant.name,
        "tier": check.tenant.plan.tier.value,
        "plan": check.tenant.plan.name,
        "upstream": check.upstream,
        "decision_id": check.decision_id,
        "correlation_id": check.correlation_id,
        "allowed": decision.allowed,
        "stage": decision.stage.value,
        "reason": decision.reason.value,
    }
    if decision.shadow:
        fields["shadow"] = [f"{denial.stage.value}:{denial.reason.value}" for denial in decision.shadow]
    if decision.fallback is not None:
        fields["fallback"] = decision.fallback.value
    metadata.update(fields)


def _header_map(http: attribute_context_pb2.AttributeContext.HttpRequest) -> dict[str, str]:
    """Read `header_map`, which Envoy fills instead when `encode_raw_headers` is set; repeats are joined."""
    headers: dict[str, str] = {}
    for header in http.header_map.headers:
        value = header.value or header.raw_value.decode("utf-8", "replace")
        key = header.key.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    return headers
