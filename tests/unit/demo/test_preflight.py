"""What is found out before anything starts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from sentinel_ext.address import Address
from sentinel_ext.core.model import Tier
from sentinel_ext.demo.preflight import (
    DEMO_POLICY,
    Setup,
    echo_address,
    sample_tenants,
    tenant_header,
)
from sentinel_ext.demo.prometheus import Prometheus
from sentinel_ext.errors import StartError
from sentinel_ext.policy.loader import load_policy
from sentinel_ext.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def policy_of(text: str, folder: Path):
    path = folder / "policy.yaml"
    path.write_text(text)
    settings = Settings()
    return load_policy(path, settings.plan_defaults, settings.tenant_header)


def setup_of(settings: Settings, tmp_path: Path) -> Setup:
    policy = load_policy(DEMO_POLICY, settings.plan_defaults, settings.tenant_header)
    upstream = echo_address(settings.downstream_url)
    admin = Address(host="127.0.0.1", port=9901)
    return Setup(settings, policy, DEMO_POLICY, "x-tenant-id", admin, tmp_path, None, upstream)


def test_the_demos_policy_has_a_tenant_of_each_tier() -> None:
    settings = Settings()
    policy = load_policy(DEMO_POLICY, settings.plan_defaults, settings.tenant_header)

    chosen = [(tally.tenant, tally.tier) for tally in sample_tenants(policy)]

    assert chosen == [("acme", "vital"), ("globex", "standard"), ("trial-7", "economy")]
    assert [tier.value for tier in Tier] == [tier for _, tier in chosen]


def test_a_users_policy_sends_its_own_tenants(tmp_path: Path) -> None:
    policy = policy_of(
        "plans: {a: {tier: economy}, b: {tier: vital}}\ntenants: {one: a, two: b, three: b}\n", tmp_path
    )

    assert [("two", "vital"), ("one", "economy")] == [(t.tenant, t.tier) for t in sample_tenants(policy)]


def test_a_policy_without_tenants_gets_the_demos_names(tmp_path: Path) -> None:
    policy = policy_of("plans: {a: {tier: economy}}\ndefault_plan: a\n", tmp_path)

    assert [("acme", "economy"), ("globex", "economy"), ("trial-7", "economy")] == [
        (tally.tenant, tally.tier) for tally in sample_tenants(policy)
    ]


def test_the_first_header_of_the_policy_carries_the_tenants(tmp_path: Path) -> None:
    policy = policy_of("identify: [{principal: true}, {header: X-Customer}, {header: x-b}]\n", tmp_path)

    assert tenant_header(policy) == "x-customer"


def test_a_policy_that_reads_no_header_cannot_be_shown(tmp_path: Path) -> None:
    policy = policy_of("identify: [{principal: true}]\n", tmp_path)

    with pytest.raises(StartError, match="unset POLICY_FILE"):
        tenant_header(policy)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:8080", Address(host="localhost", port=8080)),
        ("http://127.0.0.1", Address(host="127.0.0.1", port=80)),
        ("http://127.0.0.53:8080", Address(host="127.0.0.53", port=8080)),
        ("http://[::1]:8080", Address(host="::1", port=8080)),
        ("https://localhost:8443", None),
        ("http://backend:8080", None),
        ("http://10.0.0.1:8080", None),
    ],
)
def test_an_upstream_is_started_only_where_this_machine_can_be_it(url: str, expected: Address | None) -> None:
    assert expected == echo_address(url)


def test_every_address_that_the_demo_listens_on_is_claimed(tmp_path: Path) -> None:
    own = setup_of(Settings(), tmp_path)
    given = setup_of(Settings(downstream_url="http://backend:8080"), tmp_path)

    settings = ["PORT", "--envoy-admin-address", "GRPC_ADDRESS", "ADMIN_ADDRESS", "DEBUG_GRPC_ADDRESS"]
    settings.append("DOWNSTREAM_URL")
    assert settings == [claim.setting for claim in own.claims()]
    assert settings[:-1] == [claim.setting for claim in given.claims()]
    watched = dataclasses.replace(own, prometheus=Prometheus(tmp_path, Address(host="127.0.0.1", port=9090)))
    assert [*settings, "--prometheus-address"] == [claim.setting for claim in watched.claims()]
