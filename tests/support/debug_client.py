"""sentinel.v1.DecisionService from outside: grpcio's client and the generated messages."""

from __future__ import annotations

from typing import Any, Self

import grpc
from envoy.service.auth.v3 import external_auth_pb2
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.json_format import MessageToDict, ParseDict

from sentinel_ext._pb.sentinel.v1 import decision_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["DecisionService"]


class DebugClient:
    """Requests and answers as dicts with the proto's field names."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._channel.close()

    async def call(self, method: str, **request: Any) -> Any:
        described = SERVICE.methods_by_name[method]
        message = ParseDict(request, getattr(pb, described.input_type.name)())
        call = self._channel.unary_unary(
            f"/{SERVICE.full_name}/{method}",
            request_serializer=lambda value: value.SerializeToString(),
            response_deserializer=getattr(pb, described.output_type.name).FromString,
        )
        return MessageToDict(await call(message, timeout=10), preserving_proto_field_name=True)

    def watch(self, **request: Any) -> Any:
        call = self._channel.unary_stream(
            f"/{SERVICE.full_name}/WatchDecisions",
            request_serializer=pb.WatchDecisionsRequest.SerializeToString,
            response_deserializer=pb.DecisionEvent.FromString,
        )
        return call(ParseDict(request, pb.WatchDecisionsRequest()))

    async def check(self, tenant: str, upstream: str = "") -> bool:
        """Send a real Check; say whether it is allowed."""
        request = external_auth_pb2.CheckRequest()
        request.attributes.request.http.headers["x-tenant-id"] = tenant
        if upstream:
            request.attributes.context_extensions["upstream"] = upstream
        call = self._channel.unary_unary(
            "/envoy.service.auth.v3.Authorization/Check",
            request_serializer=external_auth_pb2.CheckRequest.SerializeToString,
            response_deserializer=external_auth_pb2.CheckResponse.FromString,
        )
        return bool((await call(request, timeout=10)).HasField("ok_response"))

    async def should_rate_limit(self, request: dict[str, Any]) -> dict[str, str]:
        """Send a real rate limit request; return the headers for the client, by their names in lower case."""
        call = self._channel.unary_unary(
            "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
            request_serializer=rls_pb2.RateLimitRequest.SerializeToString,
            response_deserializer=rls_pb2.RateLimitResponse.FromString,
        )
        response = await call(ParseDict(request, rls_pb2.RateLimitRequest()), timeout=10)
        return {
            each.key.lower(): each.value or each.raw_value.decode()
            for each in response.response_headers_to_add
        }
