"""Rules and requests of our own, to ask both envoyproxy/ratelimit and Sentinel. Windows are long: none ends.

`differs` names requests, by their number, whose answers are not alike, and why.
"""

from __future__ import annotations

from typing import Any

Case = dict[str, Any]


def d(*entries: tuple[str, str] | str, **more: Any) -> dict[str, Any]:
    """One descriptor as protobuf's JSON has it."""
    pairs = [entry if isinstance(entry, tuple) else (entry, "") for entry in entries]
    return {"entries": [{"key": key, "value": value} for key, value in pairs], **more}


def ask(*descriptors: dict[str, Any], domain: str = "shop", **more: Any) -> dict[str, Any]:
    return {"domain": domain, "descriptors": list(descriptors), **more}


MATCHING = """
domain: shop
descriptors:
  - {key: wild, value: "foo*", rate_limit: {unit: hour, requests_per_unit: 101}}
  - {key: wild, value: "*", rate_limit: {unit: hour, requests_per_unit: 102}}
  - {key: wild, value: foobar, rate_limit: {unit: hour, requests_per_unit: 103}}
  - {key: wild, rate_limit: {unit: hour, requests_per_unit: 104}}
  - {key: white, value: x}
  - {key: white, rate_limit: {unit: hour, requests_per_unit: 112}}
  - {key: code, value: 404, rate_limit: {unit: day, requests_per_unit: 116}}
  - {key: yes, value: yes, rate_limit: {unit: day, requests_per_unit: 117}}
  - {key: hex, value: 0x10, rate_limit: {unit: DAY, requests_per_unit: 118}}
  - key: deep
    rate_limit: {unit: hour, requests_per_unit: 120}
    descriptors:
      - key: below
        value: one
        rate_limit: {unit: hour, requests_per_unit: 121}
        descriptors:
          - {key: bottom, rate_limit: {unit: hour, requests_per_unit: 122}}
      - {key: below, value: two}
  - key: deep
    value: other
    descriptors:
      - {key: below, value: one, rate_limit: {unit: hour, requests_per_unit: 123}}
  - {key: nolimit}
"""

COUNTING = """
domain: shop
descriptors:
  - {key: three, rate_limit: {unit: day, requests_per_unit: 3, name: third}}
  - {key: ten, rate_limit: {unit: day, requests_per_unit: 10}}
  - {key: zero, rate_limit: {unit: hour, requests_per_unit: 0}}
  - {key: free, rate_limit: {unlimited: true}}
  - {key: shadow, shadow_mode: true, rate_limit: {unit: day, requests_per_unit: 1}}
  - {key: shared, value: "s*", share_threshold: true, rate_limit: {unit: day, requests_per_unit: 2}}
  - {key: banned, rate_limit: {unit: day, requests_per_unit: 0, name: ban}}
  - {key: vip, rate_limit: {unit: day, requests_per_unit: 50, name: vip, replaces: [{name: ban}]}}
  - {key: left, rate_limit: {unit: day, requests_per_unit: 5, name: l, replaces: [{name: r}]}}
  - {key: right, rate_limit: {unit: day, requests_per_unit: 5, name: r, replaces: [{name: l}]}}
  - {key: week, rate_limit: {unit: week, requests_per_unit: 7}}
  - {key: month, rate_limit: {unit: month, requests_per_unit: 8}}
  - {key: year, rate_limit: {unit: year, requests_per_unit: 9}}
"""

QUOTA = """
domain: shop
descriptors:
  - {key: q1, quota_mode: true, rate_limit: {unit: day, requests_per_unit: 1}}
  - {key: q2, quota_mode: true, rate_limit: {unit: day, requests_per_unit: 2}}
  - {key: three, rate_limit: {unit: day, requests_per_unit: 3}}
"""

PATTERNS = """
domain: shop
descriptors:
  - {key: any, value: "*", rate_limit: {unit: day, requests_per_unit: 201}}
  - {key: any, rate_limit: {unit: day, requests_per_unit: 202}}
  - {key: start, value: "a*", rate_limit: {unit: day, requests_per_unit: 203}}
  - {key: start, value: "ab*", rate_limit: {unit: day, requests_per_unit: 204}}
  - key: start
    value: "x_*"
    descriptors:
      - {key: in, value: "y*", rate_limit: {unit: day, requests_per_unit: 205}}
      - {key: in, rate_limit: {unit: day, requests_per_unit: 206}}
  - key: start
    descriptors:
      - {key: in, rate_limit: {unit: day, requests_per_unit: 207}}
  - {key: middle, value: "a*z", rate_limit: {unit: day, requests_per_unit: 208}}
  - {key: end, value: "*z", rate_limit: {unit: day, requests_per_unit: 209}}
"""

# Limit, hits of the request that is looked at, and what is counted after it.
SPLITS = [
    (15, 1, 11), (15, 1, 12), (15, 1, 13), (15, 1, 15), (15, 1, 16), (8, 2, 7), (20, 3, 19), (20, 3, 22),
    (20, 7, 22), (10, 3, 30), (10, 10, 10), (10, 25, 25), (1, 1, 1), (1, 1, 2), (3, 2, 4), (0, 1, 1),
]  # fmt: skip
SPLIT_RULES = "domain: shop\ndescriptors:\n" + "".join(
    f"  - {{key: at{number}, rate_limit: {{unit: day, requests_per_unit: {limit}}}}}\n"
    for number, (limit, _, _) in enumerate(SPLITS)
)

MERGED = """
domain: {}
descriptors:
  - key: {}
    rate_limit: {{unit: day, requests_per_unit: {}}}
"""

LATER = (
    "the recorded version calls over-quota descriptors OK and never refuses for them, later ones do; so do we"
)
ANYWHERE = "the recorded version knows a star at the end only, later ones anywhere; so do we"

HITS = {"hitsAddend": "0"}
CASES: list[Case] = [
    {
        "name": "matching",
        "env": {},
        "files": {"a.yaml": MATCHING},
        "requests": [
            *[ask(d(("wild", value))) for value in ("foo1", "foobar", "zzz", "foo*", "", "foo")],
            ask(d(("Wild", "foo1"))), ask(d("wild")), ask(d(("white", "x"))), ask(d(("white", "y"))),
            ask(d(("code", "404"))), ask(d(("yes", "yes"))), ask(d(("yes", "true"))), ask(d(("hex", "0x10"))),
            ask(d(("hex", "16"))),
            ask(d(("deep", "x"))), ask(d(("deep", "x"), ("below", "one"))),
            ask(d(("deep", "x"), ("below", "two"))),
            ask(d(("deep", "x"), ("below", "three"))), ask(d(("deep", "other"))),
            ask(d(("deep", "other"), ("below", "one"))), ask(d(("deep", "other"), ("below", "two"))),
            ask(d(("deep", "x"), ("below", "one"), ("bottom", "b"))),
            ask(d(("deep", "x"), ("below", "one"), ("bottom", "b"), ("more", "m"))),
            ask(d(("below", "one"), ("deep", "x"))), ask(d(("nolimit", "n"))), ask(d()),
            ask(d(("wild", "foo1")), d(("white", "x")), d(("nobody", "n"))),
            ask(d(("wild", "foo1")), domain="unknown"), ask(d(("wild", "x")), domain=""), ask(),
            ask(d(("wild", "foo1")), domain="Shop"),
        ],
    },
    {
        "name": "counting",
        "env": {},
        "files": {"a.yaml": COUNTING},
        "requests": [
            *[ask(d(("three", "a"))) for _ in range(5)], ask(d(("three", "b"))),
            *[ask(d(("ten", "h")), hitsAddend=hits) for hits in (4, 4, 4, 1)],
            ask(d(("ten", "o")), hitsAddend=11), ask(d(("ten", "o"))),
            *[ask(d(("ten", "p"), hitsAddend=str(hits)), hitsAddend=9) for hits in (0, 10, 0, 1, 0, 0)],
            ask(d(("ten", "q"), hitsAddend="3"), d(("ten", "q2")), hitsAddend=2),
            ask(d(("zero", "z"))), ask(d(("zero", "z"), **HITS)),
            ask(d(("free", "f"))), ask(d(("free", "f")), d(("three", "c"))),
            *[ask(d(("shadow", "s"))) for _ in range(3)],
            *[ask(d(("three", "m")), d(("ten", "m"))) for _ in range(5)], ask(d(("ten", "m"), **HITS)),
            ask(d(("shared", "s1"))), ask(d(("shared", "s2"))), ask(d(("shared", "s3"))),
            ask(d(("banned", "x"))), ask(d(("banned", "x")), d(("vip", "v"))),
            ask(d(("left", "x")), d(("right", "x"))), ask(d(("left", "x"))),
            ask(d(("week", "x"))), ask(d(("month", "x"))), ask(d(("year", "x"))),
            *[
                ask(d(("own", "1"), limit={"requestsPerUnit": 2, "unit": unit}))
                for unit in ("HOUR", "HOUR", "HOUR", "DAY", "MONTH", "YEAR")
            ],
            ask(d(("three", "own"), limit={"requestsPerUnit": 1, "unit": "DAY"})),
            ask(d(("three", "own"), limit={"requestsPerUnit": 1, "unit": "DAY"})),
            ask(d(("own", "1"), limit={"requestsPerUnit": 2, "unit": "DAY"}), domain="unknown"),
            ask(d(("ten", "dup")), d(("ten", "dup"))),
        ],
    },
    {
        "name": "shadow for all",
        "env": {"SHADOW_MODE": "true"},
        "files": {"a.yaml": COUNTING},
        "requests": [ask(d(("three", "a"))) for _ in range(5)],
    },
    {
        "name": "headers",
        "env": {"LIMIT_RESPONSE_HEADERS_ENABLED": "true"},
        "files": {"a.yaml": COUNTING},
        "requests": [
            *[ask(d(("three", "a"))) for _ in range(4)], ask(d(("nobody", "n"))), ask(d(("free", "f"))),
            ask(d(("ten", "a")), d(("three", "b"))),
            ask(d(("ten", "a")), d(("zero", "a")), d(("three", "a"))),
            ask(d(("shadow", "a"))), ask(d(("shadow", "a")), d(("ten", "a"))),
        ],
    },
    {
        "name": "metadata",
        "env": {"RESPONSE_DYNAMIC_METADATA": "true"},
        "files": {"a.yaml": COUNTING},
        "requests": [
            *[ask(d(("three", "a")), d(("ten", "a"))) for _ in range(4)],
            ask(d(("ten", "b"), hitsAddend="2"), hitsAddend=3), ask(d(("nobody", "n"))),
            ask(d(("own", "1"), limit={"requestsPerUnit": 2, "unit": "HOUR"})),
        ],
    },
    {
        "name": "patterns",
        "env": {},
        "files": {"a.yaml": PATTERNS},
        "requests": [
            *[ask(d(("any", value))) for value in ("", "x", "*")],
            *[ask(d(("start", value))) for value in ("a", "ab", "abc", "A", "ba", "x_")],
            *[ask(d(("start", "x_1"), ("in", value))) for value in ("y", "yy", "z", "")],
            ask(d(("start", "a1"), ("in", "y"))), ask(d(("start", "q"), ("in", "y"))),
            ask(d(("middle", "a*z"))), ask(d(("middle", "a"))),
            ask(d(("middle", "az"))), ask(d(("middle", "abcz"))), ask(d(("end", "fuzz"))),
        ],
        "differs": dict.fromkeys((17, 18, 19), ANYWHERE),
    },
    {
        "name": "splits",
        "env": {},
        "files": {"a.yaml": SPLIT_RULES},
        "requests": [
            ask(d((f"at{number}", "v"), hitsAddend=str(hits)))
            for number, (_, addend, after) in enumerate(SPLITS)
            for hits in (after - addend, addend)
        ],
    },
    {
        "name": "over limit, remembered",
        "env": {"LOCAL_CACHE_SIZE_IN_BYTES": "1000000"},
        "files": {"a.yaml": COUNTING},
        "requests": [
            *[ask(d(("three", "a"))) for _ in range(8)],
            *[ask(d(("three", "b")), d(("ten", "b")), hitsAddend=4) for _ in range(4)],
            *[ask(d(("three", "a"), hitsAddend=str(hits))) for hits in (0, 5)],
        ],
    },
    {
        "name": "quota",
        "env": {},
        "files": {"a.yaml": QUOTA},
        "requests": [
            *[ask(d(("q1", "a")), d(("q2", "a"))) for _ in range(3)],
            *[ask(d(("q1", "b")), d(("three", "b"))) for _ in range(4)],
            *[ask(d(("q1", "c")), d(("nobody", "c"))) for _ in range(2)],
            *[ask(d(("q2", "d"))) for _ in range(3)],
        ],
        "differs": dict.fromkeys((1, 2, 4, 5, 6, 8, 11), LATER),
    },
    {
        "name": "quota for all",
        "env": {"QUOTA_MODE": "true"},
        "files": {"a.yaml": QUOTA},
        "requests": [
            *[ask(d(("three", "a")), d(("q1", "a"))) for _ in range(4)],
            *[ask(d(("three", "b")), d(("nobody", "b")), hitsAddend=4) for _ in range(2)],
            *[ask(d(("three", "c"), hitsAddend="4")) for _ in range(2)],
        ],
        "differs": dict.fromkeys(range(1, 8), LATER),
    },
    {
        "name": "merged domains",
        "env": {"MERGE_DOMAIN_CONFIG": "true"},
        "files": {
            "a.yaml": MERGED.format("shop", "a", 1),
            "b.yaml": MERGED.format("shop", "b", 2),
            "c.yaml": MERGED.format("other", "c", 3),
        },
        "requests": [
            ask(d(("a", "1"))), ask(d(("b", "1"))), ask(d(("c", "1"))), ask(d(("c", "1")), domain="other"),
        ],
    },
]  # fmt: skip
