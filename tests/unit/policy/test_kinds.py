"""Single values of the policy file."""

from __future__ import annotations

import pytest

from sentinel_ext.policy.kinds import (
    Count,
    Duration,
    Exactly,
    Header,
    Name,
    OneOf,
    Rate,
    Refill,
    Share,
    Switch,
    Whole,
    Window,
    length,
    per_second,
)


@pytest.mark.parametrize("value", [0, 1, 10, "unlimited"])
def test_a_count_is_what_was_written(value):
    assert value == Count(10).parse(value)


@pytest.mark.parametrize("value", [-1, 11, 1.0, True, "5", "Unlimited", None, [], {}])
def test_a_count_refuses(value):
    with pytest.raises(ValueError, match="must be"):
        Count(10).parse(value)


@pytest.mark.parametrize(
    ("written", "window_us"),
    [
        ("100ms", 100_000),
        ("250ms", 250_000),
        ("60s", 60_000_000),
        ("5m", 300_000_000),
        ("1h", 3_600_000_000),
        ("1d", 86_400_000_000),
        ("31d", 2_678_400_000_000),
    ],
)
def test_a_window_is_microseconds(written, window_us):
    assert window_us == Window().parse(written)


@pytest.mark.parametrize(
    "value",
    ["99ms", "0s", "0", 0, 60, 60.0, "60", "1.5s", "-1s", "32d", "1w", "60 s", "٦s", "1:30", "9" * 400 + "s",
     None, True, []],
)  # fmt: skip
def test_a_window_refuses(value):
    with pytest.raises(ValueError, match="must be a duration from 100ms to 31d with its unit"):
        Window().parse(value)


@pytest.mark.parametrize(
    ("written", "refill_nano"),
    [
        ("100/s", 100_000_000_000),
        ("0.001/s", 1_000_000),
        ("0.0015/s", 1_500_000),
        ("6/m", 100_000_000),
        ("5/m", 83_333_333),
        ("1/m", 16_666_666),
        ("1/h", 277_777),
        ("1/d", 11_574),
        ("1800/h", 500_000_000),
        (10, 10_000_000_000),
        (0.1, 100_000_000),
        (0, 0),
        (1_000_000, 1_000_000_000_000_000),
        ("0/h", 0),
    ],
)
def test_a_refill_is_billionths_per_second_rounded_down(written, refill_nano):
    assert refill_nano == Refill().parse(written)


@pytest.mark.parametrize("value", ["0.01/d", 0.0000001, "0.000001/h"])
def test_a_refill_that_would_be_nearly_nothing_is_refused(value):
    with pytest.raises(ValueError, match=r"must be 0, or at least 0\.1/d"):
        Refill().parse(value)


@pytest.mark.parametrize(
    "value", [-1, 1_000_001, "100", "100/w", "/s", "-1/s", "1e3/s", True, None, "1000001/s", []]
)
def test_a_refill_refuses(value):
    with pytest.raises(ValueError, match="must be"):
        Refill().parse(value)


def test_a_word_is_one_of_a_few():
    assert "gold" == OneOf("gold", "silver").parse("gold")
    with pytest.raises(ValueError, match=r'must be gold or silver \(got "glod"\); did you mean "gold"\?'):
        OneOf("gold", "silver").parse("glod")


@pytest.mark.parametrize("value", ["a", "ä" * 128, "x" * 256, "trial-*", "a b", "名"])
def test_a_name_that_a_caller_can_bear(value):
    assert value == Name("a name").parse(value)


@pytest.mark.parametrize(
    "value", ["", "ä" * 129, "x" * 257, "a\n", "\x7f", " a", "a ", "\u200b", "\ud800", 5, None, True]
)
def test_a_name_that_no_caller_can_bear(value):
    with pytest.raises(ValueError, match="must"):
        Name("a name").parse(value)


def test_a_header_is_lower_case():
    assert "x-tenant-id" == Header().parse("X-Tenant-ID")


@pytest.mark.parametrize("value", ["", ":path", "x tenant", "x:y", "ä", "x" * 129, 5, None])
def test_a_header_refuses(value):
    with pytest.raises(ValueError, match="must be a header name"):
        Header().parse(value)


@pytest.mark.parametrize(("wanted", "value"), [(1, True), (1, 1.0), (1, "1"), (True, 1), (True, "true")])
def test_exactly_means_the_type_too(wanted, value):
    with pytest.raises(ValueError, match="must be"):
        Exactly(wanted).parse(value)


@pytest.mark.parametrize("value", [1, 5, 1000])
def test_a_whole_number_is_what_was_written(value):
    assert value == Whole(1, 1000).parse(value)


@pytest.mark.parametrize("value", [0, 1001, -1, 1.0, True, "5", None, [], 10**30])
def test_a_whole_number_refuses(value):
    with pytest.raises(ValueError, match="must be a whole number from 1 to 1000"):
        Whole(1, 1000).parse(value)


@pytest.mark.parametrize("value", [0.000001, 0.5, 1, 1.0])
def test_a_share_is_what_was_written(value):
    assert value == Share().parse(value)


@pytest.mark.parametrize("value", [0, -0.5, 1.01, 50, 101, True, "0.5", None, [], float("nan"), float("inf")])
def test_a_share_refuses(value):
    with pytest.raises(ValueError, match=r"must be a share above 0, up to 1, such as 0\.5"):
        Share().parse(value)


@pytest.mark.parametrize(("value", "hint"), [(50, "; 50 % is 0.5"), (2.5, "; 2.5 % is 0.025"), (101, "")])
def test_a_share_in_per_cent_is_understood_and_refused(value, hint):
    with pytest.raises(ValueError, match="must be a share") as caught:
        Share().parse(value)

    assert hint == str(caught.value).partition(f"(got {value})")[2]


@pytest.mark.parametrize("value", [True, False])
def test_a_switch_is_what_was_written(value):
    assert value is Switch().parse(value)


@pytest.mark.parametrize("value", [0, 1, "true", "yes", "off", None])
def test_a_switch_refuses(value):
    with pytest.raises(ValueError, match="must be true or false"):
        Switch().parse(value)


@pytest.mark.parametrize(
    ("written", "length_us"), [("1s", 1_000_000), ("1500ms", 1_500_000), ("5m", 300_000_000)]
)
def test_a_duration_is_microseconds_within_its_bounds(written, length_us):
    assert length_us == Duration("1s", "5m", "10s").parse(written)


@pytest.mark.parametrize("value", ["999ms", "301s", "", "s", 5, None])
def test_a_duration_refuses(value):
    with pytest.raises(ValueError, match="must be a duration from 1s to 5m with its unit, such as 10s"):
        Duration("1s", "5m", "10s").parse(value)


@pytest.mark.parametrize(
    ("written", "nano"), [("200/s", 2 * 10**11), (0.5, 5 * 10**8), ("1/d", 11_574), (1_000_000, 10**15)]
)
def test_a_rate_is_billionths_per_second(written, nano):
    assert nano == Rate().parse(written)


@pytest.mark.parametrize(
    "value", [0, "0/s", -1, 1_000_001, "60000001/m", "0.01/d", "unlimited", True, None, []]
)
def test_a_rate_refuses(value):
    with pytest.raises(ValueError, match="must be"):
        Rate().parse(value)


@pytest.mark.parametrize(
    ("nano", "text"),
    [(2 * 10**11, "200/s"), (1_666_666_666, "1.666667/s"), (11_574, "0.000012/s"), (0, "0/s")],
)
def test_a_rate_is_shown_as_it_would_be_written(nano, text):
    assert text == per_second(nano)


@pytest.mark.parametrize(
    ("length_us", "text"), [(60_000_000, "60s"), (1_500_000, "1500ms"), (1_000, "1ms"), (1_500, "1.5ms")]
)
def test_a_duration_is_shown_as_it_would_be_written(length_us, text):
    assert text == length(length_us)
