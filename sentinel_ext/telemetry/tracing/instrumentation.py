"""opentelemetry-instrumentation-grpc for the grpcio side: our servers for people, and clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
from opentelemetry.instrumentation.grpc import aio_server_interceptor, client_interceptor
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from opentelemetry.sdk.resources import Resource

    from sentinel_ext.settings_tracing import TracingOptions

# They have spans of their own (proxy_request, rate_limit_request), or are asked all the time, or never end.
UNTRACED: Final = (
    "/envoy.service.auth.v3.Authorization/",
    "/envoy.service.ratelimit.v3.RateLimitService/",
    "/envoy.service.accesslog.v3.AccessLogService/",
    "/grpc.health.v1.Health/",
    "/grpc.reflection.",
)


class _ToPipe(SpanProcessor):
    def __init__(self, put: Callable[[ReadableSpan, int], None]) -> None:
        self._put = put

    def on_end(self, span: ReadableSpan) -> None:
        """Hand a finished span to the exporter's queue."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._put(span, 1)


class _UnaryOnly(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # not subscriptable at run time
    """Leaves streams alone: ours write to their context, where the instrumentation expects generators."""

    def __init__(self, inner: grpc.aio.ServerInterceptor[Any, Any]) -> None:
        self._inner = inner

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Wrap the handler of a unary call."""
        handler = await continuation(handler_call_details)

        async def found(_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
            return handler

        if handler is None or handler.request_streaming or handler.response_streaming:
            return handler
        return await self._inner.intercept_service(found, handler_call_details)


def make_provider(
    options: TracingOptions, resource: Resource, put: Callable[[ReadableSpan, int], None]
) -> TracerProvider:
    """Return a provider whose spans go through the same queue as ours."""
    own: Sampler = TraceIdRatioBased(options.ratio) if options.ratio else ALWAYS_OFF
    sampler = ParentBased(own) if options.parent_based else own
    provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
    provider.add_span_processor(_ToPipe(put))
    return provider


def server_interceptors(provider: TracerProvider) -> Sequence[grpc.aio.ServerInterceptor[Any, Any]]:
    """Return what grpc.aio.server takes as `interceptors`."""
    return (_UnaryOnly(aio_server_interceptor(provider, filter_=_is_traced)),)  # type: ignore[no-untyped-call]


def traced_channel(provider: TracerProvider) -> Callable[[grpc.Channel], grpc.Channel]:
    """Return what puts a span around every unary call of a channel."""

    def wrapped(channel: grpc.Channel) -> grpc.Channel:
        # Not grpc.intercept_channel: the instrumentation's interceptors are of a kind of their own.
        made: grpc.Channel = intercept_channel(channel, client_interceptor(provider))  # type: ignore[no-untyped-call]
        return made

    return wrapped


def _is_traced(details: grpc.HandlerCallDetails) -> bool:
    return not str(details.method).startswith(UNTRACED)
