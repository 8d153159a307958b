"""The encoder of CheckResponse against protobuf's own: every message it writes reads back as it should."""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2
from google.rpc import code_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from support.build import make_plan

from sentinel_ext.core.decision import Decision, Reason, ShadowDenial
from sentinel_ext.core.ended import MAX_TICKET_CHARACTERS
from sentinel_ext.core.identify import Check, NameProblem
from sentinel_ext.core.model import FailureMode, Stage, Tier
from sentinel_ext.core.policy import Source, SourceKind
from sentinel_ext.core.tenant import Tenant
from sentinel_ext.services import answer, check_response

OVERWRITE = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
CODES = {429: code_pb2.RESOURCE_EXHAUSTED, 503: code_pb2.UNAVAILABLE}

names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=70)
correlation_ids = st.text("abcXYZ019._:-", min_size=1, max_size=128)
tickets = st.text("0123456789abcdef.", max_size=MAX_TICKET_CHARACTERS)
numbers = st.one_of(st.none(), st.integers(0, 10**9))
problem = NameProblem(Source(SourceKind.HEADER, "x-tenant-id"), "too_long")


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    plan = make_plan(draw(names), tier=draw(st.sampled_from(Tier)), limit=draw(numbers))
    check = Check(
        Tenant(draw(names), plan, 0),
        draw(names),
        draw(correlation_ids),
        draw(st.text("0123456789abcdef", min_size=16, max_size=16)),
        draw(st.sampled_from(["", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])),
        1,
        draw(st.sampled_from([None, problem])),
        draw(st.one_of(st.just(""), names)),
    )
    allowed = draw(st.booleans())
    reason = (
        Reason.ALLOWED if allowed else draw(st.sampled_from([r for r in Reason if r is not Reason.ALLOWED]))
    )
    denials = st.builds(ShadowDenial, st.sampled_from(Stage), st.sampled_from(Reason))
    return Decision(
        check, allowed, draw(st.sampled_from(Stage)), reason, draw(numbers), draw(numbers), draw(numbers),
        draw(st.integers(0, 10**9)), tuple(draw(st.lists(denials, max_size=2))),
        draw(st.sampled_from([None, *FailureMode])), draw(tickets) if allowed else "",
    )  # fmt: skip


def by_protobuf(decision: Decision) -> external_auth_pb2.CheckResponse:
    response = external_auth_pb2.CheckResponse()
    if decision.allowed:
        add(response.ok_response.headers, answer.upstream_headers(decision))
        add(response.ok_response.response_headers_to_add, answer.client_headers(decision))
    else:
        status = answer.http_status(decision.reason)
        response.status.code = CODES[status]
        response.denied_response.status.code = status
        headers = [*answer.client_headers(decision), ("content-type", answer.PROBLEM_TYPE)]
        add(response.denied_response.headers, headers)
        response.denied_response.body = answer.problem_body(decision)
    check = decision.check
    fields: dict[str, Any] = {
        "tenant": check.tenant.name,
        "tier": check.tenant.plan.tier.value,
        "plan": check.tenant.plan.name,
        "upstream": check.upstream,
        "decision_id": check.decision_id,
        "correlation_id": check.correlation_id,
        "allowed": decision.allowed,
        "stage": decision.stage.value,
        "reason": decision.reason.value,
    }
    if decision.shadow:
        fields["shadow"] = [f"{denial.stage.value}:{denial.reason.value}" for denial in decision.shadow]
    if decision.fallback is not None:
        fields["fallback"] = decision.fallback.value
    if decision.ticket:
        fields["ticket"] = decision.ticket
    if check.route:
        fields["route"] = check.route
    response.dynamic_metadata.update(fields)
    return response


def add(options: Any, headers: list[tuple[str, str]]) -> None:
    for key, value in headers:
        options.add(header={"key": key, "value": value}, append_action=OVERWRITE)


def in_order(response: external_auth_pb2.CheckResponse) -> external_auth_pb2.CheckResponse:
    """Header names are unique in a message, so their order means nothing."""
    for options in (response.ok_response.headers, response.ok_response.response_headers_to_add):
        assert len({option.header.key for option in options}) == len(options)
        options.sort(key=lambda option: option.header.key)
    return response


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(decisions(), min_size=1, max_size=4))
def test_what_is_written_reads_back_as_protobuf_would_have_it(several: list[Decision]) -> None:
    encoder = check_response.CheckEncoder()
    for decision in several * 2:  # the second time from what is remembered
        written = external_auth_pb2.CheckResponse.FromString(encoder.encode(decision))

        expected = external_auth_pb2.CheckResponse.FromString(by_protobuf(decision).SerializeToString())
        if decision.allowed:
            assert in_order(expected) == in_order(written)
        else:
            assert expected == written


def test_the_answer_for_a_fault_of_our_own() -> None:
    response = external_auth_pb2.CheckResponse.FromString(check_response.ERROR)

    assert code_pb2.INTERNAL == response.status.code
    assert "error_response" == response.WhichOneof("http_response")
    assert 503 == response.error_response.status.code


def test_what_is_remembered_is_bounded() -> None:
    encoder = check_response.CheckEncoder()
    plan = make_plan()
    for i in range(check_response.MAX_CACHED * 2 + 1):
        check = Check(Tenant(f"t{i}", plan, 0), "default", "c", "0" * 16, "", route=f"r{i}")
        encoder.encode(Decision(check, True, Stage.WINDOW, Reason.ALLOWED, 10, 9, 1, ticket=f"i1.{i:x}.0"))
        assert len(encoder._constants) <= check_response.MAX_CACHED
