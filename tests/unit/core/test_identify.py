"""Stage 0: names, upstreams and ids out of hostile strings."""

from __future__ import annotations

import pytest
from support.build import HEADER, counting_hex, make_tenant
from support.fakes import FakeCaller

from sentinel_ext.core.identify import (
    ANONYMOUS,
    DEFAULT_UPSTREAM,
    MAX_NAME_BYTES,
    Identifier,
    Identity,
    NameProblem,
)
from sentinel_ext.core.policy import Source, SourceKind

EXTENSION = Source(SourceKind.CONTEXT_EXTENSION, "tenant")
PRINCIPAL = Source(SourceKind.PRINCIPAL)
CLAIM = Source(SourceKind.JWT_CLAIM, "org", "my_payload")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def identity(caller, *sources):
    return Identifier(sources or (HEADER,), counting_hex()).identity(caller)


def named(name):
    return FakeCaller({"x-tenant-id": name})


def check(caller):
    return Identifier((HEADER,), counting_hex()).check(caller, make_tenant())


# --- The tenant's name ---


@pytest.mark.parametrize(
    ("source", "caller"),
    [
        (HEADER, FakeCaller({"x-tenant-id": "acme"})),
        (EXTENSION, FakeCaller(context_extensions={"tenant": "acme"})),
        (PRINCIPAL, FakeCaller(principal="acme")),
        (CLAIM, FakeCaller(claims={("my_payload", "org"): "acme"})),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Source) else "",
)
def test_each_kind_of_source_finds_the_name_where_it_looks(source, caller):
    others = [each for each in (HEADER, EXTENSION, PRINCIPAL, CLAIM) if each is not source]

    assert Identity("acme") == identity(caller, source)
    assert Identity(ANONYMOUS) == identity(caller, *others)


def test_the_first_source_with_a_name_wins():
    caller = FakeCaller({"x-tenant-id": "header"}, {"tenant": "route"}, "spiffe://td/ns")

    assert "route" == identity(caller, CLAIM, EXTENSION, HEADER, PRINCIPAL).name
    assert "spiffe://td/ns" == identity(caller, PRINCIPAL, EXTENSION, HEADER).name


@pytest.mark.parametrize("name", ["", " ", "\t\n ", "\u00a0\u2003"])
def test_a_blank_name_is_no_name_and_no_problem(name):
    assert Identity(ANONYMOUS) == identity(named(name))


def test_a_source_with_a_blank_name_leaves_it_to_the_next():
    caller = FakeCaller({"x-tenant-id": "  "}, {"tenant": "route"})

    assert Identity("route") == identity(caller, HEADER, EXTENSION)


def test_space_around_a_name_is_not_part_of_it():
    assert "acme" == identity(named("  acme\t")).name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param("a" * 256, None, id="256 bytes"),
        pytest.param("a" * 257, "too_long", id="257 bytes"),
        pytest.param("é" * 128, None, id="128 letters of 2 bytes"),
        pytest.param("é" * 128 + "a", "too_long", id="128 letters of 2 bytes and one"),
        pytest.param("🦀" * 64, None, id="64 signs of 4 bytes"),
        pytest.param("🦀" * 65, "too_long", id="65 signs of 4 bytes"),
        pytest.param("a" * 1_000_000, "too_long", id="1 MB"),
        pytest.param(" " * 300 + "a" * 256, None, id="space is not counted"),
        pytest.param("a\x00b", "not_printable", id="NUL"),
        pytest.param("a\nb", "not_printable", id="newline"),
        pytest.param("a\r\nx-evil: 1", "not_printable", id="header injection"),
        pytest.param("a\x1b[2Jb", "not_printable", id="terminal escape"),
        pytest.param("a\x7fb", "not_printable", id="DEL"),
        pytest.param("a\x85b", "not_printable", id="C1 control"),
        pytest.param("a\u2028b", "not_printable", id="line separator"),
        pytest.param("a\u202eb", "not_printable", id="right-to-left override"),
        pytest.param("a\u200bb", "not_printable", id="zero width space"),
        pytest.param("\ud800", "not_printable", id="surrogate"),
        pytest.param("a" * 255 + "\udfff", "too_long", id="surrogate at the bound"),
        pytest.param("\x00" * 257, "too_long", id="both"),
        pytest.param("Größe 7 {x} %7B'\"", None, id="odd but printable"),
    ],
)
def test_names_are_printable_and_at_most_256_bytes(name, problem):
    found = identity(named(name))

    if problem is None:
        assert Identity(name.strip()) == found
        assert len(found.name.encode()) <= MAX_NAME_BYTES
    else:
        assert Identity(ANONYMOUS, NameProblem(HEADER, problem)) == found


def test_a_bad_name_leaves_it_to_the_next_source_and_is_told():
    caller = FakeCaller({"x-tenant-id": "\x00"}, {"tenant": "route"})

    assert Identity("route", NameProblem(HEADER, "not_printable")) == identity(caller, HEADER, EXTENSION)


def test_the_first_of_several_problems_is_told():
    caller = FakeCaller({"x-tenant-id": "a" * 300}, {"tenant": "\x00"})

    found = identity(caller, EXTENSION, HEADER)

    assert Identity(ANONYMOUS, NameProblem(EXTENSION, "not_printable")) == found


@pytest.mark.parametrize(
    ("source", "problem", "words"),
    [
        (HEADER, "too_long", "tenant name in header x-tenant-id is longer than 256 bytes; ignored"),
        (PRINCIPAL, "not_printable", "tenant name in principal is not printable text; ignored"),
    ],
)
def test_a_problem_reads_as_a_sentence_without_the_name_itself(source, problem, words):
    assert words == str(NameProblem(source, problem))


# --- Upstream ---


@pytest.mark.parametrize(
    ("given", "upstream"),
    [
        ("payments", "payments"),
        ("", DEFAULT_UPSTREAM),
        ("a\nb", DEFAULT_UPSTREAM),
        ("a" * 256, "a" * 256),
        ("a" * 257, DEFAULT_UPSTREAM),
    ],
)
def test_the_upstream_is_the_routes_word_if_it_is_usable(given, upstream):
    assert upstream == check(FakeCaller(context_extensions={"upstream": given})).upstream


def test_without_a_word_of_the_route_the_upstream_is_the_default():
    assert DEFAULT_UPSTREAM == check(FakeCaller()).upstream


# --- Ids ---


@pytest.mark.parametrize(
    "given",
    [
        "a",
        "A" * 128,
        "0b5c2e51-3c5d-4d0a-9a53-3d6d6a1d2f10",
        "01J9ZQ2V7X8Y4T6R5E3W2Q1P0N",
        "YWJj+/=",
        "svc:job/7@host~1",
    ],
)
def test_a_valid_correlation_id_is_kept(given):
    assert given == check(FakeCaller({"x-correlation-id": given})).correlation_id


@pytest.mark.parametrize(
    "given",
    [
        "",
        " ",
        "A" * 129,
        "a b",
        "a\n",
        "a\r\nx: y",
        "a\x00",
        'a"b',
        "a,b",
        "<script>",
        "é",
        "\ud800",
        "a" * 10**6,
    ],
)
def test_an_invalid_correlation_id_is_replaced_by_a_new_one(given):
    got = check(FakeCaller({"x-correlation-id": given}))

    assert f"{1:016x}" * 2 == got.correlation_id


def test_a_valid_traceparent_stands():
    assert "" == check(FakeCaller({"traceparent": TRACEPARENT})).traceparent


@pytest.mark.parametrize(
    "given",
    [
        "",
        TRACEPARENT + "\n",
        TRACEPARENT.upper(),
        TRACEPARENT[:-1],
        TRACEPARENT + "-extra",
        "ff" + TRACEPARENT[2:],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        f"{TRACEPARENT},{TRACEPARENT}",
        "a" * 10**6,
    ],
)
def test_a_broken_traceparent_is_replaced_unsampled_under_the_decisions_id(given):
    got = check(FakeCaller({"traceparent": given, "x-correlation-id": "kept"}))

    assert f"00-{1:016x}{1:016x}-{1:016x}-00" == got.traceparent
    assert f"{1:016x}" == got.decision_id


def test_a_minted_correlation_id_is_also_the_minted_trace_id():
    got = check(FakeCaller())

    assert f"{1:016x}" * 2 == got.correlation_id
    assert f"00-{got.correlation_id}-{got.decision_id}-00" == got.traceparent


def test_each_check_has_a_decision_id_of_its_own():
    identifier = Identifier((HEADER,), counting_hex())

    ids = {identifier.check(FakeCaller(), make_tenant()).decision_id for _ in range(100)}

    assert 100 == len(ids)


def test_a_check_carries_the_tenant_and_the_names_problem():
    tenant, problem = make_tenant(), NameProblem(HEADER, "too_long")

    got = Identifier((HEADER,), counting_hex()).check(FakeCaller(), tenant, problem)

    assert tenant is got.tenant
    assert problem is got.problem
    assert 1 == got.hits
