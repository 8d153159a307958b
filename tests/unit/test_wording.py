"""Words for operators."""

from __future__ import annotations

import pytest

from sentinel_ext.wording import MAX_SHOWN_CHARACTERS, did_you_mean, listed, quoted, shown


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a", '"a"'),
        ("grün", '"grün"'),
        ('a"b', '"a\\"b"'),
        ("a\nb\x1b", '"a\\nb\\u001b"'),
        ("\udcff", '"\\udcff"'),
    ],
)
def test_quotes_show_text_on_one_line(text, written):
    assert written == quoted(text)


def test_long_text_is_shortened():
    assert MAX_SHOWN_CHARACTERS + 2 == len(quoted("x" * 1_000_000))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("5", '"5"'),
        (5, "5"),
        (0.5, "0.5"),
        (True, "true"),
        (None, "nothing"),
        ({}, "a mapping"),
        ([], "a list"),
    ],
)
def test_values_are_shown_as_they_are_written(value, written):
    assert written == shown(value)


@pytest.mark.parametrize(
    ("words", "text"), [(["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")]
)
def test_lists_read_as_sentences(words, text):
    assert text == listed(words)


@pytest.mark.parametrize(
    ("word", "guess"),
    [("glod", 'did you mean "gold"?'), ("GOLD", 'did you mean "gold"?'), ("brass", ""), ("", "")],
)
def test_only_a_close_word_is_guessed(word, guess):
    assert guess == did_you_mean(word, ["gold", "silver"])
