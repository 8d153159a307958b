"""`sentinel-ext bench`: how fast does this Sentinel answer."""

# Without `from __future__ import annotations`: typer reads shared options where they are used.
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sentinel_ext.cli import _names
from sentinel_ext.cli._options import parsed_address, print_json, seconds
from sentinel_ext.errors import StartError

if TYPE_CHECKING:
    from sentinel_ext.client.load import Measured
    from sentinel_ext.client.load_connection import Load

MAX_CONNECTIONS: Final = 1_000
MAX_IN_FLIGHT: Final = 1_000
WARM_S: Final = 0.5


def command(  # noqa: PLR0913  one parameter per option
    duration: Annotated[
        float, typer.Option("--seconds", "-s", parser=seconds, metavar="TIME", help="How long to measure.")
    ] = 3.0,
    connections: Annotated[
        int, typer.Option("--connections", "-c", min=1, max=MAX_CONNECTIONS, help="Connections.")
    ] = 4,
    concurrency: Annotated[
        int,
        typer.Option("--concurrency", "-m", min=1, max=MAX_IN_FLIGHT, help="In flight on each connection."),
    ] = 25,
    tenant: Annotated[
        str, typer.Option("--tenant", "-t", metavar="NAME", help="Who asks.", autocompletion=_names.tenants)
    ] = "bench",
    path: Annotated[str, typer.Option(help="The path of the requests asked about.")] = "/bench",
    upstream: Annotated[
        str,
        typer.Option(
            "--upstream",
            "-u",
            metavar="NAME",
            help="The upstream asked for; a real one's pressure would suffer.",
        ),
    ] = "bench",
    address: Annotated[
        str | None,
        typer.Option(
            "--address", "-a", metavar="HOST:PORT", help="The gRPC port for Envoy. Default: GRPC_ADDRESS."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Send real Checks to a running Sentinel and print how many it answers, how fast, and what it says.

    They count against the tenant's limit, so give the tenant a plan of its own (unlimited, if refusals are
    not what you measure). No request follows a Check, so none ends: the upstream `bench` looks overloaded
    after a while, where an access log tells of others, and what asks for it is shed. Client and service
    share this machine's cores; `make bench` in the repository measures more carefully.

    Exit codes: 0 measured, 1 nothing was answered or the connection broke, 2 wrong arguments.

    Example: `sentinel-ext bench --seconds 5 --connections 8 --tenant load-test`
    """
    # Imported here: `--help` does not pay for protobuf and pydantic.
    import uvloop  # noqa: PLC0415

    from sentinel_ext.client import load as loads  # noqa: PLC0415
    from sentinel_ext.services.decision_client import verdict_of  # noqa: PLC0415

    load = _load(address, duration, connections, concurrency, (tenant, path, upstream))
    where = ", ".join((load.target, *load.more_targets))
    edges = iter((f"measuring for {duration:g} s", "done"))
    typer.echo(f"{connections} connections x {concurrency} in flight to {where}", err=True)
    try:
        measured = uvloop.run(loads.run(load, verdict_of, lambda: typer.echo(next(edges), err=True)))
    except OSError as error:
        why = getattr(error, "strerror", None) or str(error) or "no connection within 10 s"
        raise StartError(
            f"nothing answers at {where} ({why.lower()}): is `sentinel-ext serve` running? `--address` or "
            "GRPC_ADDRESS name another"
        ) from None
    if as_json:
        print_json(_plain(measured, load))
    else:
        _print(measured)
    raise typer.Exit(0 if measured.words else 1)


def _load(
    address: str | None, duration_s: float, connections: int, concurrency: int, about: tuple[str, str, str]
) -> "Load":
    from sentinel_ext.client.load_connection import Load  # noqa: PLC0415  as above
    from sentinel_ext.services.decision_client import CHECK, check_request  # noqa: PLC0415
    from sentinel_ext.settings import Settings  # noqa: PLC0415

    settings = Settings.load()
    addresses = (
        [parsed_address(address, "--address")]
        if address is not None
        else [each.reachable for each in settings.grpc_addresses]
    )
    first, *others = [f"unix:{each.path}" if each.is_unix else str(each) for each in addresses]
    tenant, path, upstream = about
    return Load(
        target=first,
        more_targets=tuple(others),
        headers=[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", CHECK),
            (":authority", "sentinel"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "sentinel-ext-bench"),
        ],
        message=check_request(settings.tenant_header, tenant, "GET", path, upstream),
        connections=connections,
        streams=concurrency,
        warm_s=WARM_S,
        measured_s=duration_s,
    )


def _plain(measured: "Measured", load: "Load") -> dict[str, Any]:
    return {
        "connections": load.connections,
        "concurrency": load.streams,
        "seconds": round(measured.seconds, 3),
        "requests": measured.answers,
        "requests_per_s": round(measured.answers / measured.seconds, 1),
        "latency_ms": {
            name: round(value * 1000, 3) if measured.answers else None
            for name, value in (("p50", measured.p50), ("p99", measured.p99), ("p99.9", measured.p999))
        },
        "verdicts": measured.words,
        "grpc_status": measured.outcomes,
    }


def _print(measured: "Measured") -> None:
    from sentinel_ext.cli import _screen  # noqa: PLC0415  --json does not pay for rich

    per_s = measured.answers / measured.seconds
    pairs = [("requests", f"{measured.answers} in {measured.seconds:.2f} s, {per_s:.0f} per second")]
    if measured.answers:
        times = zip(("p50", "p99", "p99.9"), (measured.p50, measured.p99, measured.p999), strict=True)
        pairs.append(("latency", ", ".join(f"{name} {value * 1000:.2f} ms" for name, value in times)))
    total = max(1, sum(measured.words.values()))
    for word, count in sorted(measured.words.items(), key=lambda item: -item[1]):
        pairs.append((word, f"{count} ({count / total:.1%})"))
    failed = {status: count for status, count in measured.outcomes.items() if status != "0"}
    pairs += [(f"grpc-status {status}", str(count)) for status, count in failed.items()]
    _screen.show(_screen.facts((name, _screen.text(value)) for name, value in pairs))
