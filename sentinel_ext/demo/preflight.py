"""What the demo is about to start: everything that can be found out and refused before a process runs."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sentinel_ext.address import Address
from sentinel_ext.core.model import Tier
from sentinel_ext.core.policy import SourceKind
from sentinel_ext.demo import binaries, ports, prometheus
from sentinel_ext.demo.traffic import Tally
from sentinel_ext.errors import StartError
from sentinel_ext.policy.loader import load_policy
from sentinel_ext.settings import Settings

if TYPE_CHECKING:
    from sentinel_ext.core.policy import Policy

LISTEN_HOST = "127.0.0.1"
DEMO_POLICY = Path(__file__).with_name("policy.yaml")
# Names for a policy of the user's that names no tenant itself.
_STRANGERS = ("acme", "globex", "trial-7")


@dataclass(frozen=True, slots=True)
class Setup:
    """Settings, policy, programs and addresses, all checked.

    Attributes:
        tenant_header: the header that the sample names its tenants in.
        redis_server: the program to start; None if REDIS_URL was set and names the Redis to use.
        upstream: where the echo upstream listens; None if the one of DOWNSTREAM_URL is not ours to start.
        prometheus: what to start besides; None unless it was asked for.
    """

    settings: Settings
    policy: Policy
    policy_file: Path
    tenant_header: str
    envoy_admin: Address
    envoy: Path
    redis_server: Path | None
    upstream: Address | None
    prometheus: prometheus.Prometheus | None = None

    @classmethod
    def prepare(cls, envoy_admin: Address, prometheus_address: Address | None = None) -> Setup:
        """Read the settings and the policy, find the programs, try the addresses.

        Raises:
            ConfigError: the environment or the policy file cannot be used, or Prometheus cannot.
            StartError: a program is missing, or addresses are in use: all of them.
        """
        settings = Settings.load()
        policy_file = settings.policy_file or DEMO_POLICY
        policy = load_policy(policy_file, settings.plan_defaults, settings.tenant_header)
        has_redis = "redis_url" in settings.model_fields_set
        setup = cls(
            settings=settings,
            policy=policy,
            policy_file=policy_file.absolute(),
            tenant_header=tenant_header(policy),
            envoy_admin=envoy_admin,
            envoy=binaries.find_envoy(),
            redis_server=None if has_redis else binaries.find_redis(),
            upstream=echo_address(settings.downstream_url),
            prometheus=prometheus.find(prometheus_address, settings.admin_address)
            if prometheus_address is not None
            else None,
        )
        ports.check(setup.claims())
        return setup

    def claims(self) -> list[ports.Claim]:
        """Return every address the demo will listen on."""
        settings = self.settings
        claims = [
            ports.Claim("Envoy", "PORT", Address(host=LISTEN_HOST, port=settings.port)),
            ports.Claim("Envoy's admin pages", "--envoy-admin-address", self.envoy_admin),
            *(ports.Claim("Sentinel's gRPC", "GRPC_ADDRESS", each) for each in settings.grpc_addresses),
            ports.Claim("Sentinel's admin pages", "ADMIN_ADDRESS", settings.admin_address),
        ]
        if settings.debug_address is not None:
            claims.append(ports.Claim("Sentinel's debug gRPC", "DEBUG_GRPC_ADDRESS", settings.debug_address))
        if self.upstream is not None:
            claims.append(ports.Claim("the demo's upstream", "DOWNSTREAM_URL", self.upstream))
        if self.prometheus is not None:
            claims.append(ports.Claim("Prometheus", "--prometheus-address", self.prometheus.address))
        return claims

    @property
    def listener(self) -> str:
        """The URL of Envoy's listener."""
        return f"http://{LISTEN_HOST}:{self.settings.port}"


def echo_address(url: str) -> Address | None:
    """Return where to start an upstream for DOWNSTREAM_URL; None for another machine's, or for TLS."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http" or not _is_loopback(host):
        return None
    return Address(host=host, port=parts.port or 80)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def tenant_header(policy: Policy) -> str:
    """Return the header that the policy reads a tenant's name from.

    Raises:
        StartError: it reads none, so nobody without a certificate or a token can be a tenant.
    """
    for source in policy.sources:
        if source.kind is SourceKind.HEADER:
            return source.name
    raise StartError(
        "the policy identifies tenants by no header, so the demo cannot send as one: "
        "add `- header: x-tenant-id` to its `identify`, or unset POLICY_FILE"
    )


def sample_tenants(policy: Policy) -> list[Tally]:
    """Choose who sends: the first tenant that the policy names of each tier, in the order of the tiers."""
    first: dict[Tier, str] = {}
    for name, plan in policy.tenants.items():
        first.setdefault(plan.tier, name)
    names = [first[tier] for tier in Tier if tier in first] or _STRANGERS
    return [Tally(name, policy.plan_for(name).tier.value) for name in names]
