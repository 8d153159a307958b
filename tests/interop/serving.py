"""A server with the TestService, as a process: `python serving.py grpc.aio asyncio 127.0.0.1:50051`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import uvloop
from interop.servicer import TestServicer
from interop_pb import test_pb2_grpc

from sentinel_ext.address import Address
from sentinel_ext.server.lean import LeanServer


async def _grpc_aio(address: Address) -> Any:
    server = grpc.aio.server()
    test_pb2_grpc.add_TestServiceServicer_to_server(TestServicer(), server)
    server.add_insecure_port(f"unix:{address.path}" if address.is_unix else str(address))
    await server.start()
    return server


async def _lean(address: Address) -> Any:
    server = LeanServer(address)
    test_pb2_grpc.add_TestServiceServicer_to_server(TestServicer(), server)
    await server.start()
    return server


async def _serve(kind: str, address: Address) -> None:
    server = await {"grpc.aio": _grpc_aio, "lean": _lean}[kind](address)
    await asyncio.Event().wait()
    del server


if __name__ == "__main__":
    _, kind, loop, where = sys.argv
    run = uvloop.run if loop == "uvloop" else asyncio.run
    run(_serve(kind, Address.parse(where)))
