import datetime

from envoy.service.auth.v3 import external_auth_pb2 as _external_auth_pb2
from envoy.service.ratelimit.v3 import rls_pb2 as _rls_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplainRequest(_message.Message):
    __slots__ = ("check", "rate_limit", "request")
    CHECK_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    check: _external_auth_pb2.CheckRequest
    rate_limit: _rls_pb2.RateLimitRequest
    request: RequestSketch
    def __init__(self, check: _Optional[_Union[_external_auth_pb2.CheckRequest, _Mapping]] = ..., rate_limit: _Optional[_Union[_rls_pb2.RateLimitRequest, _Mapping]] = ..., request: _Optional[_Union[RequestSketch, _Mapping]] = ...) -> None: ...

class RequestSketch(_message.Message):
    __slots__ = ("tenant", "method", "path", "upstream", "headers")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TENANT_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    method: str
    path: str
    upstream: str
    headers: _containers.ScalarMap[str, str]
    def __init__(self, tenant: _Optional[str] = ..., method: _Optional[str] = ..., path: _Optional[str] = ..., upstream: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("sentence", "advice", "allowed", "stage", "reason", "http_status", "identity", "stages", "descriptors", "client_headers", "upstream_headers", "body", "instance")
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTORS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_HEADERS_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_HEADERS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    sentence: str
    advice: str
    allowed: bool
    stage: str
    reason: str
    http_status: int
    identity: Identity
    stages: _containers.RepeatedCompositeFieldContainer[StageExplanation]
    descriptors: _containers.RepeatedCompositeFieldContainer[DescriptorExplanation]
    client_headers: _containers.RepeatedCompositeFieldContainer[Header]
    upstream_headers: _containers.RepeatedCompositeFieldContainer[Header]
    body: str
    instance: str
    def __init__(self, sentence: _Optional[str] = ..., advice: _Optional[str] = ..., allowed: _Optional[bool] = ..., stage: _Optional[str] = ..., reason: _Optional[str] = ..., http_status: _Optional[int] = ..., identity: _Optional[_Union[Identity, _Mapping]] = ..., stages: _Optional[_Iterable[_Union[StageExplanation, _Mapping]]] = ..., descriptors: _Optional[_Iterable[_Union[DescriptorExplanation, _Mapping]]] = ..., client_headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ..., upstream_headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ..., body: _Optional[str] = ..., instance: _Optional[str] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Identity(_message.Message):
    __slots__ = ("tenant", "found_in", "sources", "problem", "plan", "plan_rule", "plan_why", "upstream", "upstream_why", "is_known")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    FOUND_IN_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    PLAN_RULE_FIELD_NUMBER: _ClassVar[int]
    PLAN_WHY_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_WHY_FIELD_NUMBER: _ClassVar[int]
    IS_KNOWN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    found_in: str
    sources: _containers.RepeatedScalarFieldContainer[str]
    problem: str
    plan: Plan
    plan_rule: str
    plan_why: str
    upstream: str
    upstream_why: str
    is_known: bool
    def __init__(self, tenant: _Optional[str] = ..., found_in: _Optional[str] = ..., sources: _Optional[_Iterable[str]] = ..., problem: _Optional[str] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., plan_rule: _Optional[str] = ..., plan_why: _Optional[str] = ..., upstream: _Optional[str] = ..., upstream_why: _Optional[str] = ..., is_known: _Optional[bool] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("name", "tier", "limit", "window_ms", "burst", "refill_per_s", "on_store_failure", "weight", "guaranteed_per_s")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    BURST_FIELD_NUMBER: _ClassVar[int]
    REFILL_PER_S_FIELD_NUMBER: _ClassVar[int]
    ON_STORE_FAILURE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    GUARANTEED_PER_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    tier: str
    limit: int
    window_ms: int
    burst: int
    refill_per_s: float
    on_store_failure: str
    weight: int
    guaranteed_per_s: float
    def __init__(self, name: _Optional[str] = ..., tier: _Optional[str] = ..., limit: _Optional[int] = ..., window_ms: _Optional[int] = ..., burst: _Optional[int] = ..., refill_per_s: _Optional[float] = ..., on_store_failure: _Optional[str] = ..., weight: _Optional[int] = ..., guaranteed_per_s: _Optional[float] = ...) -> None: ...

class StageExplanation(_message.Message):
    __slots__ = ("stage", "mode", "is_mode_set", "verdict", "decides", "reason", "text", "retry_ms", "bucket", "window", "pressure", "breaker", "policy_mode")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    IS_MODE_SET_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DECIDES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RETRY_MS_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    PRESSURE_FIELD_NUMBER: _ClassVar[int]
    BREAKER_FIELD_NUMBER: _ClassVar[int]
    POLICY_MODE_FIELD_NUMBER: _ClassVar[int]
    stage: str
    mode: str
    is_mode_set: bool
    verdict: str
    decides: bool
    reason: str
    text: str
    retry_ms: int
    bucket: BucketNumbers
    window: WindowNumbers
    pressure: PressureNumbers
    breaker: BreakerNumbers
    policy_mode: str
    def __init__(self, stage: _Optional[str] = ..., mode: _Optional[str] = ..., is_mode_set: _Optional[bool] = ..., verdict: _Optional[str] = ..., decides: _Optional[bool] = ..., reason: _Optional[str] = ..., text: _Optional[str] = ..., retry_ms: _Optional[int] = ..., bucket: _Optional[_Union[BucketNumbers, _Mapping]] = ..., window: _Optional[_Union[WindowNumbers, _Mapping]] = ..., pressure: _Optional[_Union[PressureNumbers, _Mapping]] = ..., breaker: _Optional[_Union[BreakerNumbers, _Mapping]] = ..., policy_mode: _Optional[str] = ...) -> None: ...

class BucketNumbers(_message.Message):
    __slots__ = ("tokens", "burst", "refill_per_s", "hits")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    BURST_FIELD_NUMBER: _ClassVar[int]
    REFILL_PER_S_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    tokens: int
    burst: int
    refill_per_s: float
    hits: int
    def __init__(self, tokens: _Optional[int] = ..., burst: _Optional[int] = ..., refill_per_s: _Optional[float] = ..., hits: _Optional[int] = ...) -> None: ...

class WindowNumbers(_message.Message):
    __slots__ = ("limit", "effective_limit", "used", "remaining", "reset_ms", "window_ms", "hits", "store_fault", "fallback", "key")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    RESET_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    STORE_FAULT_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    limit: int
    effective_limit: int
    used: int
    remaining: int
    reset_ms: int
    window_ms: int
    hits: int
    store_fault: str
    fallback: str
    key: str
    def __init__(self, limit: _Optional[int] = ..., effective_limit: _Optional[int] = ..., used: _Optional[int] = ..., remaining: _Optional[int] = ..., reset_ms: _Optional[int] = ..., window_ms: _Optional[int] = ..., hits: _Optional[int] = ..., store_fault: _Optional[str] = ..., fallback: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class PressureNumbers(_message.Message):
    __slots__ = ("score", "shed_probability", "tier", "cause", "credit_per_s", "offered_per_s", "in_flight", "in_flight_limit", "is_blind", "signals")
    class SignalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SHED_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_PER_S_FIELD_NUMBER: _ClassVar[int]
    OFFERED_PER_S_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    IS_BLIND_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    score: float
    shed_probability: float
    tier: str
    cause: str
    credit_per_s: float
    offered_per_s: float
    in_flight: int
    in_flight_limit: float
    is_blind: bool
    signals: _containers.ScalarMap[str, float]
    def __init__(self, score: _Optional[float] = ..., shed_probability: _Optional[float] = ..., tier: _Optional[str] = ..., cause: _Optional[str] = ..., credit_per_s: _Optional[float] = ..., offered_per_s: _Optional[float] = ..., in_flight: _Optional[int] = ..., in_flight_limit: _Optional[float] = ..., is_blind: _Optional[bool] = ..., signals: _Optional[_Mapping[str, float]] = ...) -> None: ...

class BreakerNumbers(_message.Message):
    __slots__ = ("state", "forced", "trip_reason", "retry_ms", "ok", "failed", "slow", "consecutive_failures", "permits", "permits_max", "without_store")
    STATE_FIELD_NUMBER: _ClassVar[int]
    FORCED_FIELD_NUMBER: _ClassVar[int]
    TRIP_REASON_FIELD_NUMBER: _ClassVar[int]
    RETRY_MS_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    SLOW_FIELD_NUMBER: _ClassVar[int]
    CONSECUTIVE_FAILURES_FIELD_NUMBER: _ClassVar[int]
    PERMITS_FIELD_NUMBER: _ClassVar[int]
    PERMITS_MAX_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_STORE_FIELD_NUMBER: _ClassVar[int]
    state: str
    forced: str
    trip_reason: str
    retry_ms: int
    ok: int
    failed: int
    slow: int
    consecutive_failures: int
    permits: int
    permits_max: int
    without_store: bool
    def __init__(self, state: _Optional[str] = ..., forced: _Optional[str] = ..., trip_reason: _Optional[str] = ..., retry_ms: _Optional[int] = ..., ok: _Optional[int] = ..., failed: _Optional[int] = ..., slow: _Optional[int] = ..., consecutive_failures: _Optional[int] = ..., permits: _Optional[int] = ..., permits_max: _Optional[int] = ..., without_store: _Optional[bool] = ...) -> None: ...

class DescriptorExplanation(_message.Message):
    __slots__ = ("entries", "rule", "place", "why", "verdict", "shadow", "quota", "limits")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedScalarFieldContainer[str]
    rule: str
    place: str
    why: str
    verdict: str
    shadow: bool
    quota: bool
    limits: _containers.RepeatedCompositeFieldContainer[LimitNumbers]
    def __init__(self, entries: _Optional[_Iterable[str]] = ..., rule: _Optional[str] = ..., place: _Optional[str] = ..., why: _Optional[str] = ..., verdict: _Optional[str] = ..., shadow: _Optional[bool] = ..., quota: _Optional[bool] = ..., limits: _Optional[_Iterable[_Union[LimitNumbers, _Mapping]]] = ...) -> None: ...

class LimitNumbers(_message.Message):
    __slots__ = ("name", "algorithm", "limit", "window_ms", "used", "remaining", "hits", "over", "reset_ms", "retry_ms", "leased", "store_fault", "on_store_failure")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    RESET_MS_FIELD_NUMBER: _ClassVar[int]
    RETRY_MS_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    STORE_FAULT_FIELD_NUMBER: _ClassVar[int]
    ON_STORE_FAILURE_FIELD_NUMBER: _ClassVar[int]
    name: str
    algorithm: str
    limit: int
    window_ms: int
    used: int
    remaining: int
    hits: int
    over: bool
    reset_ms: int
    retry_ms: int
    leased: int
    store_fault: str
    on_store_failure: str
    def __init__(self, name: _Optional[str] = ..., algorithm: _Optional[str] = ..., limit: _Optional[int] = ..., window_ms: _Optional[int] = ..., used: _Optional[int] = ..., remaining: _Optional[int] = ..., hits: _Optional[int] = ..., over: _Optional[bool] = ..., reset_ms: _Optional[int] = ..., retry_ms: _Optional[int] = ..., leased: _Optional[int] = ..., store_fault: _Optional[str] = ..., on_store_failure: _Optional[str] = ...) -> None: ...

class GetTenantRequest(_message.Message):
    __slots__ = ("tenant",)
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    def __init__(self, tenant: _Optional[str] = ...) -> None: ...

class GetTenantResponse(_message.Message):
    __slots__ = ("tenant", "instance")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    tenant: Tenant
    instance: str
    def __init__(self, tenant: _Optional[_Union[Tenant, _Mapping]] = ..., instance: _Optional[str] = ...) -> None: ...

class Tenant(_message.Message):
    __slots__ = ("tenant", "plan", "plan_rule", "rate_per_s", "allowed", "denied", "used", "effective_limit", "tokens", "is_known")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    PLAN_RULE_FIELD_NUMBER: _ClassVar[int]
    RATE_PER_S_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    DENIED_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    IS_KNOWN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    plan: Plan
    plan_rule: str
    rate_per_s: float
    allowed: int
    denied: int
    used: int
    effective_limit: int
    tokens: int
    is_known: bool
    def __init__(self, tenant: _Optional[str] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., plan_rule: _Optional[str] = ..., rate_per_s: _Optional[float] = ..., allowed: _Optional[int] = ..., denied: _Optional[int] = ..., used: _Optional[int] = ..., effective_limit: _Optional[int] = ..., tokens: _Optional[int] = ..., is_known: _Optional[bool] = ...) -> None: ...

class ListTenantsRequest(_message.Message):
    __slots__ = ("limit", "order_by", "prefix")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    limit: int
    order_by: str
    prefix: str
    def __init__(self, limit: _Optional[int] = ..., order_by: _Optional[str] = ..., prefix: _Optional[str] = ...) -> None: ...

class ListTenantsResponse(_message.Message):
    __slots__ = ("tenants", "total", "instance")
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    tenants: _containers.RepeatedCompositeFieldContainer[Tenant]
    total: int
    instance: str
    def __init__(self, tenants: _Optional[_Iterable[_Union[Tenant, _Mapping]]] = ..., total: _Optional[int] = ..., instance: _Optional[str] = ...) -> None: ...

class GetPressureRequest(_message.Message):
    __slots__ = ("upstream",)
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    upstream: str
    def __init__(self, upstream: _Optional[str] = ...) -> None: ...

class GetPressureResponse(_message.Message):
    __slots__ = ("score", "level", "local_score", "local_signals", "upstreams", "instance")
    class LocalSignalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    LOCAL_SCORE_FIELD_NUMBER: _ClassVar[int]
    LOCAL_SIGNALS_FIELD_NUMBER: _ClassVar[int]
    UPSTREAMS_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    score: float
    level: str
    local_score: float
    local_signals: _containers.ScalarMap[str, float]
    upstreams: _containers.RepeatedCompositeFieldContainer[UpstreamPressure]
    instance: str
    def __init__(self, score: _Optional[float] = ..., level: _Optional[str] = ..., local_score: _Optional[float] = ..., local_signals: _Optional[_Mapping[str, float]] = ..., upstreams: _Optional[_Iterable[_Union[UpstreamPressure, _Mapping]]] = ..., instance: _Optional[str] = ...) -> None: ...

class UpstreamPressure(_message.Message):
    __slots__ = ("upstream", "score", "signals", "offered_per_s", "admitted_per_s", "completed_per_s", "credit_per_s", "peak_per_s", "baseline_ms", "in_flight", "tier_share", "is_blind", "instances")
    class SignalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class TierShareEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    OFFERED_PER_S_FIELD_NUMBER: _ClassVar[int]
    ADMITTED_PER_S_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_PER_S_FIELD_NUMBER: _ClassVar[int]
    CREDIT_PER_S_FIELD_NUMBER: _ClassVar[int]
    PEAK_PER_S_FIELD_NUMBER: _ClassVar[int]
    BASELINE_MS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    TIER_SHARE_FIELD_NUMBER: _ClassVar[int]
    IS_BLIND_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    upstream: str
    score: float
    signals: _containers.ScalarMap[str, float]
    offered_per_s: float
    admitted_per_s: float
    completed_per_s: float
    credit_per_s: float
    peak_per_s: float
    baseline_ms: float
    in_flight: int
    tier_share: _containers.ScalarMap[str, float]
    is_blind: bool
    instances: int
    def __init__(self, upstream: _Optional[str] = ..., score: _Optional[float] = ..., signals: _Optional[_Mapping[str, float]] = ..., offered_per_s: _Optional[float] = ..., admitted_per_s: _Optional[float] = ..., completed_per_s: _Optional[float] = ..., credit_per_s: _Optional[float] = ..., peak_per_s: _Optional[float] = ..., baseline_ms: _Optional[float] = ..., in_flight: _Optional[int] = ..., tier_share: _Optional[_Mapping[str, float]] = ..., is_blind: _Optional[bool] = ..., instances: _Optional[int] = ...) -> None: ...

class ListBreakersRequest(_message.Message):
    __slots__ = ("upstream",)
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    upstream: str
    def __init__(self, upstream: _Optional[str] = ...) -> None: ...

class ListBreakersResponse(_message.Message):
    __slots__ = ("breakers", "instance")
    BREAKERS_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    breakers: _containers.RepeatedCompositeFieldContainer[Breaker]
    instance: str
    def __init__(self, breakers: _Optional[_Iterable[_Union[Breaker, _Mapping]]] = ..., instance: _Optional[str] = ...) -> None: ...

class Breaker(_message.Message):
    __slots__ = ("upstream", "numbers", "epoch", "backoff_level", "history")
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_LEVEL_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    upstream: str
    numbers: BreakerNumbers
    epoch: int
    backoff_level: int
    history: _containers.RepeatedCompositeFieldContainer[BreakerChange]
    def __init__(self, upstream: _Optional[str] = ..., numbers: _Optional[_Union[BreakerNumbers, _Mapping]] = ..., epoch: _Optional[int] = ..., backoff_level: _Optional[int] = ..., history: _Optional[_Iterable[_Union[BreakerChange, _Mapping]]] = ...) -> None: ...

class BreakerChange(_message.Message):
    __slots__ = ("time", "before", "after", "reason", "forced", "without_store")
    TIME_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FORCED_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_STORE_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    before: str
    after: str
    reason: str
    forced: str
    without_store: bool
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., before: _Optional[str] = ..., after: _Optional[str] = ..., reason: _Optional[str] = ..., forced: _Optional[str] = ..., without_store: _Optional[bool] = ...) -> None: ...

class WatchDecisionsRequest(_message.Message):
    __slots__ = ("tenants", "stages", "verdict", "sample", "upstreams", "kind")
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    UPSTREAMS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    tenants: _containers.RepeatedScalarFieldContainer[str]
    stages: _containers.RepeatedScalarFieldContainer[str]
    verdict: str
    sample: float
    upstreams: _containers.RepeatedScalarFieldContainer[str]
    kind: str
    def __init__(self, tenants: _Optional[_Iterable[str]] = ..., stages: _Optional[_Iterable[str]] = ..., verdict: _Optional[str] = ..., sample: _Optional[float] = ..., upstreams: _Optional[_Iterable[str]] = ..., kind: _Optional[str] = ...) -> None: ...

class DecisionEvent(_message.Message):
    __slots__ = ("time", "kind", "allowed", "stage", "reason", "tenant", "tier", "plan", "upstream", "route", "limit", "remaining", "retry_ms", "duration_us", "correlation_id", "decision_id", "trace_id", "shadow", "fallback", "domain", "rules", "missed")
    TIME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    RETRY_MS_FIELD_NUMBER: _ClassVar[int]
    DURATION_US_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    kind: str
    allowed: bool
    stage: str
    reason: str
    tenant: str
    tier: str
    plan: str
    upstream: str
    route: str
    limit: int
    remaining: int
    retry_ms: int
    duration_us: int
    correlation_id: str
    decision_id: str
    trace_id: str
    shadow: _containers.RepeatedScalarFieldContainer[str]
    fallback: str
    domain: str
    rules: _containers.RepeatedScalarFieldContainer[str]
    missed: int
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[str] = ..., allowed: _Optional[bool] = ..., stage: _Optional[str] = ..., reason: _Optional[str] = ..., tenant: _Optional[str] = ..., tier: _Optional[str] = ..., plan: _Optional[str] = ..., upstream: _Optional[str] = ..., route: _Optional[str] = ..., limit: _Optional[int] = ..., remaining: _Optional[int] = ..., retry_ms: _Optional[int] = ..., duration_us: _Optional[int] = ..., correlation_id: _Optional[str] = ..., decision_id: _Optional[str] = ..., trace_id: _Optional[str] = ..., shadow: _Optional[_Iterable[str]] = ..., fallback: _Optional[str] = ..., domain: _Optional[str] = ..., rules: _Optional[_Iterable[str]] = ..., missed: _Optional[int] = ...) -> None: ...

class ResetTenantRequest(_message.Message):
    __slots__ = ("tenant",)
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    def __init__(self, tenant: _Optional[str] = ...) -> None: ...

class ResetTenantResponse(_message.Message):
    __slots__ = ("tenant", "had_used", "instance")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    HAD_USED_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    tenant: Tenant
    had_used: bool
    instance: str
    def __init__(self, tenant: _Optional[_Union[Tenant, _Mapping]] = ..., had_used: _Optional[bool] = ..., instance: _Optional[str] = ...) -> None: ...

class SetBreakerRequest(_message.Message):
    __slots__ = ("upstream", "mode")
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    upstream: str
    mode: str
    def __init__(self, upstream: _Optional[str] = ..., mode: _Optional[str] = ...) -> None: ...

class SetBreakerResponse(_message.Message):
    __slots__ = ("breaker", "instance")
    BREAKER_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    breaker: Breaker
    instance: str
    def __init__(self, breaker: _Optional[_Union[Breaker, _Mapping]] = ..., instance: _Optional[str] = ...) -> None: ...

class SetStageModeRequest(_message.Message):
    __slots__ = ("stage", "mode")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    stage: str
    mode: str
    def __init__(self, stage: _Optional[str] = ..., mode: _Optional[str] = ...) -> None: ...

class SetStageModeResponse(_message.Message):
    __slots__ = ("stages", "instance")
    STAGES_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    stages: _containers.RepeatedCompositeFieldContainer[StageState]
    instance: str
    def __init__(self, stages: _Optional[_Iterable[_Union[StageState, _Mapping]]] = ..., instance: _Optional[str] = ...) -> None: ...

class StageState(_message.Message):
    __slots__ = ("stage", "mode", "policy_mode", "is_mode_set")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    POLICY_MODE_FIELD_NUMBER: _ClassVar[int]
    IS_MODE_SET_FIELD_NUMBER: _ClassVar[int]
    stage: str
    mode: str
    policy_mode: str
    is_mode_set: bool
    def __init__(self, stage: _Optional[str] = ..., mode: _Optional[str] = ..., policy_mode: _Optional[str] = ..., is_mode_set: _Optional[bool] = ...) -> None: ...
