"""Asks a RateLimitService and writes down what it says, without what depends on the time of day."""

from __future__ import annotations

from typing import Any

import grpc
from envoy.service.ratelimit.v3 import rls_pb2, rls_pb2_grpc
from google.protobuf import json_format

Asked = dict[str, Any]


def ask_all(channel: grpc.Channel, requests: list[dict[str, Any]]) -> list[Asked]:
    """Ask one after the other."""
    stub = rls_pb2_grpc.RateLimitServiceStub(channel)
    return [_ask(stub, json_format.ParseDict(request, rls_pb2.RateLimitRequest())) for request in requests]


def _ask(stub: Any, request: rls_pb2.RateLimitRequest) -> Asked:
    try:
        response = stub.ShouldRateLimit(request, timeout=5)
    except grpc.RpcError as error:
        return {"error": error.code().name, "text": error.details()}
    for status in response.statuses:
        status.ClearField("duration_until_reset")
    answer = json_format.MessageToDict(response)
    for header in answer.get("responseHeadersToAdd", []):
        if header["key"] == "RateLimit-Reset":
            header["value"] = "some"
    return answer
