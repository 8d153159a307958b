from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class DecisionMetadata(_message.Message):
    __slots__ = ("tenant", "tier", "plan", "upstream", "decision_id", "correlation_id", "allowed", "stage", "reason", "shadow", "fallback", "ticket", "route")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    tier: str
    plan: str
    upstream: str
    decision_id: str
    correlation_id: str
    allowed: bool
    stage: str
    reason: str
    shadow: _containers.RepeatedScalarFieldContainer[str]
    fallback: str
    ticket: str
    route: str
    def __init__(self, tenant: _Optional[str] = ..., tier: _Optional[str] = ..., plan: _Optional[str] = ..., upstream: _Optional[str] = ..., decision_id: _Optional[str] = ..., correlation_id: _Optional[str] = ..., allowed: _Optional[bool] = ..., stage: _Optional[str] = ..., reason: _Optional[str] = ..., shadow: _Optional[_Iterable[str]] = ..., fallback: _Optional[str] = ..., ticket: _Optional[str] = ..., route: _Optional[str] = ...) -> None: ...
