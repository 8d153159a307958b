"""The ConfigMap's Envoy bootstrap is what `sentinel-ext envoy-config` prints for the same settings."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from support.helm import FAST, Helm, Rendered, containers, environment

from sentinel_ext.address import Address
from sentinel_ext.envoy_config import options_from, render
from sentinel_ext.policy.loader import load_policy, parse_policy
from sentinel_ext.settings import Settings

# envoy-data-plane says it once, when its types are loaded.
pytestmark = pytest.mark.filterwarnings("ignore:Using `@model_validator` with mode='after'")

FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
RATE_LIMITS = f"{FILTERS}.ratelimit.v3.RateLimitPerRoute"
AUTHORIZATION = f"{FILTERS}.ext_authz.v3.ExtAuthzPerRoute"
OPTIONS = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
EXAMPLE: dict[str, Any] = {"mode": "sidecar", "app": {"example": True}}


def chart_config(rendered: Rendered) -> dict[str, Any]:
    text = rendered.one("ConfigMap", "-envoy")["data"]["envoy.yaml"]
    parsed: dict[str, Any] = yaml.load(text, FAST)
    return parsed


def own_config(rendered: Rendered, values: dict[str, Any]) -> dict[str, Any]:
    """Render it as the command does, from the variables of the rendered container and the rendered policy."""
    settings = Settings.load(environment(containers(rendered.one("Deployment"))["sentinel"]), env_file=None)
    defaults = (settings.plan_defaults, settings.tenant_header)
    maps = [one for one in rendered.objects if one["metadata"]["name"].endswith("-policy")]
    policy = (
        parse_policy(maps[0]["data"]["policy.yaml"], "policy.yaml", *defaults)
        if maps
        else load_policy(None, *defaults)
    )
    envoy = values.get("envoy", {})
    metrics = {"enabled": True, "port": 9903, **values.get("metrics", {}).get("envoy", {})}
    host = envoy.get("listenHost", "0.0.0.0")
    options = options_from(
        settings,
        policy,
        listen_host=host,
        metrics=Address(host=host, port=metrics["port"]) if metrics["enabled"] else None,
        admin_address=Address(host="127.0.0.1", port=envoy.get("adminPort", 9901)),
        check_timeout_ms=envoy.get("checkTimeoutMs", 200),
        ratelimit_domain=envoy.get("rateLimitDomain", ""),
        otlp=Address.parse(envoy["otlpAddress"]) if "otlpAddress" in envoy else None,
    )
    parsed: dict[str, Any] = yaml.load(render(options), FAST)
    return as_the_chart_has_it(parsed, values)


def as_the_chart_has_it(config: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Change what the chart has otherwise: no demo route, and what an app behind Envoy needs."""
    envoy = values.get("envoy", {})
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    (host,) = manager["route_config"]["virtual_hosts"]
    paths = envoy.get("unprotectedPaths", [])
    host["routes"] = [*map(unprotected, paths), *(one for one in host["routes"] if one["name"] == "all")]
    if "rateLimitDomain" in envoy:
        ignored = {"@type": RATE_LIMITS, "vh_rate_limits": "IGNORE"}
        for route in host["routes"][:-1]:
            route["typed_per_filter_config"]["envoy.filters.http.ratelimit"] = ignored
    for route in host["routes"]:
        if values.get("config", {}).get("requestTimeoutMs") == 0:
            route["route"]["timeout"] = "0s"
        else:
            route["route"]["timeout"] = host["routes"][-1]["route"]["timeout"]
    if paths:
        regex = f"^({'|'.join(paths)})([?].*)?$"
        header = {"name": ":path", "string_match": {"safe_regex": {"regex": regex}}, "invert_match": True}
        (log,) = manager["access_log"]
        log["filter"] = {"and_filter": {"filters": [log["filter"], {"header_filter": {"header": header}}]}}
    if "trustedHops" in envoy:
        manager["xff_num_trusted_hops"] = envoy["trustedHops"]
    if upgrades := envoy.get("upgrades", ["websocket"]):
        manager["upgrade_configs"] = [{"upgrade_type": one} for one in upgrades]
    if values.get("app", {}).get("protocol") == "h2c":
        options = {"@type": OPTIONS, "explicit_http_config": {"http2_protocol_options": {}}}
        upstream = config["static_resources"]["clusters"][1]
        name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        upstream["typed_extension_protocol_options"] = {name: options}
    return config


def unprotected(path: str) -> dict[str, Any]:
    disabled = {"envoy.filters.http.ext_authz": {"@type": AUTHORIZATION, "disabled": True}}
    match = {"path": path}
    return {
        "name": "unprotected",
        "match": match,
        "route": {"cluster": "upstream"},
        "typed_per_filter_config": disabled,
    }


POLICIES: dict[str, Any] = {
    "none": None,
    "two headers": {"identify": [{"header": "X-One"}, {"jwt_claim": "tenant"}, {"header": "x-request-id"}]},
    "no header": {"identify": [{"principal": True}]},
    "text": "identify: [{header: X-Text}]\n",
    "nothing of it": {"plans": {"gold": {"limit": 5}}},
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"config": {"failOpen": False, "requestTimeoutMs": 1001, "tenantHeader": "X-Tenant"}},
        {
            "config": {"workers": 2},
            "metrics": {"envoy": {"enabled": False}},
            "envoy": {"rateLimitDomain": "shop", "checkTimeoutMs": 1000, "port": 80, "adminPort": 9},
        },
        {
            "config": {"failOpen": False},
            "metrics": {"envoy": {"port": 15090}},
            "envoy": {"rateLimitDomain": "yes", "listenHost": "::", "checkTimeoutMs": 5},
            "app": {"example": True, "port": 65535},
        },
        {
            "config": {"requestTimeoutMs": 0},
            "envoy": {"unprotectedPaths": ["/healthz"], "trustedHops": 2, "upgrades": ["websocket", "x/1"]},
            "app": {"example": True, "protocol": "h2c"},
        },
    ],
    ids=["defaults", "closed", "workers and limits", "ipv6", "as the app needs it"],
)
def test_it_is_what_the_command_prints(helm: Helm, more: dict[str, Any], policy: object) -> None:
    values = {**EXAMPLE, **more, "policy": {"content": policy}}
    rendered = helm.render(values)

    assert own_config(rendered, values) == chart_config(rendered)


@pytest.mark.parametrize(
    "tracing",
    [
        {"enabled": False},
        {"enabled": True},
        {"enabled": True, "sampler": "traceidratio", "samplerRatio": 0.25},
        {"enabled": True, "sampler": "parentbased_traceidratio", "samplerRatio": 0},
        {"enabled": True, "sampler": "traceidratio"},
        {"enabled": True, "sampler": "parentbased_always_off", "samplerRatio": 0.5},
        {"enabled": True, "sampler": "always_on", "samplerRatio": 0.5},
    ],
    ids=str,
)
def test_envoys_own_spans_too(helm: Helm, tracing: dict[str, Any]) -> None:
    given = {"otlpEndpoint": "grpc://collector.svc:4317", **tracing}
    # One address for each: a name, IPv4, IPv6.
    address = ("collector.svc:4317", "10.0.0.1:1", "[fd00::1]:65535")[len(tracing) - 1]
    values = {**EXAMPLE, "config": {"tracing": given}, "envoy": {"otlpAddress": address}}
    rendered = helm.render(values)

    assert own_config(rendered, values) == chart_config(rendered)


def test_the_files_of_ci_too(ci: dict[str, Rendered], ci_values: dict[str, Any]) -> None:
    for name in ("sidecar-example", "sidecar-full"):
        assert own_config(ci[name], ci_values[name]) == chart_config(ci[name])


def test_a_policy_that_the_chart_cannot_read_has_its_headers_named(helm: Helm) -> None:
    """In small letters, as Envoy has them: its list is compared letter by letter."""
    policy = {"existingConfigMap": "plans"}
    values = {**EXAMPLE, "policy": policy, "envoy": {"tenantHeaders": ["X-A", "x-b"]}}
    config = str(chart_config(helm.render(values)))

    assert "{'exact': 'x-a'}, {'exact': 'x-b'}" in config
    assert "x-tenant-id" not in config
