"""How the handlers of generated servicers run: one runner for each form a Python function can have."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from contextlib import aclosing
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sentinel_ext.server.calls import RpcError
from sentinel_ext.server.context import AbortError, BlockingContext, Context
from sentinel_ext.server.rpc import Rpc, RpcEndedError
from sentinel_ext.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sentinel_ext.server.mount import Route
    from sentinel_ext.server.protocol import H2Protocol
    from sentinel_ext.wire.stream import Stream

T = TypeVar("T")
Function = TypeVar("Function", bound="Callable[..., Any]")

_INLINE: Final = "_sentinel_inline"
# Grpcio's mark of handlers that answer through a callback, such as the blocking health servicer's Watch.
_CALLBACK: Final = "experimental_non_blocking"
# Answers that such a handler gave and the client has not read.
MAX_CALLBACK_RESPONSES: Final = 1024


class Form(Enum):
    """What kind of function a handler is."""

    COROUTINE = "coroutine"
    ASYNC_GENERATOR = "async generator"
    INLINE = "inline"
    CALLBACK = "callback"
    THREAD = "thread"


def inline(function: Function) -> Function:
    """Mark a plain handler that never blocks: it runs in the event loop, not in a thread."""
    setattr(function, _INLINE, True)
    return function


def form_of(function: Callable[..., Any]) -> Form:
    """Look at a handler once, when it is mounted."""
    plain = inspect.unwrap(function.func if isinstance(function, partial) else function)
    if inspect.iscoroutinefunction(plain):
        return Form.COROUTINE
    if inspect.isasyncgenfunction(plain):
        return Form.ASYNC_GENERATOR
    if getattr(function, _INLINE, False):
        return Form.INLINE
    if getattr(function, _CALLBACK, False):
        return Form.CALLBACK
    return Form.THREAD


def start(route: Route, protocol: H2Protocol, stream: Stream, message: bytes) -> None:
    """Begin a call of a mounted handler."""
    rpc = Rpc(protocol, stream, route)
    if route.form is Form.INLINE and not route.streams:
        _run_inline(rpc, message)
    else:
        rpc.task = protocol.hub.spawn(_run(rpc, message))


def _run_inline(rpc: Rpc, message: bytes) -> None:
    context = BlockingContext(rpc)
    try:
        rpc.respond(rpc.route.write(rpc.route.function(rpc.route.read(message), context)))
    except Exception as error:  # noqa: BLE001  the handler's bug ends its call alone
        _judge(rpc, error)
    rpc.returned()


async def _run(rpc: Rpc, message: bytes) -> None:
    """Run a handler to its end; nothing it raises gets further, so that no task keeps its traceback."""
    route = rpc.route
    try:
        request: Any = None if route.request_streams else route.read(message)
        runner = _stream if route.response_streams else _respond
        await runner(rpc, request)
    except asyncio.CancelledError:
        # Ours, when the client went away or the deadline passed; else the handler cancelled itself.
        rpc.set_error(Status.CANCELLED, "")
    except Exception as error:  # noqa: BLE001
        _judge(rpc, error)
    finally:
        rpc.returned()


def _judge(rpc: Rpc, error: Exception) -> None:
    if isinstance(error, (AbortError, RpcEndedError)):
        pass
    elif isinstance(error, RpcError):
        rpc.set_error(error.status, error.text)
    else:
        rpc.raised(error)
    rpc.finish()


async def _respond(rpc: Rpc, request: Any) -> None:  # noqa: ANN401  a message of generated code
    """One response: returned by the handler."""
    route = rpc.route
    if route.form is Form.COROUTINE:
        context = Context(rpc)
        response = await route.function(context if route.request_streams else request, context)
    else:
        blocking = BlockingContext(rpc)
        arguments = (blocking if route.request_streams else request, blocking)
        if route.form is Form.INLINE:
            response = route.function(*arguments)
        else:
            response = await _in_thread(rpc, route.function, *arguments)
        if inspect.isawaitable(response):  # a plain wrapper around a coroutine function
            response = await response
    rpc.respond(b"" if rpc.status is not Status.OK else route.write(response))


async def _stream(rpc: Rpc, request: Any) -> None:  # noqa: ANN401
    """Many responses: yielded by the handler, written to its context, or given to its callback."""
    route = rpc.route
    if route.form in {Form.COROUTINE, Form.ASYNC_GENERATOR}:
        context = Context(rpc)
        outcome = route.function(context if route.request_streams else request, context)
        await _follow(rpc, outcome)
        return
    blocking = BlockingContext(rpc)
    arguments = (blocking if route.request_streams else request, blocking)
    if route.form is Form.CALLBACK:
        await _call_back(rpc, arguments)
    elif route.form is Form.INLINE:
        for response in route.function(*arguments):
            await rpc.send(route.write(response))
    else:
        outcome = await _in_thread(rpc, _iterate, route.function, arguments, blocking)
        if outcome is not None:
            await _follow(rpc, outcome)


async def _follow(rpc: Rpc, outcome: Any) -> None:  # noqa: ANN401
    """An async generator yields, a coroutine writes to its context; or returns an async iterator."""
    if inspect.isawaitable(outcome):
        returned = await outcome
        if returned is None:
            return
        outcome = returned
    if not inspect.isasyncgen(outcome):
        async for response in outcome:
            await rpc.send(rpc.route.write(response))
        return
    async with aclosing(outcome):
        async for response in outcome:
            if rpc.is_aborted:
                return
            await rpc.send(rpc.route.write(response))


def _iterate(function: Callable[..., Any], arguments: tuple[object, ...], context: BlockingContext) -> Any:  # noqa: ANN401
    """In a thread: send what a plain generator yields. Returns what only the event loop can go through."""
    outcome: Iterator[Any] | None = function(*arguments)
    if outcome is None:
        return None
    if inspect.isawaitable(outcome) or hasattr(outcome, "__aiter__"):
        return outcome
    for response in outcome:
        context.write(response)
    return None


async def _call_back(rpc: Rpc, arguments: tuple[object, ...]) -> None:
    """A handler that returns at once and answers through a callback, from any thread; None is the end."""
    loop = asyncio.get_running_loop()
    responses: deque[Any] = deque()
    arrived = asyncio.Event()

    def take(response: Any) -> None:  # noqa: ANN401
        responses.append(response)
        arrived.set()

    def answer(response: Any) -> None:  # noqa: ANN401
        if not loop.is_closed():
            loop.call_soon_threadsafe(take, response)

    await _in_thread(rpc, rpc.route.function, *arguments, answer)
    while True:
        while not responses:
            arrived.clear()
            await arrived.wait()
        if len(responses) > MAX_CALLBACK_RESPONSES:
            rpc.set_error(Status.RESOURCE_EXHAUSTED, "the client does not read")
            return
        response = responses.popleft()
        if response is None:
            return
        await rpc.send(rpc.route.write(response))


async def _in_thread(rpc: Rpc, function: Callable[..., T], *arguments: object) -> T:
    """Run a blocking function. Cancelled, it waits for the thread: until then the call is in flight."""
    job = rpc.protocol.hub.threads.submit(_sealed, function, *arguments)
    waiter = asyncio.wrap_future(job)
    try:
        await asyncio.wait([waiter])
    except asyncio.CancelledError:
        if not job.cancel():
            await asyncio.wait([waiter])
            if not waiter.cancelled():
                waiter.exception()  # seen: nobody is left to be told
        raise
    return waiter.result()


def _sealed(function: Callable[..., T], *arguments: object) -> T:
    """A future cannot carry StopIteration, which `next(request_iterator)` raises."""
    try:
        return function(*arguments)
    except StopIteration as error:
        raise RuntimeError("the handler raised StopIteration") from error
