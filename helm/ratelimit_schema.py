"""What the chart's templates hold a rate limit file to: a JSON Schema made of the reader's own words.

Like that of the policy it may allow more than the reader and never less. Two words are not of JSON Schema:
`words` is what a message says is allowed, `misplaced` are keys without effect, for lenient readers only.
"""

from __future__ import annotations

from typing import Any

from sentinel_ext.core.model import Tier
from sentinel_ext.core.ratelimit.rules import UNIT_SECONDS, Algorithm, OnStoreFailure
from sentinel_ext.policy.ratelimit.descriptors import MAX_LIMITS
from sentinel_ext.policy.ratelimit.reading import DESCRIPTOR, LIMIT, MAX_UINT32, ROOT

_Schema = dict[str, Any]
_ALL = frozenset((*ROOT, *DESCRIPTOR, *LIMIT))
# Whatever a plain word looks like, it is text; of numbers those that are whole. Null is nothing.
_TEXT: _Schema = {"type": ["string", "boolean", "integer", "null"], "words": "text"}
_NAME: _Schema = {
    "type": ["string", "boolean", "integer"],
    "minLength": 1,
    "words": "text that is not empty",
}
# Readers of YAML 1.1 differ over a plain y.
_LETTERS = ["y", "Y", "n", "N"]
_FLAG: _Schema = {"enum": [True, False, None, *_LETTERS], "words": "true or false"}


def ratelimit_schema() -> _Schema:
    """Return the schema, draft 7."""
    return {"$ref": "#/definitions/Domain", "definitions": definitions()}


def definitions() -> dict[str, _Schema]:
    """Return its parts."""
    descriptors = _list({"$ref": "#/definitions/Descriptor"})
    limit = {"$ref": "#/definitions/Limit"}
    flags = (key for key in DESCRIPTOR if key.endswith(("_mode", "_metric", "_threshold")))
    return {
        "Domain": _mapping(ROOT, {"domain": _NAME, "descriptors": descriptors}, "domain"),
        "Descriptor": _mapping(
            DESCRIPTOR,
            {
                **dict.fromkeys(flags, _FLAG),
                "key": _NAME,
                "value": _TEXT,
                "rate_limit": {"anyOf": [limit, {"type": "null"}], "words": "a mapping"},
                "rate_limits": {**_list(limit), "maxItems": MAX_LIMITS},
                "descriptors": descriptors,
                "metadata": {"type": ["object", "null"], "words": "a mapping"},
            },
            "key",
        ),
        "Limit": _limit(),
        "Replaced": {**_mapping(("name",), {"name": _NAME}, "name"), "misplaced": sorted(_ALL - {"name"})},
    }


def _limit() -> _Schema:
    units = "|".join(unit.value for unit in UNIT_SECONDS)
    unit = {
        "type": "string",
        "pattern": f"^(?i:{units})$",
        "words": units.replace("|", ", ") + ", or per: a duration such as 30s",
    }
    known = {
        **dict.fromkeys(("unit", "name", "upstream"), _TEXT),
        **dict.fromkeys(("unlimited", "count_denied"), _FLAG),
        "per": {
            "type": ["string", "null"],
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
            "words": "a duration such as 30s",
        },
        "requests_per_unit": _whole(0),
        "burst": _whole(1),
        "replaces": _list({"$ref": "#/definitions/Replaced"}),
        "algorithm": _word(*Algorithm),
        "on_store_failure": _word(*OnStoreFailure),
        "tier": _word(*Tier),
    }
    endless = {"required": ["unlimited"], "properties": {"unlimited": {"enum": [True, *_LETTERS]}}}
    windowed = {
        "if": {"required": ["per"]},
        "then": {},
        "else": {"required": ["unit"], "properties": {"unit": unit}},
    }
    return {**_mapping(LIMIT, known), "if": endless, "then": {}, "else": windowed}


def _mapping(keys: tuple[str, ...], known: dict[str, _Schema], *required: str) -> _Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "misplaced": sorted(_ALL - set(keys)),
        "required": list(required),
        # A key without a schema here fails the build of the chart, not somebody's install.
        "properties": {key: known[key] for key in keys},
    }


def _list(items: _Schema) -> _Schema:
    return {"type": ["array", "null"], "items": items, "words": "a list"}


def _whole(least: int) -> _Schema:
    words = f"a whole number from {least} to {MAX_UINT32}"
    return {"type": ["integer", "null"], "minimum": least, "maximum": MAX_UINT32, "words": words}


def _word(*words: str) -> _Schema:
    return {"enum": [*map(str, words), None]}
