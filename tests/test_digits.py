"""One rule for the digits of a number, wherever it is shown."""

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptmetrics.digits import number, numbers
from ptmetrics.metrics.score import Score
from ptmetrics.show.epochs import EpochTable
from ptmetrics.show.html import bounded_cell
from ptmetrics.show.opinion import estimate_text, verdict_text
from ptmetrics.show.paint import plain
from ptmetrics.show.tables import score_line
from ptmetrics.verdict.finding import Criterion, Estimate, Verdict

ANY = st.floats(-1e9, 1e9)
SHARE = st.floats(0, 1)


def digits_of(text: str) -> int:
    return len(text.partition("e")[0].partition(".")[2])


def value_of(text: str) -> float:
    return float(text.replace(",", ""))


@given(st.lists(ANY, min_size=1, max_size=4))
def test_numbers_that_are_read_together_have_one_format(values: list[float]) -> None:
    texts = [text for text in numbers(*values) if text != "0"]
    assert len({digits_of(text) for text in texts}) <= 1
    assert len({"e" in text for text in texts}) <= 1


@given(st.lists(ANY, min_size=1, max_size=4))
def test_what_is_shown_is_near_what_is_meant(values: list[float]) -> None:
    size = max(map(abs, values))
    for value, text in zip(values, numbers(*values), strict=True):
        assert abs(value_of(text) - value) <= max(5.1e-5, 5.1e-4 * size)


def test_nothing_has_no_exponent() -> None:
    assert numbers(3.1e8, 0.0, 9.302e8) == ["3.100e+08", "0", "9.302e+08"]


@given(ANY)
def test_a_number_keeps_a_digit_that_counts_and_fits_into_a_column(value: float) -> None:
    text = number(value)
    assert len(text) <= 10
    assert (value_of(text) == 0) == (value == 0)
    assert abs(value_of(text) - value) <= 0.5 * abs(value)


@given(st.lists(SHARE, min_size=3, max_size=3).map(sorted))
def test_scores_have_four_digits_unless_they_lie_too_close_for_that(
    ends: list[float],
) -> None:
    low, value, high = ends
    texts = numbers(value, low, high)
    if high - low >= 5e-4:
        assert texts == [f"{each:.4f}" for each in (value, low, high)]
    if high - low >= 1e-7:
        assert texts[1] != texts[2]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.95, "0.9500"),
        (0.0, "0.0000"),
        (2.302585, "2.3026"),
        (0.0007395, "0.0007"),
        (0.00007, "7.00e-05"),
        (-12.5, "-12.500"),
        (109.574, "109.57"),
        (52341.7, "52,341.7"),
        (123456.0, "123,456"),
        (3.2e8, "3.200e+08"),
        (nan, "nan"),
        (inf, "inf"),
    ],
)
def test_scores_losses_and_errors_in_any_unit_are_readable(value: float, text: str) -> None:
    assert number(value) == text


@given(st.lists(ANY, min_size=3, max_size=3).map(sorted))
def test_a_score_is_shown_alike_at_every_place(ends: list[float]) -> None:
    low, value, high = ends
    first, second, third = numbers(value, low, high)
    text = f"{first} [{second}, {third}]"
    fields = {"low": low, "high": high, "n": 90, "method": "wilson"}
    record = {"value": value, "higher_is_better": True, "reason": None, **fields}
    assert str(Score(value, higher_is_better=True, **fields)).startswith(text)
    assert estimate_text(Estimate(value, low, high, 90)) == text
    assert str(Estimate(value, low, high, 90)).startswith(text)
    assert text in plain.join(EpochTable("val/mae").lines(0, {"val/mae": record}, 1.0))
    assert f"{first}  [{second}, {third}]" in plain.join(score_line("mae", record))
    assert bounded_cell(value, low, high) == f"{first} <small>[{second}, {third}]</small>"


def test_a_small_difference_stands_like_its_neighbours_in_the_verdict_and_on_the_page() -> None:
    criteria = (
        Criterion("accuracy", 0.954, 0.937, 0.966, 797, 0.85, ">=", "met"),
        Criterion("|precision - recall|", 0.0007395, 0.0, 0.0062, 797, 0.1, "<=", "met"),
    )
    lines = verdict_text(Verdict("ready", (), criteria, "balanced")).splitlines()
    assert "0.9540 [0.9370, 0.9660] >= 0.85" in lines[1]
    assert "0.0007 [0.0000, 0.0062] <= 0.1" in lines[2]
    assert str(criteria[1]).startswith("|precision - recall| 0.0007 [0.0000, 0.0062] n=797")
    assert str(bounded_cell(0.0007395, 0.0, 0.0062, 0.1)).startswith("0.0007 <small>[0.0000,")
