"""ShouldRateLimit on both servers, with a limiter of a few lines behind it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from envoy.service.ratelimit.v3 import rls_pb2, rls_pb2_grpc
from support.envoy import free_port

from sentinel_ext.address import Address
from sentinel_ext.core.ratelimit.outcome import Outcome, Problem, Status
from sentinel_ext.server.grpcio import GrpcioServer
from sentinel_ext.server.lean import LeanServer
from sentinel_ext.services.ratelimit import RateLimits
from sentinel_ext.services.ratelimit_headers import make_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Limiter:
    """Does as the domain says; what it leaves open waits in `later`."""

    def __init__(self) -> None:
        self.later: list[Callable[[Any], bool]] = []
        self.cancelled = 0
        self.faults: list[Exception] = []

    def decide(self, message: bytes, parse: Any, deliver: Any) -> Any:
        domain = parse(message).domain
        if domain == "bug":
            raise ZeroDivisionError
        if domain == "later":
            self.later.append(deliver)
            return self
        answers = {"ok": Outcome(False, (Status(remaining=3),)), "over": Outcome(True, (Status(over=True),))}
        return answers.get(domain) or next(
            (each for each in Problem if each.name == domain), Problem.NO_DOMAIN
        )

    def cancel(self) -> None:
        self.cancelled += 1


class Served:
    def __init__(self, limiter: Limiter, channel: grpc.aio.Channel) -> None:
        self.limiter, self.channel = limiter, channel
        self._stub = rls_pb2_grpc.RateLimitServiceStub(channel)

    async def ask(self, domain: str) -> rls_pb2.RateLimitResponse:
        return await self._stub.ShouldRateLimit(rls_pb2.RateLimitRequest(domain=domain), timeout=5)

    async def refused(self, domain: str) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.ask(domain)
        return caught.value.code(), caught.value.details() or ""


@pytest.fixture(params=["lean", "grpcio"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    limiter = Limiter()
    methods = RateLimits(limiter.decide, make_headers("off"), limiter.faults.append).methods()
    address = Address("127.0.0.1", free_port())
    server: LeanServer | GrpcioServer
    if request.param == "lean":
        server = LeanServer(address)
        server.add(methods)
    else:
        server = GrpcioServer(address, methods)
    await server.start()
    async with grpc.aio.insecure_channel(str(address)) as channel:
        yield Served(limiter, channel)
    await server.stop(0)


async def test_answers_at_once_and_later(served: Served) -> None:
    assert 3 == (await served.ask("ok")).statuses[0].limit_remaining
    over = await served.ask("over")
    assert rls_pb2.RateLimitResponse.OVER_LIMIT == over.overall_code
    assert ["retry-after", "x-sentinel-reason"] == [header.key for header in over.response_headers_to_add]

    asked = asyncio.create_task(served.ask("later"))
    while not served.limiter.later:
        await asyncio.sleep(0.001)
    assert served.limiter.later[0](Outcome(False, ()))
    assert rls_pb2.RateLimitResponse.OK == (await asked).overall_code
    assert not served.limiter.later[0](Outcome(False, ()))


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        ("NO_DOMAIN", grpc.StatusCode.INVALID_ARGUMENT),
        ("NO_DESCRIPTORS", grpc.StatusCode.INVALID_ARGUMENT),
        ("UNKNOWN_UNIT", grpc.StatusCode.INVALID_ARGUMENT),
        ("NO_RULES", grpc.StatusCode.UNAVAILABLE),
        ("STORE", grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_a_problem_is_a_status_with_its_words(
    served: Served, problem: str, code: grpc.StatusCode
) -> None:
    assert (code, Problem[problem].value) == await served.refused(problem)


async def test_a_problem_found_later_and_a_fault_of_ours(served: Served) -> None:
    for outcome, code in ((Problem.STORE, grpc.StatusCode.UNAVAILABLE), (None, grpc.StatusCode.INTERNAL)):
        asked = asyncio.create_task(served.refused("later"))
        while not served.limiter.later:
            await asyncio.sleep(0.001)
        served.limiter.later.pop()(outcome)
        assert code == (await asked)[0]
    assert grpc.StatusCode.INTERNAL == (await served.refused("bug"))[0]
    assert [ZeroDivisionError] == [type(fault) for fault in served.limiter.faults]


async def test_a_caller_that_leaves_is_noticed(served: Served) -> None:
    asked = asyncio.create_task(served.ask("later"))
    while not served.limiter.later:
        await asyncio.sleep(0.001)
    asked.cancel()
    async with asyncio.timeout(5):
        while not served.limiter.cancelled:
            await asyncio.sleep(0.005)


async def test_bytes_that_are_no_request_and_one_that_is_too_large(served: Served) -> None:
    call = served.channel.unary_unary("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit")
    large = rls_pb2.RateLimitRequest(domain="ok")
    for _ in range(65):
        large.descriptors.add()
    for message, code in (
        (b"\xff\xff\xff", grpc.StatusCode.INTERNAL),
        (large.SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(message, timeout=5)
        assert code == caught.value.code()
