"""`sentinel-ext demo`: see Sentinel decide, with a real Envoy and a real Redis."""

from __future__ import annotations

from typing import Annotated

import typer

from sentinel_ext.address import Address

DEFAULT_ENVOY_ADMIN = "127.0.0.1:9901"
DEFAULT_PROMETHEUS = "127.0.0.1:9090"


def command(
    once: Annotated[bool, typer.Option("--once", help="End after the sample.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the summary as one JSON object on stdout, progress on stderr."),
    ] = False,
    envoy_admin: Annotated[
        str, typer.Option("--envoy-admin-address", metavar="HOST:PORT", help="Envoy's admin pages.")
    ] = DEFAULT_ENVOY_ADMIN,
    with_prometheus: Annotated[
        bool,
        typer.Option("--with-prometheus", help="Start Prometheus, too, with the alerts; it must be on PATH."),
    ] = False,
    prometheus_address: Annotated[
        str, typer.Option("--prometheus-address", metavar="HOST:PORT", help="Where it listens.")
    ] = DEFAULT_PROMETHEUS,
) -> None:
    """Start Redis, Sentinel, an upstream and Envoy, send sample traffic and show what becomes of it.

    Stays up until Ctrl-C, and leaves nothing behind. PORT, DOWNSTREAM_URL, GRPC_ADDRESS, DEBUG_GRPC_ADDRESS
    and ADMIN_ADDRESS move its addresses, REDIS_URL names a Redis to use, POLICY_FILE a policy.

    Example: `sentinel-ext demo`, meanwhile in another terminal `sentinel-ext top`; for scripts
    `sentinel-ext demo --once --json`
    """
    # Imported here: `--help` of other commands does not pay for aiohttp, rich and Envoy's types.
    import asyncio  # noqa: PLC0415

    from sentinel_ext.demo.run import Options, run  # noqa: PLC0415

    options = Options(
        once=once,
        as_json=as_json,
        envoy_admin=_tcp_address(envoy_admin, "--envoy-admin-address"),
        prometheus=_tcp_address(prometheus_address, "--prometheus-address") if with_prometheus else None,
    )
    raise typer.Exit(asyncio.run(run(options)))


def _tcp_address(text: str, option: str) -> Address:
    try:
        address = Address.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
    if address.is_unix:
        raise typer.BadParameter("allowed: host:port or [ipv6]:port", param_hint=option)
    return address
