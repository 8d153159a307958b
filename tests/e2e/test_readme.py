"""What the README says is so: its tables, its policy, its Envoy snippet, its rights for Redis."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from support.envoy import validate

from sentinel_ext.core.model import Mode, Stage, Tier
from sentinel_ext.policy.compiler import MAX_PATTERNS
from sentinel_ext.policy.loader import load_policy
from sentinel_ext.policy.schema import MAX_PLANS, MAX_SOURCES, MAX_TENANTS, MAX_UPSTREAMS
from sentinel_ext.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
YAML_BLOCKS = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


def rows() -> Iterator[tuple[str, str]]:
    for name, default in re.findall(r"^\| `([A-Z_]+)` \| (\S+) \|", README, re.MULTILINE):
        yield name, default.strip("`")


def test_the_table_has_every_variable_with_its_default() -> None:
    documented = dict(rows())
    settings = Settings.load({}, None)

    assert {name.upper() for name in Settings.model_fields} == set(documented)
    given = {name: value for name, value in documented.items() if value != "\u2013"}
    assert settings == Settings.load(given, None)
    assert all(getattr(settings, name.lower()) is None for name in set(documented) - set(given))


def test_the_policy_loads_and_means_what_its_comments_say(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(YAML_BLOCKS[0])
    policy = load_policy(path, Settings.load({}, None).plan_defaults, "x-tenant-id")

    assert (Tier.VITAL, 1000) == (policy.plan_for("acme").tier, policy.plan_for("acme").limit)
    assert (Tier.ECONOMY, 20) == (policy.plan_for("trial-7").tier, policy.plan_for("trial-7").limit)
    assert 0 == policy.plan_for("banned").limit
    assert (None, 200) == (policy.plan_for("internal").limit, policy.plan_for("internal").burst)
    assert 100 == policy.plan_for("anybody").limit
    assert Mode.SHADOW is policy.mode(Stage.WINDOW)


def test_the_bounds_of_a_policy_are_those_that_are_checked() -> None:
    held = f"{MAX_PLANS:,} plans, {MAX_TENANTS:,} tenants ({MAX_PATTERNS:,} of them patterns), "

    assert held + f"{MAX_UPSTREAMS} upstreams and {MAX_SOURCES} sources." in README


def test_a_frozen_sentinel_is_noticed_within_the_time_that_is_promised() -> None:
    """At worst it freezes when it has just been asked: each missed check is an interval and a timeout."""
    cluster = yaml.safe_load(YAML_BLOCKS[1])["clusters"][0]
    (check,) = cluster["health_checks"]
    interval_s, timeout_s = (float(check[name].removesuffix("s")) for name in ("interval", "timeout"))
    worst_s = check["unhealthy_threshold"] * (interval_s + timeout_s)

    words = {2.0: "two", 3.0: "three", 4.0: "four"}
    assert f"health check notices a frozen one within {words[worst_s]} seconds" in README


def test_envoy_accepts_the_snippet(tmp_path: Path) -> None:
    snippet = yaml.safe_load(YAML_BLOCKS[1])
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    manager = {
        "@type": f"type.googleapis.com/{MANAGER}",
        "stat_prefix": "ingress",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answer]}]},
        "access_log": snippet["access_log"],
        "http_filters": [*snippet["http_filters"], router],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    where = {"socket_address": {"address": "127.0.0.1", "port_value": 18000}}
    listener = {"name": "ingress", "address": where, "filter_chains": [chain]}
    bootstrap = {"static_resources": {"listeners": [listener], "clusters": snippet["clusters"]}}
    path = tmp_path / "envoy.yaml"
    path.write_text(yaml.safe_dump(bootstrap))

    done = validate(path)

    assert 0 == done.returncode, done.stderr


def test_the_redis_user_may_do_what_the_scripts_do_and_no_more() -> None:
    """Redis checks a command when a script reaches it: a right that is missing shows late."""
    (rights,) = re.findall(r"`(~sentinel:[^`]*)`", README)
    scripts = "".join(path.read_text() for path in (ROOT / "sentinel_ext" / "store" / "lua").glob("*.lua"))
    done = set(re.findall(r"redis\.p?call\(\s*'(\w+)'", scripts))

    assert scripts.count("redis.call(") + scripts.count("redis.pcall(") == len(
        re.findall(r"redis\.p?call\(\s*'", scripts)
    ), "a command whose name is made up at run time"
    assert {word.lower() for word in done} | {"evalsha", "eval", "time"} == set(
        re.findall(r"\+(\w+)", rights)
    )
    assert ["~sentinel:*", "resetchannels", "-@all"] == rights.split()[:3]


def test_documented_metrics_exist() -> None:
    source = "".join(path.read_text() for path in (ROOT / "sentinel_ext").rglob("*.py"))
    for text in (README, *(path.read_text() for path in (ROOT / "docs").glob("*.md"))):
        for name in re.findall(r"\b(sentinel_[a-z]+_[a-z_]+)\b", text):
            if not name.startswith("sentinel_ext"):
                assert f'"{name.removesuffix("_total")}"' in source, name
