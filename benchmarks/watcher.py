"""Watches decisions and reads them as they come: `python -m benchmarks.watcher ADDRESS JSON-REQUEST`."""

from __future__ import annotations

import sys

import grpc
from google.protobuf import json_format

from sentinel_ext._pb.sentinel.v1 import decision_service_pb2 as pb


def main(address: str, request: str) -> None:
    """Read until the server ends."""
    channel = grpc.insecure_channel(address)
    call = channel.unary_stream(
        "/sentinel.v1.DecisionService/WatchDecisions",
        request_serializer=pb.WatchDecisionsRequest.SerializeToString,
        response_deserializer=pb.DecisionEvent.FromString,
    )
    for _ in call(json_format.Parse(request, pb.WatchDecisionsRequest())):
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
