"""Options that several commands share, and what they mean together."""

# Without `from __future__ import annotations`: typer reads the aliases below where commands use them.
import json
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from sentinel_ext.address import Address
from sentinel_ext.cli._durations import duration_s
from sentinel_ext.errors import ConfigError, SentinelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import grpc

    from sentinel_ext.client.decisions import DecisionClient

DEFAULT_TIMEOUT_S: Final = 5.0
OFF: Final = "off"
_NOT_ON: Final = frozenset({"", "false", "0", "no", "off"})


def seconds(text: str | float) -> float:
    """Read an option that is a time.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        return duration_s(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        envvar="DEBUG_GRPC_ADDRESS",
        metavar="HOST:PORT",
        help="The port for people of the instance to ask, or unix:///path. Default: 127.0.0.1:50052.",
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", parser=seconds, metavar="TIME", help="How long to wait. Default: 5s."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, with the names of the API's fields.")
]


class Asking(msgspec.Struct):
    """Whom a command asks, and how it answers."""

    address: str | None
    timeout_s: float | None
    as_json: bool

    @classmethod
    def of(cls, ctx: typer.Context, address: str | None, timeout_s: float | None, as_json: bool) -> "Asking":
        """Put what a sub-command was told together with what stood before its name."""
        outer = ctx.parent.obj if ctx.parent is not None else None
        if isinstance(outer, Asking):
            given = ctx.get_parameter_source("address")
            from_line = given is not None and given.name == "COMMANDLINE"
            address = address if from_line else outer.address
            timeout_s = timeout_s if timeout_s is not None else outer.timeout_s
            as_json = as_json or outer.as_json
        return cls(address, timeout_s, as_json)

    @contextmanager
    def connect(self) -> "Iterator[DecisionClient]":
        """Give a client, for a `with`; with ENABLE_TRACING its calls are traced.

        Raises:
            ConfigError: the address is none, or there is no port for people.
        """
        # gRPC's library tells of odd answers in lines of its own; we do in ours. It reads this when imported.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # noqa: TID251  written for a library, not read
        # Imported here: `--help` and completion of words do not pay for grpc and protobuf.
        from sentinel_ext.client.decisions import DecisionClient  # noqa: PLC0415

        patience_s = self.timeout_s if self.timeout_s is not None else DEFAULT_TIMEOUT_S
        address = debug_address(self.address)
        with _tracing() as traced, DecisionClient(address, patience_s, traced) as client:
            yield client

    def ask(self, name: str, fields: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask once.

        Raises:
            AskError: no answer.
        """
        with self.connect() as client:
            return client.ask(name, fields)


@contextmanager
def _tracing() -> "Iterator[Callable[[grpc.Channel], grpc.Channel]]":
    """Trace the calls of a channel if ENABLE_TRACING is set.

    What stands in the way of that is said and costs the trace, not the command: who asks has trouble already.
    """
    if os.environ.get("ENABLE_TRACING", "").strip().lower() in _NOT_ON:  # noqa: TID251  a look; Settings reads it
        yield lambda channel: channel
        return
    # Settings take 350 ms, so only who switched it on waits for them.
    from sentinel_ext.settings import Settings  # noqa: PLC0415
    from sentinel_ext.telemetry.tracing.client import client_tracing  # noqa: PLC0415

    with ExitStack() as stack:
        try:
            settings = Settings.load()
            tracing = client_tracing(settings.tracing, settings.log_redact or ())
            traced = stack.enter_context(tracing)
        except SentinelError as error:
            for line in str(error).splitlines():
                typer.echo(f"not traced: {line}", err=True)
            traced = stack.enter_context(client_tracing(None))
        yield traced


def debug_address(given: str | None) -> Address:
    """Return where the port for people is: as given, else as the environment and `.env` say for `serve`.

    Raises:
        ConfigError: it is no address, or the port is switched off.
    """
    if given is not None and given.strip() and given.strip() != OFF:
        return parsed_address(given, "--address or DEBUG_GRPC_ADDRESS")
    if given is None or not given.strip():
        # Settings take 350 ms, and know .env and where WORKERS move the default.
        from sentinel_ext.settings import Settings  # noqa: PLC0415

        address = Settings.load().debug_address
        if address is not None:
            return address.reachable
    raise ConfigError(["DEBUG_GRPC_ADDRESS is off, so nothing can be asked; `--address` names another port"])


def parsed_address(text: str, name: str) -> Address:
    """Read an address that an option or a variable gives.

    Raises:
        ConfigError: it is none.
    """
    from sentinel_ext.wording import quoted  # noqa: PLC0415  it imports difflib

    try:
        return Address.parse(text.strip()).reachable
    except ValueError as error:
        raise ConfigError([f"{name}: got {quoted(text)}, {error}"]) from None


def print_json(value: object, *, one_line: bool = False) -> None:
    """Print JSON in plain ASCII: whatever stands in names, no terminal and no encoding stumbles over it."""
    text = json.dumps(value, indent=None if one_line else 2, allow_nan=False)
    # The one control character in ASCII that JSON lets stand.
    typer.echo(text.replace("\x7f", "\\u007f"))
