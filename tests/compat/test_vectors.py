"""Sentinel answers as envoyproxy/ratelimit did to the same files and requests (vectors.json, recorded)."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from support.fleet import Sentinel

sys.path.insert(0, str(Path(__file__).parent))

from asking import ask_all
from cases import CASES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.redis_server import RedisServer

pytestmark = pytest.mark.e2e

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())["vectors"]
SETTINGS = {
    "SHADOW_MODE": ("RATELIMIT_SHADOW_MODE", "true"),
    "QUOTA_MODE": ("RATELIMIT_QUOTA_MODE", "true"),
    "LIMIT_RESPONSE_HEADERS_ENABLED": ("RATELIMIT_HEADERS", "legacy"),
    "RESPONSE_DYNAMIC_METADATA": ("RATELIMIT_DYNAMIC_METADATA", "true"),
    "MERGE_DOMAIN_CONFIG": ("RATELIMIT_MERGE_DOMAINS", "true"),
}
STATISTICS = {
    "total_hits": "hits",
    "over_limit": "over_limit",
    "near_limit": "near_limit",
    "within_limit": "within_limit",
    "shadow_mode": "shadow",
}
# What we add to a refused response, and to the metadata of one (docs/ratelimit.md).
OURS = {"retry-after", "x-sentinel-reason"}


def test_every_case_was_recorded() -> None:
    assert [case["name"] for case in CASES] == [vector["name"] for vector in VECTORS]
    assert [len(case["requests"]) for case in CASES] == [len(vector["answers"]) for vector in VECTORS]
    assert 0 == sum(
        "configuration loaded" in answer.get("text", "") for v in VECTORS for answer in v["answers"]
    )


@pytest.mark.parametrize("leases", ["true", "false"])
@pytest.mark.parametrize(
    ("case", "vector"),
    [pytest.param(case, vector, id=case["name"]) for case, vector in zip(CASES, VECTORS, strict=True)],
)
async def test_answers_are_the_same(
    redis_server: RedisServer, tmp_path: Path, case: dict[str, Any], vector: dict[str, Any], leases: str
) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    for name, text in case["files"].items():
        (rules / name).write_text(text)
    environment = {
        "REDIS_URL": redis_server.url,
        "RATELIMIT_CONFIG_DIR": str(rules),
        "STORE_TIMEOUT_MS": "2000",
    }
    environment |= dict(SETTINGS[name] for name in case["env"] if name in SETTINGS)
    sentinel = Sentinel(tmp_path, {**environment, "RATELIMIT_LEASES": leases})
    sentinel.start()
    try:
        await sentinel.ready()
        with grpc.insecure_channel(f"127.0.0.1:{sentinel.grpc_port}") as channel:
            answers = ask_all(channel, case["requests"])
        metrics = await sentinel.metrics()
    finally:
        sentinel.discard()

    differs = case.get("differs", {})
    for number, (expected, answer) in enumerate(zip(vector["answers"], answers, strict=True)):
        is_same = _theirs(expected) == _without_ours(answer)
        assert is_same == (number not in differs), (case["requests"][number], expected, answer)
    if not differs:
        assert _their_counts(vector["statistics"]) == _our_counts(metrics, vector["statistics"])


def _their_counts(statistics: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    return {rule: {name: counts.get(name, 0) for name in STATISTICS} for rule, counts in statistics.items()}


def _our_counts(metrics: dict[str, float], rules: Iterable[str]) -> dict[str, dict[str, int]]:
    counts = {}
    for rule in rules:
        # A rule is named as there, its domain first.
        domain, _, name = rule.partition(".")
        labels = f'{{domain="{domain}",rule="{name}"}}'
        counts[rule] = {
            theirs: int(metrics.get(f"sentinel_ratelimit_{ours}_total{labels}", 0))
            for theirs, ours in STATISTICS.items()
        }
    return counts


def _theirs(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        # The same words under a code that says whose fault it was; Envoy treats all alike.
        return {"error": "INVALID_ARGUMENT", "text": answer["text"]}
    if "dynamicMetadata" in answer:
        answer["dynamicMetadata"] = _comparable(answer["dynamicMetadata"])
    return answer


def _without_ours(answer: dict[str, Any]) -> dict[str, Any]:
    kept = [each for each in answer.get("responseHeadersToAdd", []) if each["key"] not in OURS]
    answer.pop("responseHeadersToAdd", None)
    if kept:
        answer["responseHeadersToAdd"] = kept
    if "dynamicMetadata" in answer:
        answer["dynamicMetadata"].pop("sentinel", None)
        answer["dynamicMetadata"] = _comparable(answer["dynamicMetadata"])
    return answer


def _comparable(metadata: dict[str, Any]) -> dict[str, Any]:
    # The limit is protobuf's text form there, whose blanks Go's library varies on purpose.
    return json.loads(re.sub(r"\s+", " ", json.dumps(metadata, sort_keys=True)))
