"""`sentinel-ext explain`: what would become of a request, and why."""

# Without `from __future__ import annotations`: typer reads shared options where they are used.
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sentinel_ext.cli import _files, _names
from sentinel_ext.cli._options import AddressOption, Asking, JsonOption, TimeoutOption, print_json
from sentinel_ext.errors import ConfigError

STDIN: Final = "-"
# The server takes 4 MiB; a Check with a body is some kilobytes.
MAX_FILE_BYTES: Final = 1 << 20


def command(  # noqa: PLR0913  one parameter per option
    ctx: typer.Context,
    tenant: Annotated[
        str, typer.Argument(help="Who asks.", autocompletion=_names.tenants, show_default=False)
    ] = "",
    method: Annotated[str, typer.Argument(help="The HTTP method; GET if left out.", show_default=False)] = "",
    path: Annotated[str, typer.Argument(help="The path; / if left out.", show_default=False)] = "",
    upstream: Annotated[
        str,
        typer.Option(
            "--upstream",
            "-u",
            metavar="NAME",
            help="The upstream that the route names; `default` if left out.",
            autocompletion=_names.upstreams,
            show_default=False,
        ),
    ] = "",
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="K=V", help="A request header. Repeatable.")
    ] = None,
    check: Annotated[
        str, typer.Option(metavar="FILE", help="A whole CheckRequest in JSON; - reads standard input.")
    ] = "",
    rate_limit: Annotated[
        str, typer.Option(metavar="FILE", help="A whole RateLimitRequest in JSON, likewise.")
    ] = "",
    domain: Annotated[str, typer.Option(help="Of a rate limit request; goes with --descriptor.")] = "",
    descriptor: Annotated[
        list[str] | None,
        typer.Option(
            "--descriptor",
            "-d",
            metavar="K=V,K2=V2",
            help="One descriptor, its entries in order. Repeatable.",
        ),
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with exit code 1 when the request would be refused.")
    ] = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what would become of a request and why, stage by stage, without counting it.

    No token is taken and no hit counted. Say who asks for what in a few words, or give the whole request
    as Envoy sends it, in the JSON that grpcurl takes.

    Exit codes: 0 the question was answered, whatever the answer; 1 there was no answer, or with
    `--exit-code` a refusal; 2 the question is wrong.

    Example: `sentinel-ext explain acme GET /orders --upstream orders`, and of a rate limit request
    `sentinel-ext explain --domain shop --descriptor user=alice,path=/cart`
    """
    sketch = (tenant, method, path, upstream, header)
    asking = Asking.of(ctx, address, timeout, as_json)
    answer = asking.ask("Explain", _question(sketch, check, rate_limit, domain, descriptor or []))
    if asking.as_json:
        print_json(answer)
    else:
        from sentinel_ext.cli import _explained, _screen  # noqa: PLC0415  rich is for those who print tables

        _screen.show(*_explained.rendered(answer, _screen.console()))
    if exit_code and not answer["allowed"]:
        raise typer.Exit(1)


def _question(
    sketch: tuple[str, str, str, str, list[str] | None],
    check: str,
    rate_limit: str,
    domain: str,
    descriptors: list[str],
) -> dict[str, Any]:
    """Return the fields of the ExplainRequest.

    Raises:
        ConfigError: nothing is asked, several things are, or a file holds no request.
    """
    from sentinel_ext.services import decision_client  # noqa: PLC0415  `--help` does not pay for protobuf

    given = [bool(any(sketch)), bool(check), bool(rate_limit), bool(domain or descriptors)]
    if sum(given) != 1 or (any(sketch) and not sketch[0]):
        raise ConfigError(
            [
                (
                    "say one thing to explain: a TENANT (with METHOD, PATH, --upstream, --header), "
                    "--check FILE, --rate-limit FILE, or --domain with --descriptor"
                )
            ]
        )
    if check:
        return _read("--check", check, decision_client.explain_check)
    if rate_limit:
        return _read("--rate-limit", rate_limit, decision_client.explain_rate_limit)
    if domain or descriptors:
        return {"rate_limit": _rate_limit(domain, descriptors)}
    tenant, method, path, upstream, headers = sketch
    fields = {"tenant": tenant, "method": method, "path": path, "upstream": upstream}
    return {
        "request": {**fields, "headers": dict(_pair("--header", each, lower=True) for each in headers or ())}
    }


def _read(option: str, name: str, parse: Any) -> dict[str, Any]:  # noqa: ANN401  a function of the services
    from sentinel_ext.services.decision_client import RequestTextError  # noqa: PLC0415  as above
    from sentinel_ext.wording import printable  # noqa: PLC0415

    try:
        if name == STDIN:
            data = _files.read_stdin(MAX_FILE_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError([f"{option} {name}: is larger than {MAX_FILE_BYTES >> 20} MiB"])
        fields: dict[str, Any] = parse(data.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError([f"{option} {name}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{option} {name}: is not UTF-8 text"]) from None
    except RequestTextError as error:
        raise ConfigError([f"{option} {name}: {printable(str(error))}"]) from None
    return fields


def _rate_limit(domain: str, descriptors: list[str]) -> dict[str, Any]:
    if not domain or not descriptors:
        raise ConfigError(["a rate limit request has a --domain and at least one --descriptor"])
    return {
        "domain": domain,
        "descriptors": [
            {
                "entries": [
                    {"key": key, "value": value}
                    for key, value in (_pair("--descriptor", part) for part in each.split(","))
                ]
            }
            for each in descriptors
        ],
    }


def _pair(option: str, text: str, *, lower: bool = False) -> tuple[str, str]:
    """Read `key=value`; the value may hold more of `=`, and a descriptor's entry may have none."""
    key, equals, value = text.partition("=")
    key = key.strip().lower() if lower else key.strip()
    if not key or (lower and not equals):
        raise ConfigError([f'{option}: got "{text}", allowed: key=value'])
    return key, value
