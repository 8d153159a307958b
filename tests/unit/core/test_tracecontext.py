"""What callers say of their trace: W3C, B3 in both forms, and what is neither."""

from __future__ import annotations

import pytest

from sentinel_ext.core.tracecontext import MAX_STATE_CHARACTERS, Parent, from_b3, parent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HALF = "a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("flags", "sampled", "goes_on"),
    [("00", False, "01"), ("01", True, "01"), ("03", True, "03"), ("fe", False, "03")],
)
def test_a_traceparent_is_read_with_its_flags(flags, sampled, goes_on):
    parent = parent_of({"traceparent": f"00-{TRACE}-{SPAN}-{flags}", "tracestate": "a=1"})

    assert Parent(TRACE, SPAN, sampled, goes_on, "a=1") == parent


@pytest.mark.parametrize(
    "given",
    [
        "", "00", f"00-{TRACE}-{SPAN}", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-0g", f"00-{TRACE}-{SPAN}-01\n", "x" * 100_000,
    ],
)  # fmt: skip
def test_a_broken_traceparent_is_none(given):
    assert parent_of({"traceparent": given}) is None


def test_a_long_tracestate_is_not_recorded():
    long = parent_of({"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a" * (MAX_STATE_CHARACTERS + 1)})

    assert long is not None
    assert "" == long.state


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"b3": f"{TRACE}-{SPAN}-1"}, Parent(TRACE, SPAN, True)),
        ({"b3": f"{TRACE}-{SPAN}-d-05e3ac9a4f6e3b90"}, Parent(TRACE, SPAN, True)),
        ({"b3": f"{TRACE.upper()}-{SPAN}-0"}, Parent(TRACE, SPAN, False)),
        ({"b3": f"{HALF}-{SPAN}"}, Parent("0" * 16 + HALF, SPAN, None)),
        ({"b3": "0"}, Parent("", "", False)),
        ({"b3": "1", "x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "0"}, Parent("", "", True)),
        ({"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "1"}, Parent(TRACE, SPAN, True)),
        ({"x-b3-traceid": HALF, "x-b3-spanid": SPAN}, Parent("0" * 16 + HALF, SPAN, None)),
        ({"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-flags": "1"}, Parent(TRACE, SPAN, True)),
        ({"x-b3-sampled": "false"}, Parent("", "", False)),
    ],
)  # fmt: skip
def test_b3_is_read_in_both_forms(headers, expected):
    assert expected == from_b3(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"b3": "x"}, {"b3": f"{TRACE}-{SPAN}-2"}, {"b3": f"{'0' * 32}-{SPAN}-1"},
        {"b3": f"{TRACE}-{'0' * 16}-1"}, {"b3": f"{TRACE}"}, {"b3": "1" * 100_000},
        {"x-b3-traceid": TRACE}, {"x-b3-traceid": "0" * 32, "x-b3-spanid": SPAN},
        {"x-b3-traceid": TRACE, "x-b3-spanid": "0" * 16}, {"x-b3-traceid": TRACE[:20], "x-b3-spanid": SPAN},
        {"x-b3-sampled": "maybe"}, {"x-b3-traceid": TRACE, "x-b3-spanid": TRACE},
    ],
)  # fmt: skip
def test_broken_b3_is_none(headers):
    assert from_b3(headers) is None


def test_w3c_comes_before_b3():
    both = {"traceparent": f"00-{TRACE}-{SPAN}-00", "b3": f"{HALF}-{SPAN}-1"}

    assert TRACE == parent_of(both).trace_id
    assert "0" * 16 + HALF == parent_of({**both, "traceparent": "broken"}).trace_id
