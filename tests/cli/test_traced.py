"""A command whose calls are traced, with a collector and without one."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from support.build import free_tcp_port
from support.otlp import Receiver

if TYPE_CHECKING:
    from support.decision_server import DecisionServer


async def pressure(address: str, **environment: str) -> tuple[int | None, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sentinel_ext", "pressure", "--json",
        env={"PATH": os.defpath, "DEBUG_GRPC_ADDRESS": address, "ENABLE_TRACING": "true", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out, err


async def test_settings_that_tracing_cannot_have_cost_a_command_its_trace_only(
    server: DecisionServer,
) -> None:
    url = "grpc://127.0.0.1:1"
    misspelt, refused = await asyncio.gather(
        pressure(server.address, OTLP_ENDPOINT=url, OTEL_PROPAGATORS="b3"),
        pressure(server.address, OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_TIMEOUT="soon"),
    )

    assert (0, 0) == (misspelt[0], refused[0])
    assert misspelt[1] == refused[1] != b""
    assert misspelt[2].startswith(b'not traced: OTEL_PROPAGATORS: got "b3", allowed: tracecontext')
    assert refused[2].startswith(b"not traced: OTEL_EXPORTER_OTLP_TIMEOUT: ")
    assert [1, 1] == [err.count(b"\n") for _, _, err in (misspelt, refused)]


async def test_a_traced_command_leaves_a_span_and_does_not_need_the_collector(server: DecisionServer) -> None:
    async with Receiver() as receiver:
        away = f"http://127.0.0.1:{free_tcp_port()}/v1/traces"
        there, gone = await asyncio.gather(
            pressure(server.address, OTLP_ENDPOINT=receiver.http),
            pressure(server.address, OTLP_ENDPOINT=away),
        )
        spans = [span for span in receiver.spans if span.name.endswith("GetPressure")]

    assert (0, b"") == (there[0], there[2])
    assert (0, b"") == (gone[0], gone[2])
    assert there[1] == gone[1]
    assert ["client"] == [span.kind for span in spans]
