"""What a server can be called for: hot methods and generated servicers, gathered into one method table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sentinel_ext.server import calls, handlers, streams
from sentinel_ext.server.calls import HotUnary, RpcError
from sentinel_ext.services.registry import HotStream, StreamKind
from sentinel_ext.wire.codes import Status
from sentinel_ext.wire.methods import Kind, Method, MethodTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import grpc

    from sentinel_ext.server.calls import Start
    from sentinel_ext.services.registry import Unary

REFLECTION_V1: Final = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"

# Paths that generic handlers were asked for and did not know. Clients make paths up; this bounds it.
MAX_UNKNOWN_PATHS: Final = 1024


class CallDetails(NamedTuple):
    """What a generic handler is asked with (grpc.HandlerCallDetails)."""

    method: str
    invocation_metadata: tuple[()] = ()


class Route:
    """A mounted method of a servicer.

    Attributes:
        path: the HTTP/2 `:path`.
        function: the handler.
        form: how it is run.
        request_streams, response_streams: what of the call streams.
        streams: any of the two.
    """

    __slots__ = (
        "_deserialize",
        "_serialize",
        "form",
        "function",
        "path",
        "request_streams",
        "response_streams",
        "streams",
    )

    def __init__(self, path: str, handler: grpc.RpcMethodHandler[Any, Any]) -> None:
        """Take over what generated code says of a method."""
        self.path = path
        self.request_streams = handler.request_streaming
        self.response_streams = handler.response_streaming
        self.streams = self.request_streams or self.response_streams
        functions = (
            (handler.unary_unary, handler.unary_stream),
            (handler.stream_unary, handler.stream_stream),
        )
        function: Callable[..., Any] | None = functions[self.request_streams][self.response_streams]
        if function is None:
            raise ValueError(f"{path}: the handler has no function for its kind")
        self.function = function
        self.form = handlers.form_of(function)
        self._deserialize: Callable[[bytes], Any] | None = handler.request_deserializer
        self._serialize: Callable[[Any], bytes] | None = handler.response_serializer

    @property
    def kind(self) -> Kind:
        """The kind of call."""
        if self.request_streams:
            return Kind.BIDI if self.response_streams else Kind.CLIENT_STREAM
        return Kind.SERVER_STREAM if self.response_streams else Kind.UNARY

    def read(self, message: bytes) -> Any:  # noqa: ANN401  a message of generated code
        """Decode a request message.

        Raises:
            RpcError: INTERNAL, it is not one.
        """
        if self._deserialize is None:
            return message
        try:
            return self._deserialize(message)
        except Exception as error:
            raise RpcError(Status.INTERNAL, f"cannot read the request message of {self.path}") from error

    def write(self, message: Any) -> bytes:  # noqa: ANN401
        """Encode a response message.

        Raises:
            RpcError: INTERNAL, the handler gave something else.
        """
        try:
            data = message if self._serialize is None else self._serialize(message)
        except Exception as error:
            raise RpcError(Status.INTERNAL, f"cannot write the response message of {self.path}") from error
        if not isinstance(data, bytes):
            raise RpcError(Status.INTERNAL, f"the response of {self.path} is not bytes")
        return data

    def method(self) -> Method:
        """The entry of the method table."""
        return Method(self.path.encode(), self.kind, partial(handlers.start, self))


class Routes(MethodTable):
    """A method table that also asks generic handlers, once for each path."""

    def __init__(self, generic: Iterable[Any]) -> None:
        """Ask `generic`, in order, for what nobody registered."""
        super().__init__()
        self._generic = tuple(generic)
        self._found: dict[bytes, Method] = {}
        self._unknown: set[bytes] = set()

    def get(self, path: bytes) -> Method | None:
        """Return the method at `path`, or None."""
        method = super().get(path) or self._found.get(path)
        if method is not None or not self._generic or path in self._unknown:
            return method
        details = CallDetails(path.decode("ascii", "replace"))
        for generic in self._generic:
            # The stubs want grpc.HandlerCallDetails itself, an abstract class in truth.
            handler = generic.service(details)
            if handler is not None:
                method = self._found[path] = Route(details.method, handler).method()
                return method
        if len(self._unknown) >= MAX_UNKNOWN_PATHS:
            self._unknown.clear()
        self._unknown.add(path)
        return None


class Mounts:
    """Gathers what is mounted before the server starts; the latest mount of a path counts."""

    def __init__(self) -> None:
        self._methods: dict[bytes, Method] = {}
        self._generic: list[grpc.GenericRpcHandler[Any, Any]] = []
        self._names: dict[str, None] = {}

    @property
    def services(self) -> tuple[str, ...]:
        """Full names, in order of mounting."""
        return tuple(self._names)

    def add(self, methods: Iterable[Unary | HotUnary | HotStream]) -> None:
        """Mount hot methods."""
        for method in methods:
            kind, start = _hot(method)
            self._put(method.service, Method(method.path.encode(), kind, start))

    def add_registered(self, service: str, by_name: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        """Mount a service as generated code registers it.

        The reflection package carries v1alpha only. v1 has the same messages under another name, and newer
        clients (grpcurl, Postman) ask for it first: it is mounted along.
        """
        for name, handler in by_name.items():
            self._put(service, Route(f"/{service}/{name}", handler).method())
        if service == REFLECTION_V1ALPHA:
            self.add_registered(REFLECTION_V1, by_name)

    def add_generic(self, generic: Iterable[grpc.GenericRpcHandler[Any, Any]]) -> None:
        """Mount handlers that are asked by path. Generated code adds them beside the registered ones."""
        for handler in generic:
            self._generic.append(handler)
            name = getattr(handler, "service_name", None)
            if name is not None:
                self._names.setdefault(name())

    def table(self) -> MethodTable:
        """Return the table for the wire."""
        table = Routes(self._generic)
        for method in self._methods.values():
            table.add(method)
        return table

    def _put(self, service: str, method: Method) -> None:
        self._names.setdefault(service)
        self._methods[method.path] = method


_KINDS = {StreamKind.CLIENT_STREAM: Kind.CLIENT_STREAM, StreamKind.BIDI: Kind.BIDI}


def _hot(method: Unary | HotUnary | HotStream) -> tuple[Kind, Start]:
    if isinstance(method, HotStream):
        return _KINDS[method.kind], streams.stream(method)
    if isinstance(method, HotUnary):
        return Kind.UNARY, calls.hot(method)
    return Kind.UNARY, calls.unary(method)
