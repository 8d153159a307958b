"""Bad values are refused by schema or template, with a message that names the value."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.helm import CHART, ROOT, Helm, containers, environment, nested

from sentinel_ext.policy.loader import parse_policy
from sentinel_ext.settings import Settings

if TYPE_CHECKING:
    from support.helm import Rendered

SIDECAR: dict[str, Any] = {"mode": "sidecar", "app": {"example": True}}
LIBRARY: dict[str, Any] = {"mode": "sidecar", "app": {"enabled": False}}


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("mode", "gateway", "value must be one of 'service', 'sidecar'"),
        ("replicaCount", "two", "got string, want null or integer"),
        ("replicaCount", -1, "minimum"),
        ("replicas", 3, "additional properties 'replicas' not allowed"),
        ("config.logLevels", "info", "additional properties 'logLevels' not allowed"),
        ("config.refillRate", "fast", "got string, want null or number"),
        ("config.windowMs", 10, "minimum: got 10, want 100"),
        ("config.baseRateLimit", "none", "anyOf"),
        ("config.tenantHeader", "", "pattern"),
        ("image.digest", "sha256:abc", "pattern"),
        ("image.pullPolicy", "Sometimes", "value must be one of"),
        ("ports.grpc", 70000, "maximum"),
        ("service.port", "50051", "got string, want integer"),
        ("redis.bundled.enabled", "yes", "got string, want boolean"),
        ("redis.auth.secret", "x", "additional properties 'secret' not allowed"),
        ("extraEnv", [{"value": "x"}], "missing property 'name'"),
        ("extraEnv", {"A": "b"}, "got object, want array"),
        ("podAnnotations", {"a": 1}, "got number, want string"),
        ("terminationGracePeriodSeconds", 5, "minimum"),
        ("rateLimit.files", {"shop.yaml": {"descriptors": []}}, "missing property 'domain'"),
        ("autoscaling.behaviour", {}, "additional properties 'behaviour' not allowed"),
        ("metrics.serviceMonitor.interval", "soon", "pattern"),
        # The policy file's own schema.
        ("policy.content.plan", {}, "additional properties 'plan' not allowed"),
        ("policy.content.plans.gold.limit", -1, "minimum"),
        ("policy.content.plans.gold.colour", "red", "additional properties 'colour' not allowed"),
        ("policy.content.tenants.acme.tier", "first", "value must be one of"),
        ("policy.content.stages.window", "dry", "value must be one of"),
        ("policy.content.stages.breaker", True, "value must be one of"),
        ("policy.content.upstreams.a.breaker.cooldown", "soon", "pattern"),
        ("policy.content.identify", [{"payload": "x"}], "identify"),
    ],
)  # fmt: skip
def test_the_schema_refuses(helm: Helm, path: str, value: object, why: str) -> None:
    message = helm.refusal(nested(path, value))
    *above, last = path.split(".")

    assert why in message
    place = "/".join(("", *above))
    assert f"'{place}" in message or (not above and "at ''" in message), message
    assert last in message or "anyOf" in why
    assert any(why in line for line in helm.lint(nested(path, value))), "helm lint says it, too"


def test_every_problem_is_told_at_once(helm: Helm) -> None:
    message = helm.refusal({"replicaCount": "two", "config": {"workers": 0, "x": 1}})

    assert all(word in message for word in ("/replicaCount", "/config/workers", "'x'"))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"redis": {"auth": {"password": "p4ss", "existingSecret": "login"}}},
            "redis.auth.password: redis.auth.existingSecret is set, too",
        ),
        ({"image": {"registry": ""}}, "image.registry: no image of Sentinel is published; build it"),
        ({**SIDECAR, "autoscaling": {"enabled": True}}, "autoscaling.enabled: in mode sidecar"),
        ({"app": {"example": True}}, "app.example: mode service deploys no app"),
        ({"app": {"image": {"repository": "shop"}}}, "app.image.repository: mode service deploys no app"),
        (
            {**LIBRARY, "metrics": {"podMonitor": {"enabled": True}}},
            "metrics.podMonitor.enabled: app.enabled is false",
        ),
        (
            {**LIBRARY, "metrics": {"serviceMonitor": {"enabled": True}}},
            "metrics.serviceMonitor.enabled: app.enabled is false",
        ),
        ({**LIBRARY, "podDisruptionBudget": {"enabled": True}}, "podDisruptionBudget.enabled: app.enabled"),
        ({"config": {"workers": 2}}, "config.workers: a Service leads to one port"),
        (
            {**SIDECAR, "config": {"workers": 2}, "redis": {"url": "memory://"}},
            "config.workers: workers share no memory",
        ),
        ({"mode": "sidecar"}, "app.image.repository: mode sidecar needs the app's image"),
        ({"mode": "sidecar", "app": {"image": {"repository": "shop"}}}, "app.image.tag: name a tag"),
        (
            {"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 3}},
            "autoscaling.minReplicas: 9 is more than autoscaling.maxReplicas (3)",
        ),
        (
            {"autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": None}},
            "autoscaling.metrics: without a target",
        ),
        (
            {"podDisruptionBudget": {"minAvailable": 1, "maxUnavailable": 0}},
            "podDisruptionBudget.minAvailable: set it or maxUnavailable",
        ),
        (
            {"redis": {"url": "redis://a", "urlSecret": {"name": "s"}, "bundled": {"enabled": True}}},
            "redis.url: set only one of redis.url and redis.urlSecret.name and redis.bundled.enabled",
        ),
        ({"redis": {"url": "http://redis:6379"}}, "redis.url: allowed are redis://"),
        ({"redis": {"url": "http://me:p4ss@a"}}, "redis.url: a user or password in it"),
        ({"redis": {"auth": {"username": "me"}}}, "redis.auth.username: it is the user of a password"),
        (
            {"redis": {"auth": {"username": "me", "password": "p4ss"}, "bundled": {"enabled": True}}},
            "redis.auth.username: the bundled Redis has only its default user",
        ),
        (
            {"redis": {"auth": {"password": "p4ss", "sentinelPasswordKey": "k"}}},
            "redis.auth.sentinelPasswordKey: it is a key of redis.auth.existingSecret",
        ),
        (
            {"policy": {"content": {"plans": {}}, "existingConfigMap": "plans"}},
            "policy.content: policy.existingConfigMap is set, too",
        ),
        ({"policy": {"content": "plans: [}"}}, "policy.content: is not a YAML mapping"),
        (
            {"rateLimit": {"files": {"a.yaml": {"domain": "a"}}, "existingConfigMap": "limits"}},
            "rateLimit.files: rateLimit.existingConfigMap is set, too",
        ),
        ({"rateLimit": {"files": {"a.yaml": "descriptors:"}}}, "rateLimit.files.a.yaml: domain is missing"),
        ({"rateLimit": {"files": {"a.yaml": "- a"}}}, "rateLimit.files.a.yaml: is not a YAML mapping"),
        (
            {
                "rateLimit": {"files": {"a.yaml": {"domain": "a"}}},
                "policy": {"content": {"ratelimit": {"domain": "b"}}},
            },
            "policy.content.ratelimit: rateLimit has files, too",
        ),
        ({"config": {"tracing": {"enabled": True}}}, "config.tracing.otlpEndpoint: tracing is enabled"),
        (
            {"metrics": {"enabled": False, "podMonitor": {"enabled": True}}},
            "metrics.podMonitor.enabled: metrics.enabled is false",
        ),
        (
            {"metrics": {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}},
            "metrics.serviceMonitor.enabled: it needs metrics.service.enabled",
        ),
        (
            {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
            "metrics.podMonitor.enabled: metrics.serviceMonitor.enabled is set, too",
        ),
        ({"ports": {"admin": 50051}}, "ports.admin: ports.grpc is the port 50051, too"),
        ({**SIDECAR, "envoy": {"port": 8080}}, "app.port: envoy.port is the port 8080, too"),
        ({"ports": {"grpc": 50052}}, "config.debugAddress: ports.grpc is the port 50052, too"),
        (
            {"config": {"debugAddress": "127.0.0.1:9464"}},
            "config.debugAddress: ports.admin is the port 9464, too",
        ),
        (
            {"extraEnv": [{"name": "GRPC_ADDRESS", "value": "x"}]},
            "extraEnv: GRPC_ADDRESS is set by the chart",
        ),
        ({"extraEnv": [{"name": "WORKERS", "value": "4"}]}, "extraEnv: WORKERS is set by the chart"),
    ],
)  # fmt: skip
def test_the_template_refuses(helm: Helm, values: dict[str, Any], told: str) -> None:
    message = helm.refusal(values)

    assert told in message
    assert "p4ss" not in message


def test_problems_of_the_template_are_told_together(helm: Helm) -> None:
    message = helm.refusal(
        {"config": {"workers": 2, "tracing": {"enabled": True}}, "redis": {"url": "redis://a@b"}}
    )

    assert all(name in message for name in ("config.workers:", "config.tracing.otlpEndpoint:", "redis.url:"))


def settings_of(rendered: Rendered) -> Settings:
    """Let Sentinel read the rendered environment; what it refuses fails the test."""
    return Settings.load(environment(containers(rendered.one("Deployment"))["sentinel"]), env_file=None)


def test_what_values_say_arrives_in_sentinels_settings(ci: dict[str, Rendered]) -> None:
    settings = settings_of(ci["service-full"])

    assert "[::]:50051".replace("50051", "9191") == str(settings.grpc_address)
    assert "[::]:9090" == str(settings.admin_address)
    assert (1_000_000, 2_678_400_000, 0, 0.5) == (
        settings.base_rate_limit, settings.window_ms, settings.burst_capacity, settings.refill_rate,
    )  # fmt: skip
    assert (0.25, 1_000_000, 500, 7) == (
        settings.breaker_failure_threshold,
        settings.breaker_consecutive_failures,
        settings.breaker_cooldown_ms,
        settings.breaker_half_open_max_requests,
    )
    assert ("draft", "local", 0.9, False) == (
        settings.ratelimit_headers,
        settings.ratelimit_on_store_failure,
        settings.ratelimit_near_limit_ratio,
        settings.ratelimit_leases,
    )
    assert settings.ratelimit_shadow_mode
    assert settings.ratelimit_quota_mode
    assert settings.ratelimit_dynamic_metadata
    assert settings.ratelimit_merge_domains
    assert settings.ratelimit_lenient
    assert settings.enable_tracing
    assert ("traceidratio", "0.25") == (settings.otel_traces_sampler, settings.otel_traces_sampler_arg)
    assert (0.01, ("x-api-key", "tenant=acme")) == (settings.log_allowed_ratio, settings.log_redact)
    assert "/etc/sentinel/policy/plans.yaml" == str(settings.policy_file)
    assert settings.debug_grpc_address is None
    assert not settings.fail_open


def test_every_variable_that_the_chart_sets_is_one_of_sentinels(ci: dict[str, Rendered]) -> None:
    known = {name.upper() for name in Settings.model_fields}
    for name in ("service-full", "sidecar-full", "service-bundled", "sidecar-example"):
        given = {one["name"] for one in containers(ci[name].one("Deployment"))["sentinel"]["env"]}
        assert given - known <= {"PYTHONUNBUFFERED", "NODE"}


def test_unset_values_leave_the_programs_defaults(helm: Helm) -> None:
    told = settings_of(helm.render())
    own = Settings.load({}, env_file=None)
    told_by_chart = {"grpc_address", "admin_address", "redis_url"}

    same = {name for name in Settings.model_fields if getattr(told, name) == getattr(own, name)}
    assert set(Settings.model_fields) - same == told_by_chart


def test_defaults_named_in_comments_are_the_programs(helm: Helm) -> None:
    """`[60000]` behind a value that is null says what the program takes then."""
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    names = {
        "logLevel": "log_level", "baseRateLimit": "base_rate_limit", "windowMs": "window_ms",
        "logAllowedRatio": "log_allowed_ratio",
        "burstCapacity": "burst_capacity", "refillRate": "refill_rate", "storeTimeoutMs": "store_timeout_ms",
        "sloLatencyThresholdMs": "slo_latency_threshold", "debugAddress": "debug_grpc_address",
    }  # fmt: skip
    own = Settings.load({}, env_file=None)

    for value, field in names.items():
        said = schema["config"]["properties"][value]["description"].rpartition("[")[2].rstrip("]")
        default = getattr(own, field)
        assert said == (f"{default:g}" if isinstance(default, float) else str(default))


def test_a_policy_in_values_is_the_policy_that_sentinel_reads(
    ci: dict[str, Rendered], ci_values: dict[str, Any]
) -> None:
    """Also `off` and numbers of a million, which Helm's YAML and templates are known to spoil."""
    text = ci["service-bundled"].one("ConfigMap", "-policy")["data"]["policy.yaml"]
    defaults = settings_of(ci["service-bundled"])
    policy = parse_policy(text, "policy.yaml", defaults.plan_defaults, defaults.tenant_header)

    assert () == tuple(policy.warnings)
    assert 1_000_000 == policy.plans["gold"].limit
    assert {"007", "acme"} == set(policy.tenants)
    assert policy.upstreams["search"].breaker is None
    assert {"window": "shadow", "breaker": "off"}.items() <= {
        stage.value: mode.value for stage, mode in policy.modes.items()
    }.items()
    limits = ci["service-bundled"].one("ConfigMap", "-ratelimit")["data"]
    assert limits["text.yaml"].startswith("# as it is\n")
    assert (
        1_000_000 == yaml.safe_load(limits["shop.yaml"])["descriptors"][0]["rate_limit"]["requests_per_unit"]
    )


def test_the_examples_of_the_docs_pass_the_schema(helm: Helm) -> None:
    """The policy that README.md shows."""
    readme = (ROOT / "README.md").read_text()
    text = readme.partition("```yaml\n# yaml-language-server")[2].partition("```")[0].partition("\n")[2]
    assert "plans:" in text

    helm.render({"policy": {"content": yaml.safe_load(text)}})
