"""Asks the DecisionService of a running Sentinel, and says in plain words why it got no answer."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import grpc

from sentinel_ext.errors import SentinelError
from sentinel_ext.services.decision_client import METHODS, RequestTextError
from sentinel_ext.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from sentinel_ext.address import Address
    from sentinel_ext.services.decision_client import Method


# 1,000 tenants with names of 256 bytes are half a megabyte.
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
# What of an error's text is shown, in characters.
MAX_DETAILS: Final = 500
# To find out whether anybody listens at all.
_KNOCK_S: Final = 1.0

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    # A proxy of the environment is for the web, not for a service beside us.
    ("grpc.enable_http_proxy", 0),
    # A watch of an idle service notices when its host is gone. The server bears pings from 5 s on.
    ("grpc.keepalive_time_ms", 30_000),
)

_ADVICE: Final = {
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        "no answer from {at} within {patience}: it is busy, frozen or out of reach; "
        "`--timeout 30s` waits longer"
    ),
    grpc.StatusCode.UNIMPLEMENTED: (
        "{at} does not serve this: if that is the port for Envoy (GRPC_ADDRESS), ask the one for people, "
        "DEBUG_GRPC_ADDRESS, 127.0.0.1:50052 by default; `--address` names it"
    ),
    grpc.StatusCode.PERMISSION_DENIED: (
        "{at} refuses: to allow what changes something, start `sentinel-ext serve` with ADMIN_ACTIONS=true "
        "({details})"
    ),
    grpc.StatusCode.NOT_FOUND: "{details}",
}


class AskError(SentinelError):
    """No answer."""


class RefusedError(AskError):
    """The service says that the question itself is wrong."""

    exit_code: ClassVar[int] = 2


class DecisionClient:
    """A channel to one instance; use it in a `with`.

    Attributes:
        address: that is asked.
    """

    def __init__(
        self,
        address: Address,
        timeout_s: float,
        wrapped: Callable[[grpc.Channel], grpc.Channel] = lambda channel: channel,
    ) -> None:
        """Connect when first asked; every answer has `timeout_s` seconds, a watch has no end.

        Args:
            wrapped: puts something around the channel for questions, such as tracing; a watch has no end, and
                goes without.
        """
        self.address, self._timeout_s = address, timeout_s
        target = f"unix:{address.path}" if address.is_unix else str(address)
        self._channel = grpc.insecure_channel(target, options=_OPTIONS)
        self._asked = wrapped(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def ask(self, name: str, fields: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call a unary method of the DecisionService.

        Raises:
            AskError: no answer; says why and what to do.
        """
        method = METHODS[name]
        call = self._asked.unary_unary(method.path, _same, response_deserializer=method.decode)
        request = _encoded(method, fields or {})
        try:
            answer: dict[str, Any] = call(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._said(error) from None
        return answer

    def watch(self, fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield decisions as they are made, until the service ends.

        Raises:
            AskError: likewise.
        """
        method = METHODS["WatchDecisions"]
        opened = self._channel.unary_stream(method.path, _same, response_deserializer=method.decode)
        call = opened(_encoded(method, fields))
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._said(error) from None
        finally:
            call.cancel()  # type: ignore[no-untyped-call]  # grpc-stubs has no words for it

    def _said(self, error: grpc.RpcError) -> AskError:
        code, details = error.code(), printable(error.details() or "")[:MAX_DETAILS]
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return RefusedError(details)
        if code is grpc.StatusCode.UNAVAILABLE:
            return AskError(self._why_unavailable(details))
        words = _ADVICE.get(code, f"{{at}} answers {code.name}: {{details}}")
        # Not str.format on what the server said: only these words have places.
        for name, value in {
            "at": str(self.address),
            "patience": f"{self._timeout_s:g} s",
            "details": details,
        }.items():
            words = words.replace(f"{{{name}}}", value)
        return AskError(words)

    def _why_unavailable(self, details: str) -> str:
        reason = knock(self.address)
        if reason:
            return (
                f"nothing answers at {self.address} ({reason}): is `sentinel-ext serve` running? "
                "`--address` or DEBUG_GRPC_ADDRESS name another"
            )
        return f"{self.address} is there and gives no answer ({details}): is it the gRPC port, and is it up?"


def _same(data: bytes) -> bytes:
    return data


def _encoded(method: Method, fields: Mapping[str, Any]) -> bytes:
    try:
        return method.encode(fields)
    except RequestTextError as error:
        raise RefusedError(printable(str(error))[:MAX_DETAILS]) from None


def knock(address: Address) -> str:
    """Return why nobody can be reached at `address`; "" when somebody listens."""
    try:
        if address.is_unix:
            with socket.socket(socket.AF_UNIX) as caller:
                caller.settimeout(_KNOCK_S)
                caller.connect(address.path)
        else:
            socket.create_connection((address.host, address.port), _KNOCK_S).close()
    except OSError as error:
        return (error.strerror or str(error) or type(error).__name__).lower()
    return ""
