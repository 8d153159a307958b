"""Names of files are keys of ConfigMaps: what Kubernetes would refuse, or Sentinel not read, is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from support.helm import Helm

FILE = {"domain": "a"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.txt", "Sentinel reads files that end in .yaml"),
        (".a.yaml", "Sentinel reads files that end in .yaml or .yml and do not begin with a dot"),
        ("a/b.yaml", '"a/b.yaml" cannot be a key'),
        ("..a.yaml", '"..a.yaml" cannot be a key'),
        ("é.yaml", '"é.yaml" cannot be a key'),
        ("a b.yaml", '"a b.yaml" cannot be a key'),
        ("a" * 249 + ".yaml", f'"{"a" * 249}.yaml" cannot be a key'),
    ],
)
def test_a_rate_limit_file_has_a_name_that_is_read(helm: Helm, name: str, told: str) -> None:
    assert f"rateLimit.files.{name}: {told}" in helm.refusal({"rateLimit": {"files": {name: FILE}}})


@pytest.mark.parametrize("value", ["policy.key", "redis.urlSecret.key", "redis.auth.passwordKey"])
@pytest.mark.parametrize("key", ["my key", "..", ".", "a/b", "..data"])
def test_a_key_is_one_that_kubernetes_takes(helm: Helm, value: str, key: str) -> None:
    values: Any = key
    for part in reversed(value.split(".")):
        values = {part: values}

    assert f'{value}: "{key}" cannot be a key of a ConfigMap or Secret' in helm.refusal(values)


def test_the_key_of_the_sentinels_password_likewise(helm: Helm) -> None:
    auth = {"existingSecret": "login", "sentinelPasswordKey": ".."}

    assert 'redis.auth.sentinelPasswordKey: ".." cannot be' in helm.refusal({"redis": {"auth": auth}})


@pytest.mark.parametrize("content", [{"plans": {}}, "plans: {}"])
@pytest.mark.parametrize("key", ["policy.yaml", "shop.yaml"])
def test_policy_and_limits_share_no_name(helm: Helm, content: object, key: str) -> None:
    values = {"policy": {"content": content, "key": key}, "rateLimit": {"files": {key: FILE, "b.yaml": FILE}}}

    assert f"rateLimit.files.{key}: the policy file has this name, too (policy.key)" in helm.refusal(values)
    helm.render({"policy": {"content": content, "key": key}, "rateLimit": {"files": {"b.yaml": FILE}}})
