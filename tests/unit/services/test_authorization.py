"""CheckRequest in, CheckResponse out: missing parts, hostile strings, and faults of our own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Never

import msgspec
import pytest
from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf import json_format, struct_pb2, text_format
from google.rpc import code_pb2
from support.build import HEADER, counting_hex, make_decision, make_denial, make_plan, make_tenant

from sentinel_ext._pb.sentinel.v1 import decision_pb2
from sentinel_ext.core.decision import Decision, Reason, ShadowDenial
from sentinel_ext.core.identify import Check, Identifier
from sentinel_ext.core.model import FailureMode, Stage, Tier
from sentinel_ext.core.policy import Source, SourceKind
from sentinel_ext.services import check_response
from sentinel_ext.services.authorization import Authorization, CheckCaller
from sentinel_ext.services.registry import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.core.tenant import Tenant

CheckRequest = external_auth_pb2.CheckRequest
CheckResponse = external_auth_pb2.CheckResponse
CLAIM = Source(SourceKind.JWT_CLAIM, "org", "payload")
PRINCIPAL = Source(SourceKind.PRINCIPAL)
EXTENSION = Source(SourceKind.CONTEXT_EXTENSION, "tenant")
JWT = "envoy.filters.http.jwt_authn"
MEGABYTE = 1_000_000


class Waiting:
    """What an engine returns for a check that waits for its store."""

    def cancel(self) -> None: ...


class Judge:
    """Stands for the engine: identifies for real, then decides as told. None is "later"."""

    def __init__(
        self,
        verdict: Callable[[Check], Decision | None] | None = None,
        sources: tuple[Source, ...] = (HEADER,),
    ) -> None:
        self.checks: list[Check] = []
        self.waiting = Waiting()
        self.deliver: Callable[[Decision | None], bool] | None = None
        self._verdict = verdict or (lambda check: make_decision(check=check))
        self._identifier = Identifier(sources, counting_hex())
        self._tenants: dict[str, Tenant] = {}

    def __call__(self, caller, deliver) -> Decision | Waiting:
        identity = self._identifier.identity(caller)
        tenant = self._tenants.setdefault(
            identity.name, make_tenant(make_plan("gold", tier=Tier.VITAL), identity.name)
        )
        self.checks.append(self._identifier.check(caller, tenant, identity.problem))
        self.deliver = deliver
        return self._verdict(self.checks[-1]) or self.waiting


def never(_answer: bytes) -> Never:
    pytest.fail("replied later, too")


def ask(judge: Judge, request: external_auth_pb2.CheckRequest | bytes) -> external_auth_pb2.CheckResponse:
    """Ask as a server does, over bytes; a fault of our own fails the test."""
    (method,) = Authorization(judge, pytest.fail).methods()
    data = request if isinstance(request, bytes) else request.SerializeToString()
    return CheckResponse.FromString(method.handle(method.decode(data), never))


def request_with(headers: dict[str, str] | None = None, **extensions: str) -> external_auth_pb2.CheckRequest:
    request = CheckRequest()
    request.attributes.request.http.headers.update(headers or {})
    request.attributes.context_extensions.update(extensions)
    return request


def tenant_of(request: external_auth_pb2.CheckRequest, *sources: Source) -> str:
    judge = Judge(sources=sources or (HEADER,))
    ask(judge, request)
    return judge.checks[0].tenant.name


def client_headers(response: external_auth_pb2.CheckResponse) -> dict[str, str]:
    denied = response.denied_response.headers
    options = denied or response.ok_response.response_headers_to_add
    return {option.header.key: option.header.value for option in options}


# --- What Envoy may leave out ---


@pytest.mark.parametrize(
    "text",
    ["", "attributes {}", "attributes { request {} }", "attributes { request { http {} } }",
     "attributes { metadata_context {} source {} }"],
)  # fmt: skip
def test_a_request_that_lacks_everything_is_anonymous_and_answered(text):
    judge = Judge(sources=(HEADER, EXTENSION, PRINCIPAL, CLAIM))

    response = ask(judge, text_format.Parse(text, CheckRequest()))

    assert "ok_response" == response.WhichOneof("http_response")
    (check,) = judge.checks
    assert ("anonymous", "default") == (check.tenant.name, check.upstream)
    assert check.problem is None
    assert check.correlation_id == client_headers(response)["x-correlation-id"]


def test_no_bytes_at_all_are_an_empty_request():
    assert "ok_response" == ask(Judge(), b"").WhichOneof("http_response")


def test_unknown_fields_of_a_newer_envoy_are_ignored():
    assert "acme" == tenant_of(
        CheckRequest.FromString(
            request_with({"x-tenant-id": "acme"}).SerializeToString() + b"\xf2\x3f\x03new"  # field 1022
        )
    )


# --- Headers, in both of Envoy's forms ---


def raw_request(*headers: tuple[str, str, bytes]) -> external_auth_pb2.CheckRequest:
    request = CheckRequest()
    for key, value, raw in headers:
        request.attributes.request.http.header_map.headers.add(key=key, value=value, raw_value=raw)
    return request


@pytest.mark.parametrize(
    ("headers", "tenant"),
    [
        ([("x-tenant-id", "", b"acme")], "acme"),
        ([("x-tenant-id", "acme", b"")], "acme"),
        ([("X-Tenant-Id", "", b"acme")], "acme"),
        ([("x-tenant-id", "", "grün".encode())], "grün"),
        ([("x-tenant-id", "", b"ac\xff")], "ac\ufffd"),
        ([("x-tenant-id", "", b"a"), ("other", "", b"x"), ("X-TENANT-ID", "", b"b")], "a,b"),
        ([("x-tenant-id", "", b"")], "anonymous"),
    ],
    ids=["raw", "text", "case", "utf-8", "not utf-8", "repeated", "empty"],
)
def test_raw_headers_are_read_like_others(headers, tenant):
    assert tenant == tenant_of(raw_request(*headers))


def test_the_caller_s_own_ids_are_read_from_raw_headers():
    judge = Judge()
    ask(judge, raw_request(("x-correlation-id", "", b"mine"), ("x-tenant-id", "", b"acme")))

    assert ("mine", "acme") == (judge.checks[0].correlation_id, judge.checks[0].tenant.name)


# --- What the proxy verified ---


def jwt_request(payload: dict[str, object], key: str = "payload", filter_name: str = JWT):
    request = CheckRequest()
    metadata = request.attributes.metadata_context.filter_metadata[filter_name]
    metadata.fields[key].CopyFrom(json_format.ParseDict(payload, struct_pb2.Value()))
    return request


def test_the_tenant_is_a_claim_of_the_verified_jwt():
    assert "acme" == tenant_of(jwt_request({"org": "acme", "sub": "joe"}), CLAIM)


@pytest.mark.parametrize(("number", "name"), [(42, "42"), (7.0, "7"), (1.5, "anonymous"), (0, "anonymous")])
def test_a_whole_number_is_a_name_too(number, name):
    assert name == tenant_of(jwt_request({"org": number}), CLAIM)


@pytest.mark.parametrize(
    "request_",
    [
        jwt_request({"sub": "joe"}),
        jwt_request({"org": ""}),
        jwt_request({"org": {"name": "acme"}}),
        jwt_request({"org": ["acme"]}),
        jwt_request({"org": None}),
        jwt_request({"org": True}),
        jwt_request("org"),
        jwt_request({"org": "acme"}, key="another"),
        jwt_request({"org": "acme"}, filter_name="envoy.filters.http.rbac"),
        request_with({"org": "acme", "payload": '{"org": "acme"}'}, org="acme"),
    ],
    ids=["no claim", "empty", "mapping", "list", "null", "switch", "payload is text", "other payload",
         "other filter", "header"],
)  # fmt: skip
def test_only_text_or_a_number_of_that_payload_of_the_jwt_filter_counts(request_):
    before = request_.SerializeToString(deterministic=True)

    assert "" == CheckCaller(request_).claim("payload", "org")
    assert "anonymous" == tenant_of(request_, CLAIM)
    assert before == request_.SerializeToString(deterministic=True), "looking made entries"


def test_the_tenant_is_the_principal_of_the_client_certificate():
    request = request_with({"x-tenant-id": "liar"})
    request.attributes.source.principal = "spiffe://example.org/ns/shop"
    request.attributes.destination.principal = "spiffe://example.org/ns/sentinel"

    assert "spiffe://example.org/ns/shop" == tenant_of(request, PRINCIPAL, HEADER)


def test_the_route_names_tenant_and_upstream():
    judge = Judge(sources=(EXTENSION, HEADER))
    ask(judge, request_with({"x-tenant-id": "liar"}, tenant="acme", upstream="orders"))

    assert ("acme", "orders") == (judge.checks[0].tenant.name, judge.checks[0].upstream)


# --- Hostile strings ---

HOSTILE = {
    "a megabyte": "a" * MEGABYTE,
    "line break": "acme\r\nx-admin: 1",
    "nul": "acme\x00",
    "escape": "\x1b[2Jacme",
    "delete": "acme\x7f",
    "right to left": "\u202eacme",
    "257 bytes": "é" * 128 + "e",
    "a megabyte of zero width": "\u200b" * MEGABYTE,
}
hostile = pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)


def all_text(response: external_auth_pb2.CheckResponse) -> list[str]:
    upstream = [option.header.value for option in response.ok_response.headers]
    body = response.denied_response.body
    metadata = [value.string_value for value in response.dynamic_metadata.fields.values()]
    return [*upstream, *client_headers(response).values(), *metadata, body]


@hostile
@pytest.mark.parametrize("verdict", [make_decision, make_denial], ids=["allowed", "denied"])
def test_a_hostile_tenant_name_is_ignored_told_and_never_echoed(value, verdict):
    response = ask(Judge(lambda check: verdict(check=check)), request_with({"x-tenant-id": value}))

    assert "anonymous" == response.dynamic_metadata["tenant"]
    assert "x-tenant-id" in client_headers(response)["x-sentinel-warning"]
    assert all(text.isprintable() and "acme" not in text for text in all_text(response))
    assert response.ByteSize() < 2_000


@hostile
@pytest.mark.parametrize("name", ["x-correlation-id", "traceparent"])
def test_a_hostile_id_is_replaced(name, value):
    response = ask(Judge(), request_with({name: value}))

    upstream = {option.header.key: option.header.value for option in response.ok_response.headers}
    assert 32 == len(upstream["x-correlation-id"])
    assert 55 == len(upstream["traceparent"])
    assert all(text.isprintable() and "acme" not in text for text in all_text(response))
    assert response.ByteSize() < 2_000


@hostile
def test_a_hostile_upstream_is_the_default(value):
    response = ask(Judge(), request_with(upstream=value))

    assert "default" == response.dynamic_metadata["upstream"]
    assert response.ByteSize() < 2_000


@hostile
def test_hostile_claims_and_principals_are_ignored(value):
    request = jwt_request({"org": value})
    request.attributes.source.principal = value

    assert "anonymous" == tenant_of(request, CLAIM, PRINCIPAL)


def test_the_longest_name_allowed_fits_every_answer():
    name = "é" * 128
    response = ask(Judge(lambda check: make_denial(check=check)), request_with({"x-tenant-id": name}))

    assert name == response.dynamic_metadata["tenant"]
    assert name == json.loads(response.denied_response.body)["tenant"]


@pytest.mark.parametrize("data", [b"\xff", b"GET / HTTP/1.1\r\n\r\n", b"\x0a\x05abc", b"\x0a\x02\xff\xff"])
def test_garbage_is_a_request_error_that_does_not_repeat_it(data):
    (method,) = Authorization(Judge(), pytest.fail).methods()

    with pytest.raises(RequestError) as caught:
        method.decode(data)

    assert "the request is not an envoy.service.auth.v3.CheckRequest" == str(caught.value)


# --- The answer ---


def test_it_is_mounted_where_envoy_asks():
    (method,) = Authorization(Judge(), pytest.fail).methods()

    assert "/envoy.service.auth.v3.Authorization/Check" == method.path


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        (Reason.LOCAL_RATE_LIMITED, 429, code_pb2.RESOURCE_EXHAUSTED),
        (Reason.RATE_LIMITED, 429, code_pb2.RESOURCE_EXHAUSTED),
        (Reason.STORE_UNAVAILABLE, 503, code_pb2.UNAVAILABLE),
    ],
)
def test_a_refusal_is_problem_json_whose_numbers_agree_with_its_headers(reason, status, code):
    judge = Judge(lambda check: make_denial(reason, 2500, check=check))
    response = ask(judge, request_with({"x-tenant-id": "acme", "x-correlation-id": "mine"}))

    headers, body = client_headers(response), json.loads(response.denied_response.body)

    assert code == response.status.code
    assert status == response.denied_response.status.code == body["status"]
    assert "application/problem+json" == headers["content-type"]
    assert "3" == headers["retry-after"] == str(body["retry_after"])
    assert reason.value == headers["x-sentinel-reason"] == body["reason"]
    assert "mine" == headers["x-correlation-id"] == body["correlation_id"]
    assert "acme" == body["tenant"] == response.dynamic_metadata["tenant"]
    assert ("100", "0", "3") == tuple(
        headers[f"x-ratelimit-{what}"] for what in ("limit", "remaining", "reset")
    )


def everything(check: Check, *, allowed: bool) -> Decision:
    """A decision that has something to say in every field of the metadata; a refusal has no ticket."""
    fields = {
        "check": check,
        "shadow": (ShadowDenial(Stage.BUCKET, Reason.LOCAL_RATE_LIMITED),),
        "fallback": FailureMode.LOCAL,
    }
    if not allowed:
        return make_denial(**fields)
    return msgspec.structs.replace(make_decision(**fields), ticket="i1.2a.3")


@pytest.mark.parametrize("allowed", [True, False])
def test_the_metadata_is_a_decision_metadata_with_no_field_missing(allowed):
    judge = Judge(lambda check: everything(check, allowed=allowed))
    response = ask(
        judge,
        request_with(
            {"x-tenant-id": "acme", "x-correlation-id": "mine"}, upstream="orders", route="checkout"
        ),
    )

    fields = json_format.MessageToDict(response.dynamic_metadata)
    metadata = json_format.ParseDict(fields, decision_pb2.DecisionMetadata())  # refuses unknown fields

    left_out = set() if allowed else {"ticket"}
    assert {
        field.name for field in decision_pb2.DecisionMetadata.DESCRIPTOR.fields
    } - left_out == fields.keys()
    assert (
        decision_pb2.DecisionMetadata(
            tenant="acme",
            tier="vital",
            plan="gold",
            upstream="orders",
            decision_id=judge.checks[0].decision_id,
            correlation_id="mine",
            allowed=allowed,
            stage="window",
            reason="allowed" if allowed else "rate_limited",
            shadow=["bucket:local_rate_limited"],
            fallback="local",
            ticket="i1.2a.3" if allowed else "",
            route="checkout",
        )
        == metadata
    )


def test_a_usual_decision_has_no_shadow_no_fallback_and_no_route():
    fields = ask(Judge(), request_with()).dynamic_metadata.fields

    assert not {"shadow", "fallback", "route"} & set(fields)


@pytest.mark.parametrize("ticket", ["i1.2a.3", "i1.2a.3.00000000000000d1", "i" * 91])
def test_the_ticket_of_this_very_request_comes_back(ticket):
    """The encoder remembers what a tenant's requests share; a ticket is of one tick or one request."""
    (method,) = Authorization(
        Judge(lambda check: msgspec.structs.replace(make_decision(check=check), ticket=ticket)), pytest.fail
    ).methods()

    for _ in range(2):
        answer = CheckResponse.FromString(method.handle(request_with({"x-tenant-id": "acme"}), never))
        assert ticket == answer.dynamic_metadata["ticket"]


def test_one_request_s_answer_shows_nothing_of_another_s():
    """The encoder remembers what the requests of a tenant to an upstream have in common."""
    (method,) = Authorization(Judge(), pytest.fail).methods()
    for _ in range(2):
        for tenant in ("acme", "other"):
            for upstream in ("orders", "users"):
                request = request_with({"x-tenant-id": tenant}, upstream=upstream)
                metadata = CheckResponse.FromString(method.handle(request, never)).dynamic_metadata

                assert (tenant, upstream) == (metadata["tenant"], metadata["upstream"])


# --- Later, and never ---


def is_error_response(data: bytes) -> bool:
    response = CheckResponse.FromString(data)
    return (
        "error_response" == response.WhichOneof("http_response")
        and code_pb2.INTERNAL == response.status.code
        and not response.dynamic_metadata.fields
    )


@pytest.mark.parametrize("reachable", [True, False])
def test_an_answer_that_comes_later_says_whether_it_could_be_sent(reachable):
    replies: list[bytes] = []

    def reply(answer: bytes) -> bool:
        replies.append(answer)
        return reachable

    judge = Judge(lambda _check: None)
    outcome = Authorization(judge, pytest.fail).check(request_with(), reply)

    assert judge.waiting is outcome
    assert [] == replies
    assert judge.deliver is not None
    assert reachable is judge.deliver(make_denial(check=judge.checks[0]))
    assert ["denied_response"] == [
        CheckResponse.FromString(data).WhichOneof("http_response") for data in replies
    ]


def test_an_engine_that_fails_later_is_an_error_response():
    replies: list[bytes] = []
    judge = Judge(lambda _check: None)
    Authorization(judge, pytest.fail).check(request_with(), lambda data: replies.append(data) or True)

    assert judge.deliver is not None
    judge.deliver(None)

    assert [True] == [is_error_response(data) for data in replies]


def unwritable(check: Check) -> Decision:
    """A bug of ours: a refusal for no reason cannot be written."""
    return make_denial(Reason.ALLOWED, check=check)


def raises(_check: Check) -> Never:
    raise ZeroDivisionError("a bug of ours")


@pytest.mark.parametrize(("verdict", "error"), [(raises, ZeroDivisionError), (unwritable, KeyError)])
def test_a_fault_of_our_own_is_told_and_is_an_error_response_and_not_a_refusal(verdict, error):
    faults: list[Exception] = []
    data = Authorization(Judge(verdict), faults.append).check(request_with(), never)

    assert isinstance(data, bytes)
    assert is_error_response(data)
    assert b"a bug of ours" not in data
    assert [error] == [type(fault) for fault in faults]


def test_a_decision_that_cannot_be_written_later_is_an_error_response_too():
    faults: list[Exception] = []
    replies: list[bytes] = []
    judge = Judge(lambda _check: None)
    Authorization(judge, faults.append).check(request_with(), lambda data: replies.append(data) or True)

    assert judge.deliver is not None
    judge.deliver(unwritable(judge.checks[0]))

    assert [check_response.ERROR] == replies
    assert [KeyError] == [type(fault) for fault in faults]
