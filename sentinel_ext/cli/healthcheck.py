"""`sentinel-ext healthcheck`: for exec probes, which run every few seconds and so must start quickly."""

# Without `from __future__ import annotations`: typer reads shared options where they are used.
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sentinel_ext.cli._options import parsed_address, print_json, seconds
from sentinel_ext.cli._probe import AUTHORIZATION, DEFAULT_TIMEOUT_S, MAX_SERVICE_BYTES
from sentinel_ext.errors import ConfigError

if TYPE_CHECKING:
    from sentinel_ext.address import Address

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
MAX_WORKERS: Final = 64


def command(
    ctx: typer.Context,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            "-a",
            envvar="GRPC_ADDRESS",
            metavar="HOST:PORT",
            help="The gRPC port to ask, or unix:///path. Default: 127.0.0.1:50051.",
        ),
    ] = None,
    service: Annotated[
        str, typer.Option("--service", "-s", metavar="NAME", help="Whose health; `liveness`, or '' for all.")
    ] = AUTHORIZATION,
    timeout: Annotated[
        float, typer.Option(parser=seconds, metavar="TIME", help="How long to wait, in all.")
    ] = DEFAULT_TIMEOUT_S,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    # Read so that a probe needs no settings, which take longer to load than the whole check.
    workers: Annotated[str | None, typer.Option(envvar="WORKERS", hidden=True)] = None,
) -> None:
    """Ask a running Sentinel for its health over gRPC, as probes do.

    Prints SERVING, NOT_SERVING or SERVICE_UNKNOWN. Without `--address` it asks where the environment, or a
    `.env` file in this folder, says that `serve` listens; that takes longer to find out than to ask. With
    WORKERS all workers are asked at once, and it is healthy while one is.

    Exit codes: 0 SERVING, 1 anything else or no answer, 2 wrong arguments.

    Example, as an exec probe: `sentinel-ext healthcheck --address 127.0.0.1:50051 --timeout 500ms`, for
    liveness `sentinel-ext healthcheck --address 127.0.0.1:50051 --service liveness`
    """
    if len(service.encode()) > MAX_SERVICE_BYTES:
        raise typer.BadParameter(f"at most {MAX_SERVICE_BYTES} bytes", param_hint="--service")
    source = ctx.get_parameter_source("address")
    is_told = source is not None and source.name == "COMMANDLINE"
    addresses = [_told(address)] if is_told else _addresses(address, workers)
    statuses = _statuses(addresses, service, timeout)
    healthy = "SERVING" in statuses.values()
    status = "SERVING" if healthy else next(iter(statuses.values()))
    if as_json:
        print_json({"status": status, "service": service, "addresses": statuses})
    elif healthy or len(addresses) == 1:
        typer.echo(status, err=not healthy and status not in _WORDS)
    else:
        typer.echo("\n".join(f"{at}: {word}" for at, word in statuses.items()), err=True)
    raise typer.Exit(0 if healthy else 1)


_WORDS: Final = ("SERVING", "NOT_SERVING", "SERVICE_UNKNOWN", "UNKNOWN")


def _statuses(addresses: list["Address"], service: str, timeout_s: float) -> dict[str, str]:
    """Ask all at once: one that hangs must not take the time of the others. The first SERVING ends it."""
    from queue import Empty, SimpleQueue  # noqa: PLC0415  `--help` does not pay for it
    from threading import Thread  # noqa: PLC0415

    from sentinel_ext.client.health import no_answer  # noqa: PLC0415
    from sentinel_ext.clock import monotonic_ns  # noqa: PLC0415

    deadline_ns = monotonic_ns() + round(timeout_s * 1e9)
    answers: SimpleQueue[tuple[Address, str]] = SimpleQueue()
    for address in addresses:
        ask = partial(_ask, address, service, timeout_s)
        Thread(target=lambda ask=ask, at=address: answers.put((at, ask())), daemon=True).start()
    found: dict[Address, str] = {}
    try:
        while len(found) < len(addresses) and "SERVING" not in found.values():
            left_s = (deadline_ns - monotonic_ns()) / 1e9
            address, status = answers.get(timeout=max(left_s, 0))
            found[address] = status
    except Empty:
        found = {each: found.get(each, no_answer(each, timeout_s)) for each in addresses}
    return {str(each): found[each] for each in addresses if each in found}


def _ask(address: "Address", service: str, timeout_s: float) -> str:
    from sentinel_ext.client import health  # noqa: PLC0415  as above
    from sentinel_ext.clock import monotonic_ns  # noqa: PLC0415

    try:
        return health.check(address, service, timeout_s, monotonic_ns)
    except health.HealthError as error:
        return str(error)


def _told(address: str | None) -> "Address":
    return parsed_address(address or "", "--address")


def _addresses(given: str | None, workers: str | None) -> list["Address"]:
    """Return where the workers of this environment serve.

    Raises:
        ConfigError: GRPC_ADDRESS or WORKERS are wrong.
    """
    if Path(".env").exists():
        from sentinel_ext.settings import Settings  # noqa: PLC0415  takes 350 ms

        return [address.reachable for address in Settings.load().grpc_addresses]
    first = parsed_address((given or "").strip() or DEFAULT_ADDRESS, "GRPC_ADDRESS")
    words = (workers or "").strip() or "1"
    if not words.isascii() or not words.isdigit() or not 1 <= int(words[:4]) <= MAX_WORKERS:
        raise ConfigError([f"WORKERS: allowed: 1 to {MAX_WORKERS}"])
    count = int(words)
    return [first] if count == 1 else [first.nth(index) for index in range(count)]
