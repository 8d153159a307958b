"""A DecisionService for the command line's tests: real gRPC on a real port, answers that a test chooses."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import grpc
from google.protobuf import json_format

from sentinel_ext.services.decision_client import METHODS, SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Every kind of mischief that a name may hold: rich's markup, an escape sequence that clears the screen, a new
# line, DEL, a control of C1, bidirectional overrides and isolates.
HOSTILE = "[red]x[/red]\x1b[2J\n\x7f\x9b\u202e\u2066evil"

PLAN = {
    "name": "gold",
    "tier": "vital",
    "limit": 1000,
    "window_ms": 60_000,
    "burst": 200,
    "refill_per_s": 500,
    "on_store_failure": "open",
    "weight": 1,
}
TENANT = {
    "tenant": "acme",
    "plan": PLAN,
    "plan_rule": "tenants.acme",
    "rate_per_s": 12.345,
    "allowed": 60,
    "denied": 3,
    "used": 250,
    "effective_limit": 1000,
    "tokens": 140,
    "is_known": True,
}
PRESSURE = {
    "score": 71.4,
    "level": "high",
    "local_score": 4,
    "local_signals": {"loop": 4},
    "instance": "host-1a2b",
    "upstreams": [
        {
            "upstream": "orders",
            "score": 71.4,
            "signals": {"latency": 71.4, "queue": 20},
            "offered_per_s": 400,
            "admitted_per_s": 250,
            "credit_per_s": 260,
            "in_flight": 17,
            "tier_share": {"vital": 1, "standard": 0.5, "economy": 0},
            "instances": 2,
        }
    ],
}
BREAKER = {
    "upstream": "orders",
    "numbers": {
        "state": "open",
        "forced": "auto",
        "trip_reason": "failure_rate",
        "retry_ms": 12_000,
        "ok": 5,
        "failed": 20,
        "permits_max": 5,
    },
    "history": [
        {"time": "2026-01-02T03:04:05.678Z", "before": "closed", "after": "open", "reason": "failure_rate"}
    ],
}
EXPLAINED = {
    "sentence": "acme may not: its window is used up.",
    "advice": "wait 12 s, or raise plans.gold.limit",
    "allowed": False,
    "stage": "window",
    "reason": "rate_limited",
    "http_status": 429,
    "instance": "host-1a2b",
    "identity": {
        "tenant": "acme",
        "found_in": "header x-tenant-id",
        "sources": ["header x-tenant-id"],
        "plan": PLAN,
        "plan_rule": "tenants.acme",
        "plan_why": "tenants.acme says gold",
        "upstream": "orders",
        "upstream_why": "the route's context extension says so",
        "is_known": True,
    },
    "stages": [
        {
            "stage": "bucket",
            "mode": "enforce",
            "verdict": "pass",
            "text": "there are tokens",
            "bucket": {"tokens": 140, "burst": 200, "refill_per_s": 500, "hits": 1},
        },
        {
            "stage": "window",
            "mode": "shadow",
            "is_mode_set": True,
            "policy_mode": "enforce",
            "verdict": "refuse",
            "decides": True,
            "reason": "rate_limited",
            "text": "the window is full",
            "retry_ms": 12_000,
            "window": {"limit": 1000, "effective_limit": 900, "used": 900, "window_ms": 60_000, "hits": 1},
        },
    ],
    "client_headers": [{"name": "x-sentinel-reason", "value": "rate_limited"}],
    "body": '{"status": 429}',
}
EVENT = {
    "time": "2026-01-02T03:04:05.678Z",
    "kind": "check",
    "allowed": False,
    "stage": "window",
    "reason": "rate_limited",
    "tenant": "acme",
    "tier": "vital",
    "plan": "gold",
    "upstream": "orders",
    "limit": 1000,
    "remaining": 0,
    "retry_ms": 1200,
    "duration_us": 87,
    "correlation_id": "c-1",
}
ANSWERS: dict[str, Any] = {
    "Explain": EXPLAINED,
    "GetTenant": {"tenant": TENANT, "instance": "host-1a2b"},
    "ListTenants": {"tenants": [TENANT], "total": 7, "instance": "host-1a2b"},
    "GetPressure": PRESSURE,
    "ListBreakers": {"breakers": [BREAKER], "instance": "host-1a2b"},
    "WatchDecisions": [EVENT, {**EVENT, "allowed": True, "reason": "allowed", "missed": 3}],
    "ResetTenant": {"tenant": TENANT, "had_used": True, "instance": "host-1a2b"},
    "SetBreaker": {"breaker": BREAKER, "instance": "host-1a2b"},
    "SetStageMode": {
        "stages": [{"stage": "window", "mode": "shadow", "policy_mode": "enforce", "is_mode_set": True}],
        "instance": "host-1a2b",
    },
}


class Turns(list[Any]):
    """Answers that take turns; the last one stays."""


class DecisionServer:
    """Answers what `answers` says: fields of the response, a list of them for a stream, or a refusal.

    Attributes:
        answers: by method; a `(status, details)` pair refuses.
        asked: the fields of what was asked, by method, the latest.
        delay_s: before every answer.
    """

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self.answers = dict(ANSWERS)
        self.asked: dict[str, dict[str, Any]] = {}
        self.delay_s = 0.0
        self._server = grpc.server(ThreadPoolExecutor(4))
        handlers = {name: self._handler(name) for name in METHODS}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        port = self._server.add_insecure_port(address)
        self.address = address if address.startswith("unix:") else f"127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.stop(None).wait()

    def reset(self) -> None:
        self.answers, self.delay_s = dict(ANSWERS), 0.0
        self.asked.clear()

    def _handler(self, name: str) -> grpc.RpcMethodHandler:
        method = METHODS[name]

        def note(data: bytes, context: grpc.ServicerContext) -> Any:
            self.asked[name] = json_format.MessageToDict(
                method.request.FromString(data), preserving_proto_field_name=True
            )
            time.sleep(self.delay_s)
            answer = self.answers[name]
            if isinstance(answer, Turns):
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
            if isinstance(answer, tuple):
                context.abort(*answer)
            return answer

        def encoded(fields: dict[str, Any]) -> bytes:
            return json_format.ParseDict(fields, method.response()).SerializeToString()

        def unary(data: bytes, context: grpc.ServicerContext) -> bytes:
            return encoded(note(data, context))

        def stream(data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            yield from map(encoded, note(data, context))

        if name == "WatchDecisions":
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)


def serve_forever(ready: Callable[[str], None]) -> None:
    """Serve until killed; for trying things out by hand."""
    with DecisionServer() as server:
        ready(server.address)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    serve_forever(print)
