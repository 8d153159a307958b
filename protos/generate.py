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
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2

from sentinel_ext.services.protoset import SERVED, described

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE = Path(__file__).parent


def protoc(*arguments: str) -> None:
    """Run it.

    Raises:
        CalledProcessError: protoc has said why.
    """
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE}", *arguments], check=True)  # noqa: S603  our own arguments


def _forget_json_names(messages: Iterable[descriptor_pb2.DescriptorProto]) -> None:
    """Leave out what readers derive: generated code has none, and `sentinel-ext protoset` reads that."""
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        _forget_json_names(message.nested_type)


def generate(output: Path, protoset: Path) -> None:
    """Write the Python modules below `output`, and the protoset: our services and Envoy's."""
    sources = sorted(str(path) for path in HERE.rglob("*.proto"))
    known = described(SERVED)
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
    for file in ours.file:
        if file.name.startswith("sentinel/v1/"):
            _forget_json_names(file.message_type)
            known.file.append(file)
    protoset.write_bytes(known.SerializeToString(deterministic=True))


if __name__ == "__main__":
    generate(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "sentinel.protoset")
