"""Rules as people and programs read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sentinel_ext.policy.ratelimit import parse_rules, render_tree, tree

if TYPE_CHECKING:
    from sentinel_ext.core.ratelimit.rules import Rules


def parse(text: str) -> Rules:
    return parse_rules({"a.yaml": text}, merge=False, lenient=False)


SHOP = """
domain: shop
descriptors:
  - key: path
    value: /s*
    share_threshold: true
    rate_limit: {unit: second, requests_per_unit: 50, name: search}
  - key: user
    descriptors: [{key: free, rate_limit: {unlimited: true}}]
  - {key: white, value: x}
  - key: tenant
    shadow_mode: true
    metadata: {team: a}
    rate_limits:
      - {per: 366d, requests_per_unit: 9, algorithm: sliding_window, on_store_failure: local}
      - {per: 100ms, requests_per_unit: 5, algorithm: gcra, burst: 7, tier: economy, upstream: orders}
      - {unit: day, requests_per_unit: 1, replaces: [{name: search}]}
"""


def test_the_tree_says_what_results():
    assert (
        "domain shop\n"
        '  path=/s*: "search" 50 per second, fixed_window, share_threshold\n'
        "  white=x: no limit\n"
        "  user\n"
        "    free: unlimited\n"
        "  tenant: 9 per 31622400s, sliding_window, local without the store; "
        "5 per 100ms, gcra, burst 7, tier economy of upstream orders; "
        "1 per day, fixed_window, shadow"
    ) == render_tree(parse(SHOP))


def test_the_tree_as_data_holds_all_of_a_limit():
    (domain,) = json.loads(json.dumps(tree(parse(SHOP))))
    by_key = {descriptor["key"]: descriptor for descriptor in domain["descriptors"]}
    tenant = by_key["tenant"]

    assert ("shop", "a.yaml:4:5") == (domain["domain"], by_key["path"]["place"])
    assert (True, {"team": "a"}) == (tenant["shadow"], tenant["metadata"])
    assert [{"text": "unlimited", "unlimited": True}] == by_key["user"]["descriptors"][0]["limits"]
    assert [
        {"window_ms": 31_622_400_000, "algorithm": "sliding_window", "on_store_failure": "local"},
        {"window_ms": 100, "algorithm": "gcra", "burst": 7, "tier": "economy", "upstream": "orders"},
        {"window_ms": 86_400_000, "algorithm": "fixed_window", "replaces": ["search"]},
    ] == [{name: value for name, value in limit.items() if name not in COMMON} for limit in tenant["limits"]]


COMMON = {"text", "unlimited", "requests", "unit", "count_denied"}


def test_no_text_of_a_file_ends_the_line_or_speaks_to_the_terminal():
    odd = r'"a\n\e[31m\u202eb"'
    limit = f"{{unit: day, requests_per_unit: 1, name: {odd}, tier: vital, upstream: {odd}}}"
    text = render_tree(
        parse(f"domain: {odd}\ndescriptors: [{{key: {odd}, value: {odd}, rate_limit: {limit}}}]\n")
    )

    assert 2 == len(text.splitlines())
    assert text.replace("\n", "").isprintable()
