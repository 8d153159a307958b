"""docs/debugging.md: its commands run against a running demo, by the real grpcurl and by a reflection client.

cd tests && python -m support.debug_page     writes the answers into the page (`make debugging-docs`)
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from support.envoy import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.descriptor import Descriptor

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/debugging.md"
ADDRESS = "127.0.0.1:50052"
MAX_LINES = 80
PATIENCE_S = 60.0
_BLOCK = re.compile(r"```console\n\$ (?P<command>[^\n]+)\n(?P<answer>.*?)```", re.DOTALL)
_KEY = re.compile(r'^(?P<indent> +)"(?P<name>[^"]+)": ', re.MULTILINE)
# What differs from run to run: ids, instances, times.
_CHANGING = re.compile(r'"[^"]*\b[0-9a-f]{16,}\b[^"]*"|(?<="instance": )"[^"]*"|(?<="time": )"[^"]*"')


@dataclass
class Demo:
    """A running `sentinel-ext demo`."""

    process: subprocess.Popen[bytes]
    debug: str
    gateway: str
    grpc: str


@contextmanager
def running_demo(folder: Path) -> Iterator[Demo]:
    """Start one on ports of its own, and wait until the sample traffic is through."""
    ports = [free_port() for _ in range(6)]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PORT": str(ports[0]),
        "DOWNSTREAM_URL": f"http://localhost:{ports[1]}",
        "GRPC_ADDRESS": f"127.0.0.1:{ports[2]}",
        "ADMIN_ADDRESS": f"127.0.0.1:{ports[3]}",
        "DEBUG_GRPC_ADDRESS": f"127.0.0.1:{ports[4]}",
        "ADMIN_ACTIONS": "true",
    }
    command = [sys.executable, "-m", "sentinel_ext", "demo", "--envoy-admin-address", f"127.0.0.1:{ports[5]}"]
    log = folder / "demo.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while "sending on" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        gateway = f"http://127.0.0.1:{ports[0]}"
        yield Demo(process, environment["DEBUG_GRPC_ADDRESS"], gateway, environment["GRPC_ADDRESS"])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def answers() -> dict[str, str]:
    """Every grpcurl line of the page, and what the page says that it prints."""
    return {found["command"]: found["answer"] for found in _BLOCK.finditer(PAGE.read_text())}


def commands() -> list[str]:
    """Every grpcurl line of the page."""
    return list(answers())


def unknown(answer: str, message: Descriptor) -> list[str]:
    """Return the keys of grpcurl's JSON, which may be cut off, that `message` has no field for."""
    # What encloses a line, by its indent; None below a map, whose keys are anybody's.
    around: list[tuple[int, Descriptor | None]] = [(0, message)]
    found = []
    for key in _KEY.finditer(answer):
        indent = len(key["indent"])
        while around[-1][0] >= indent:
            around.pop()
        parent = around[-1][1]
        if parent is None:
            continue
        field = parent.fields_by_name.get(key["name"])
        if field is None:
            found.append(key["name"])
        is_open = field is None or field.message_type is None or field.message_type.GetOptions().map_entry
        around.append((indent, None if is_open else field.message_type))
    return found


def grpcurl() -> str | None:
    return shutil.which("grpcurl", path=f"{ROOT / '.tools/bin'}:{os.environ['PATH']}")


def by_grpcurl(command: str, demo: Demo) -> str:
    """Run a line as it stands, but for the port; return what it printed."""
    program = grpcurl()
    assert program is not None
    arguments = shlex.split(command.replace(ADDRESS, demo.debug))
    assert arguments[0] == "grpcurl"
    ran = subprocess.run([program, *arguments[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    is_stream = "-max-time" in arguments and "DeadlineExceeded" in ran.stderr
    assert ran.returncode == 0 or is_stream, f"{command}\n{ran.stderr}"
    return ran.stdout


class ReflectionClient:
    """Knows nothing of our messages but what the server tells it."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = DescriptorPool(self.database)

    def output(self, method: str) -> Descriptor:
        """Return what `service/method` answers with."""
        service, _, name = method.rpartition("/")
        return self.pool.FindServiceByName(service).methods_by_name[name].output_type

    def call(self, method: str, request: Any) -> list[Any]:
        """Call `service/method`; return the answer, or the first event of a stream."""
        service, _, name = method.rpartition("/")
        described = self.pool.FindServiceByName(service).methods_by_name[name]
        kinds = [
            message_factory.GetMessageClass(kind) for kind in (described.input_type, described.output_type)
        ]
        message = json_format.ParseDict(request, kinds[0](), descriptor_pool=self.pool)
        make = self.channel.unary_stream if described.server_streaming else self.channel.unary_unary
        call = make(
            f"/{method}",
            request_serializer=kinds[0].SerializeToString,
            response_deserializer=kinds[1].FromString,
        )
        if not described.server_streaming:
            return [_plain(call(message, timeout=10))]
        stream = call(message, timeout=10)
        first = _plain(next(stream))
        stream.cancel()
        return [first]

    def run(self, command: str) -> list[Any]:
        """Do what a grpcurl line asks for."""
        arguments = shlex.split(command)
        if "list" in arguments:
            return sorted(self.database.get_services())
        data = arguments[arguments.index("-d") + 1] if "-d" in arguments else "{}"
        return self.call(arguments[-1], json.loads(data))

    def close(self) -> None:
        self.channel.close()


def _plain(message: Any) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def shown(answer: str) -> str:
    """Cut an answer for the page, and take out what is never the same twice."""
    lines = _CHANGING.sub('"…"', answer).splitlines()
    if len(lines) > MAX_LINES:
        lines = [*lines[:MAX_LINES], "  …"]
    return "".join(f"{line}\n" for line in lines)


def _first_event(answer: str) -> str:
    end = answer.find("\n}\n")
    return answer if end < 0 else answer[: end + 3] + "…\n"


def write_page(arguments: Sequence[str] = ()) -> None:
    """Run every line and write what it answered below it."""
    assert not arguments, "takes no arguments"
    assert grpcurl() is not None, "the page needs the real grpcurl: `make tools`"
    with tempfile.TemporaryDirectory(prefix="snt-") as name, running_demo(Path(name)) as demo:

        def again(found: re.Match[str]) -> str:
            command = found["command"]
            answer = by_grpcurl(command, demo)
            if "Watch" in command:
                answer = _first_event(answer)
            return f"```console\n$ {command}\n{shown(answer)}```"

        PAGE.write_text(_BLOCK.sub(again, PAGE.read_text()))


if __name__ == "__main__":
    write_page(sys.argv[1:])
