"""Reflection on the lean server, asked by grpcio's client and by the real grpcurl."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer
from support.lean import refused, serving

from sentinel_ext.server.lean import LeanServer

ROOT = Path(__file__).parents[2]
NAMES = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}


def add_generated(server: LeanServer) -> None:
    servicer = ReflectionServicer(sorted(NAMES))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)


def enable_blocking(server: LeanServer) -> None:
    """What grpcio's helper does on a server that is not its own asyncio one: the servicer for threads."""
    reflection.enable_server_reflection(sorted(NAMES), server)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest.mark.parametrize("mount", [LeanServer.add_reflection, add_generated, enable_blocking])
async def test_both_versions_list_all_services(version: str, mount: object) -> None:
    async with (
        serving(mount=mount) as (_, where),  # type: ignore[arg-type]
        grpc.aio.insecure_channel(where) as channel,
    ):
        ask_all = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (reply,) = [reply async for reply in ask_all(iter([request]))]

        assert NAMES == {service.name for service in reply.list_services_response.service}


async def test_without_reflection_it_is_unimplemented_so_that_clients_fall_back() -> None:
    async with serving() as (_, where), grpc.aio.insecure_channel(where) as channel:
        call = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")()
        assert grpc.StatusCode.UNIMPLEMENTED is (await refused(call.read()))[0]


@pytest.mark.e2e
async def test_grpcurl_lists_describes_and_asks_for_health() -> None:
    """The real grpcurl where it was installed (`make tools`)."""
    grpcurl = shutil.which("grpcurl", path=f"{ROOT / '.tools' / 'bin'}:{os.environ['PATH']}")
    if grpcurl is None:
        assert shutil.which("go") is None, "Go is here, so `make tools` must have installed grpcurl"
        return

    async def run(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            grpcurl, "-plaintext", *arguments, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        assert 0 == process.returncode
        return said.decode()

    async with serving(mount=LeanServer.add_reflection) as (_, where):
        assert set((await run(where, "list")).split()) >= NAMES
        assert "rpc Watch" in await run(where, "describe", "grpc.health.v1.Health")
        assert {"status": "SERVING"} == json.loads(await run(where, "grpc.health.v1.Health/Check"))
