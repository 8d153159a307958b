"""Generate sentinel_ext/_pb and protos/sentinel.protoset from protos/ with grpcio-tools.

    python protos/generate.py OUTPUT_FOLDER [PROTOSET]

Our API imports messages of Envoy's, and xds-protos ships no .proto files: what it has compiled is handed to
protoc as descriptors.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from envoy.service.accesslog.v3 import als_pb2
from envoy.service.auth.v3 import external_auth_pb2
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2

HERE = Path(__file__).parent
# What a client without reflection needs to call everything that Sentinel serves.
SERVED = (als_pb2, external_auth_pb2, rls_pb2, health_pb2)


def descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """Return what SERVED and all that it imports define, imports first."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(file) -> None:  # noqa: ANN001  a FileDescriptor, whose stubs vary
        if file.name not in found:
            for imported in file.dependencies:
                add(imported)
            proto = found[file.name] = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(proto)

    for module in SERVED:
        add(module.DESCRIPTOR)
    return descriptor_pb2.FileDescriptorSet(file=found.values())


def protoc(*arguments: str) -> None:
    """Run it.

    Raises:
        CalledProcessError: protoc has said why.
    """
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE}", *arguments], check=True)  # noqa: S603  our own arguments


def generate(output: Path, protoset: Path) -> None:
    """Write the Python modules below `output`, and the protoset: our services and Envoy's."""
    sources = sorted(str(path) for path in HERE.rglob("*.proto"))
    known = descriptor_set()
    with tempfile.TemporaryDirectory() as folder:
        envoy, own = Path(folder, "envoy.protoset"), Path(folder, "own.protoset")
        envoy.write_bytes(known.SerializeToString(deterministic=True))
        protoc(
            f"--descriptor_set_in={envoy}",
            f"--python_out={output}",
            f"--pyi_out={output}",
            f"--descriptor_set_out={own}",
            *sources,
        )
        ours = descriptor_pb2.FileDescriptorSet.FromString(own.read_bytes())
    known.file.extend(file for file in ours.file if file.name.startswith("sentinel/v1/"))
    protoset.write_bytes(known.SerializeToString(deterministic=True))


if __name__ == "__main__":
    generate(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "sentinel.protoset")
