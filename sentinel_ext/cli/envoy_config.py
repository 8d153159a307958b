"""`sentinel-ext envoy-config`: a complete Envoy bootstrap from the settings Sentinel runs with."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sentinel_ext.address import Address
from sentinel_ext.cli import _files
from sentinel_ext.errors import ConfigError


class Format(StrEnum):
    """How the file is written."""

    YAML = "yaml"
    JSON = "json"


def command(  # noqa: PLR0913  one parameter per option
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of stdout.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.YAML,
    listen_address: Annotated[
        str, typer.Option(help="The host Envoy listens on; the port is PORT.")
    ] = "0.0.0.0",  # noqa: S104  a gateway is there to be reached
    sentinel_address: Annotated[
        list[str] | None,
        typer.Option(help="Where Envoy finds Sentinel, if not at the workers' addresses. May be repeated."),
    ] = None,
    envoy_admin_address: Annotated[str, typer.Option(help="Envoy's admin interface.")] = "127.0.0.1:9901",
    metrics_address: Annotated[
        str,
        typer.Option(help="Show others Envoy's /stats/prometheus here, host:port, and nothing else of it."),
    ] = "",
    check_timeout_ms: Annotated[
        int, typer.Option(min=1, max=60_000, help="How long Envoy waits for a decision.")
    ] = 200,
    ratelimit_domain: Annotated[
        str,
        typer.Option(
            help="Ask the rate limit service, too, in this domain: tenant, path and remote_address."
        ),
    ] = "",
    otlp_address: Annotated[
        str,
        typer.Option(help="Envoy's own spans, too: to this OTLP/gRPC collector, host:port."),
    ] = "",
    ca_file: Annotated[
        str, typer.Option(help="Roots for an https DOWNSTREAM_URL, where Envoy runs.")
    ] = "/etc/ssl/certs/ca-certificates.crt",
) -> None:
    """Print an Envoy bootstrap that asks this Sentinel.

    It is made from the same variables and policy file that `serve` reads: PORT, DOWNSTREAM_URL, GRPC_ADDRESS,
    WORKERS, FAIL_OPEN, REQUEST_TIMEOUT_MS, TENANT_HEADER, POLICY_FILE.

    Example: `DOWNSTREAM_URL=http://backend:8080 sentinel-ext envoy-config -o envoy.yaml; envoy -c envoy.yaml`
    """
    from sentinel_ext.envoy_config import options_from, render  # noqa: PLC0415  other commands do not pay for it
    from sentinel_ext.policy.loader import load_policy  # noqa: PLC0415  likewise
    from sentinel_ext.settings import Settings  # noqa: PLC0415  likewise

    settings = Settings.load()
    policy = load_policy(settings.policy_file, settings.plan_defaults, settings.tenant_header)
    options = options_from(
        settings,
        policy,
        listen_host=listen_address.strip("[]"),
        sentinels=tuple(_address("--sentinel-address", text) for text in sentinel_address or ()),
        admin_address=_address("--envoy-admin-address", envoy_admin_address),
        check_timeout_ms=check_timeout_ms,
        ca_file=ca_file,
        ratelimit_domain=ratelimit_domain,
        otlp=_address("--otlp-address", otlp_address) if otlp_address else None,
        metrics=_address("--metrics-address", metrics_address) if metrics_address else None,
    )
    text = render(options, form.value)
    if output is None:
        typer.echo(text, nl=False)
    else:
        _files.write(output, text.encode())


def _address(option: str, text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise ConfigError([f"{option}: got {text!r}, {error}"]) from error
