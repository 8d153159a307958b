"""What a gRPC client without reflection needs: descriptors of everything that Sentinel serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy.service.accesslog.v3 import als_pb2
from envoy.service.auth.v3 import external_auth_pb2
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.descriptor import FileDescriptor

# Of others; protos/generate.py compiles ours against them.
SERVED: tuple[FileDescriptor, ...] = tuple(
    module.DESCRIPTOR for module in (als_pb2, external_auth_pb2, rls_pb2, health_pb2)
)


def protoset() -> bytes:
    """Return protos/sentinel.protoset, a serialised FileDescriptorSet, made from what this process runs."""
    # Ours are generated with the help of this module, so they may not be there yet.
    from sentinel_ext._pb.sentinel.v1 import decision_pb2, decision_service_pb2  # noqa: PLC0415

    own = (decision_pb2.DESCRIPTOR, decision_service_pb2.DESCRIPTOR)
    return described((*SERVED, *own)).SerializeToString(deterministic=True)


def described(files: Iterable[FileDescriptor]) -> descriptor_pb2.FileDescriptorSet:
    """Return what these and all that they import define, imports first."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        if file.name not in found:
            for imported in file.dependencies:
                add(imported)
            proto = found[file.name] = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(proto)
            # Of no use to a client, and two wheels bring google/rpc/status.proto with different ones: which
            # is there depends on the order of installing.
            proto.ClearField("options")

    for file in files:
        add(file)
    return descriptor_pb2.FileDescriptorSet(file=found.values())
