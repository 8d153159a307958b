"""Tickets: what is written can be read, and nothing else can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_ext.core.ended import MAX_TICKET_CHARACTERS, Ticket, parse_ticket

WORDS = st.text("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=32)
NUMBERS = st.integers(0, 16**12 - 1)


@given(WORDS, NUMBERS, NUMBERS, st.one_of(st.just(""), WORDS))
def test_what_is_written_is_read(instance, generation, epoch, permit):
    ticket = Ticket(instance, generation, epoch, permit)

    assert ticket == parse_ticket(str(ticket))
    assert len(str(ticket)) <= MAX_TICKET_CHARACTERS


@given(st.text(max_size=MAX_TICKET_CHARACTERS + 2))
def test_what_is_read_was_written_so(text):
    ticket = parse_ticket(text)

    assert ticket is None or text == str(ticket)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a.1",
        "a.1.2.",
        "a..2",
        ".1.2",
        "a.1.2.p.q",
        "a.0x1.2",
        "a.1F.2",
        "a.01.2",
        "a.-1.2",
        "a.1_0.2",
        "a. 1.2",
        "a.1.2\n",
        "é.1.2",
        "a.\u0661.2",
        "a" * 33 + ".1.2",
        "a." + "1" * 13 + ".2",
        "a.1.2." + "p" * 33,
    ],
)
def test_what_this_code_would_not_have_written_is_no_ticket(text):
    assert parse_ticket(text) is None


def test_the_longest_ticket_is_read():
    text = ".".join(("i" * 32, "f" * 12, "f" * 12, "p" * 32))

    assert MAX_TICKET_CHARACTERS == len(text)
    assert Ticket("i" * 32, 16**12 - 1, 16**12 - 1, "p" * 32) == parse_ticket(text)
