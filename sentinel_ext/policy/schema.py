"""The policy file, version 1, as models. Their descriptions become the JSON Schema that editors show.

A value that is left out is None here, whatever its default: the compiler knows the defaults, which partly
come from the environment. `null` is not a way to leave a single value out; sections and plans may be empty.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sentinel_ext.core.model import FailureMode, Mode, Tier
from sentinel_ext.policy.kinds import (
    MAX_BURST,
    MAX_LIMIT,
    Count,
    Duration,
    Exactly,
    Header,
    Name,
    OffOr,
    OneOf,
    Rate,
    Refill,
    Share,
    Switch,
    Whole,
    Window,
)
from sentinel_ext.wording import shown

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema

MAX_PLANS = 1_000
# Each takes about 1 KB in memory and 20 µs to read.
MAX_TENANTS = 100_000
MAX_SOURCES = 16
# Each has a breaker in Redis and its series. The table of core/controller.py has 256 places,
# two of them for `default` and `other`: what does not fit shares the latter.
MAX_UPSTREAMS = 254

PlanName = Annotated[str, Name("a plan's name")]
TenantName = Annotated[str, Name("a tenant's name")]
UpstreamName = Annotated[str, Name("an upstream's name")]
ModeWord = Annotated[str | None, OneOf(*Mode)]


def _without_null_defaults(schema: dict[str, Any]) -> None:
    for field in schema.get("properties", {}).values():
        if field.get("default", ...) is None:
            del field["default"]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_without_null_defaults)


class PlanSpec(_Spec):
    """What a tenant bought. Values that are left out come from the environment's defaults."""

    tier: Annotated[str | None, OneOf(*Tier)] = Field(
        None, description="Who is shed last when the system is pressed: vital, standard (default) or economy."
    )
    limit: Annotated[int | Literal["unlimited"] | None, Count(MAX_LIMIT)] = Field(
        None,
        description="Requests per window over all instances. 0 denies all. Default: BASE_RATE_LIMIT.",
    )
    window: Annotated[int | None, Window()] = Field(
        None,
        description="Length of the window, 100ms to 31d: 250ms, 60s, 5m, 1h, 1d. Default: WINDOW_MS.",
    )
    burst: Annotated[int | Literal["unlimited"] | None, Count(MAX_BURST)] = Field(
        None,
        description="Size of the token bucket that each instance keeps. 0 denies all, unlimited switches the "
        "bucket off. Default: BURST_CAPACITY.",
    )
    refill: Annotated[int | None, Refill()] = Field(
        None,
        description="Speed of refill: 100/s, 5/m, 1000/h, or a number (per second). Default: REFILL_RATE.",
    )
    on_store_failure: Annotated[str | None, OneOf(*FailureMode)] = Field(
        None,
        description="While the store cannot answer: open lets pass, closed refuses, local counts on each "
        "instance alone. Default: open for tier vital, else local.",
    )
    guaranteed: Annotated[int | None, Rate()] = Field(
        None,
        description="A contract, tier vital only: requests per second that each tenant is served before "
        "anybody else when an upstream is overloaded, such as 200/s. At most limit divided by window; all "
        "contracts together at most 0.7 of any upstream's capacity.",
    )
    weight: Annotated[int | None, Whole(1, 1000)] = Field(
        None,
        description="Part in what is shared out among the tenants of a tier when an upstream is overloaded, "
        "1 to 1000: one with 2 gets twice as much as one with 1. Default: 1.",
    )


class TenantSpec(PlanSpec):
    """The name of a plan, or numbers of the tenant's own, on top of a plan if one is named."""

    plan: Annotated[str | None, Name("a plan's name")] = Field(
        None, description="The plan whose values hold where this tenant has none of its own."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        if isinstance(value, str):
            return {"plan": value}
        if not isinstance(value, dict):
            hint = f'; write it in quotes: "{shown(value)}"' if isinstance(value, (int, float)) else ""
            message = (
                f"must be a plan's name, or a mapping of the tenant's own values (got {shown(value)}){hint}"
            )
            raise ValueError(message)  # noqa: TRY004 - pydantic collects ValueErrors only
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe both forms."""
        reference = handler(schema)
        whole = handler.resolve_ref_schema(reference)
        mapping = dict(whole)
        whole.clear()
        whole.update(
            description=mapping.pop("description"),
            anyOf=[{"type": "string", "description": "The name of a plan.", "minLength": 1}, mapping],
        )
        return reference


def _one_source(schema: dict[str, Any]) -> None:
    _without_null_defaults(schema)
    schema["oneOf"] = [{"required": [kind]} for kind in SOURCE_KINDS]
    schema["dependentRequired"] = {"payload": ["jwt_claim"]}


SOURCE_KINDS = ("header", "context_extension", "principal", "jwt_claim")


class SourceSpec(_Spec):
    """One place to look for the tenant's name."""

    model_config = ConfigDict(json_schema_extra=_one_source)

    header: Annotated[str | None, Header()] = Field(None, description="A request header. Any case.")
    context_extension: Annotated[str | None, Name("a key")] = Field(
        None, description="A key of the route's context_extensions in Envoy's configuration."
    )
    principal: Annotated[bool | None, Exactly(value=True)] = Field(
        None, description="true: the name in the client's certificate (mTLS)."
    )
    jwt_claim: Annotated[str | None, Name("a claim's name")] = Field(
        None, description="A claim of the token that Envoy's jwt_authn filter verified."
    )
    payload: Annotated[str | None, Name("a payload's name")] = Field(
        None, description="With jwt_claim: the filter's payload_in_metadata. Default: jwt_payload."
    )

    @model_validator(mode="after")
    def _has_one_kind(self) -> SourceSpec:
        given = [kind for kind in SOURCE_KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(
                f"must have exactly one of {', '.join(SOURCE_KINDS)} (got {' and '.join(given) or 'none'})"
            )
        if self.payload is not None and self.jwt_claim is None:
            raise ValueError("payload goes with jwt_claim only")
        return self


class StagesSpec(_Spec):
    """How each stage runs: enforce (default); shadow decides and counts but lets pass; off."""

    bucket: ModeWord = Field(None, description="The token bucket of each instance.")
    window: ModeWord = Field(None, description="The window over all instances.")
    pressure: ModeWord = Field(None, description="Shedding by tier while an upstream is overloaded.")
    breaker: ModeWord = Field(None, description="The circuit breaker of each upstream.")


class FailuresSpec(_Spec):
    """What else counts as a failure. Resets, timeouts, 502, 503, 504 and gRPC 4, 8, 14 always do."""

    count_500: Annotated[bool | None, Switch()] = Field(
        None, description="Whether status 500 counts as a failure. Default: false."
    )


class BreakerSpec(_Spec):
    """When an upstream's circuit breaker opens, and how it closes again. One for all instances."""

    failure_threshold: Annotated[float | None, Share()] = Field(
        None,
        description="Share of failed requests in the window that opens it. "
        "Default: BREAKER_FAILURE_THRESHOLD.",
    )
    consecutive_failures: Annotated[int | None, Whole(1, 1_000_000)] = Field(
        None,
        description="Failures without a success between them that open it, too. "
        "Default: BREAKER_CONSECUTIVE_FAILURES.",
    )
    min_requests: Annotated[int | None, Whole(1, 1_000_000)] = Field(
        None, description="Requests in the window below which shares open nothing. Default: 20."
    )
    window: Annotated[int | None, Duration("1s", "5m", "10s", "1m")] = Field(
        None, description="Over which requests are counted, 1s to 5m. Default: 10s."
    )
    cooldown: Annotated[int | None, Duration("100ms", "1h", "5s", "30s")] = Field(
        None,
        description="How long it stays open before the upstream is tried, 100ms to 1h; twice as long after "
        "each try that fails, up to 16 times. Default: BREAKER_COOLDOWN_MS.",
    )
    half_open_max_requests: Annotated[int | None, Whole(1, 10_000)] = Field(
        None,
        description="Requests let through to try the upstream, over all instances. "
        "Default: BREAKER_HALF_OPEN_MAX_REQUESTS.",
    )
    successes: Annotated[int | None, Whole(1, 10_000)] = Field(
        None,
        description="Of these, how many must succeed to close it. Default: 3, or half_open_max_requests if "
        "that is less.",
    )
    slow: Annotated[int | None, Duration("1ms", "1h", "500ms", "2s")] = Field(
        None, description="From where on a request counts as slow. With slow_rate. Default: none is slow."
    )
    slow_rate: Annotated[float | None, Share()] = Field(
        None, description="Share of slow requests in the window that opens it. With slow."
    )


class UpstreamSpec(_Spec):
    """What an upstream is held to. Values that are left out are those of the upstream "default"."""

    slo: Annotated[int | None, Duration("1ms", "1h", "200ms", "2s")] = Field(
        None, description="What a good request takes at most, 1ms to 1h. Default: SLO_LATENCY_THRESHOLD."
    )
    timeout: Annotated[int | None, Duration("1ms", "1d", "500ms", "15s")] = Field(
        None, description="Timeout of its route in Envoy, 1ms to 1d. Default: REQUEST_TIMEOUT_MS."
    )
    capacity: Annotated[int | None, Rate("requests", "1000/s", "60000/m")] = Field(
        None,
        description="What it was planned for, such as 1000/s. Only used to check contracts (guaranteed): "
        "how much it really serves is measured.",
    )
    failures: FailuresSpec | None = Field(None, description="What else counts as a failure.")
    breaker: Annotated[BreakerSpec | Literal["off"] | None, OffOr(BreakerSpec)] = Field(
        None, description="Its circuit breaker, or off for none."
    )


class PolicyFile(_Spec):
    """Who gets what from Sentinel: plans, tenants, how callers are told apart. All may be left out."""

    version: Annotated[int | None, Exactly(value=1)] = Field(None, description="Version of this format: 1.")
    plans: dict[PlanName, PlanSpec | None] | None = Field(
        None, description="Plans by name.", max_length=MAX_PLANS
    )
    default_plan: PlanName | None = Field(
        None,
        description='The plan of tenants that are not listed. Default: the plan "default"; if there is none, '
        "one made of the environment's values.",
    )
    tenants: dict[TenantName, TenantSpec] | None = Field(
        None,
        description="Plan by tenant. * in a name stands for any run of characters; a full name wins over "
        "any pattern, and of the patterns the one with the most other characters.",
        max_length=MAX_TENANTS,
    )
    identify: Annotated[list[SourceSpec], Field(min_length=1, max_length=MAX_SOURCES)] | None = Field(
        None,
        description="Where to look for a tenant's name; the first that has one wins. Default: TENANT_HEADER.",
    )
    upstreams: dict[UpstreamName, UpstreamSpec | None] | None = Field(
        None,
        description="What is protected, by the name that the route's context extension `upstream` gives. "
        'The one called "default" gives what others leave out, and holds for upstreams that are not listed.',
        max_length=MAX_UPSTREAMS,
    )
    stages: StagesSpec | None = Field(None, description="Stages that do not simply enforce.")
    ratelimit: Any = Field(
        None,
        description="Limits of RateLimitService in envoyproxy/ratelimit's format: a domain with its "
        "descriptors, or a list of domains (docs/ratelimit.md).",
        json_schema_extra={"anyOf": [{"type": "object"}, {"type": "array"}]},
    )


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the policy file."""
    schema = PolicyFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Sentinel policy"}


def json_schema_text() -> str:
    """Return `docs/policy.schema.json` as it is committed."""
    return json.dumps(json_schema(), indent=2) + "\n"
